"""Reading compiled steps: of a TPU (stored text, see `tpu_step.hlo`) and of the test's own CPUs.

The stored text is a real one: libtpu 0.0.42 compiled, for v5e:2x2 as a mesh of 2 'data' × 2
'pixel', one step of a pixel MLP (8 samples × 4096 pixels × 256 channels, a table of 4096 × 256
read on the pixels' devices) against a dense scorer of 12288 × 256 parameters, with a penalty in
`lax.cond(step % 16 == 0)` under `jax.named_scope('r1')`. Only stack frames and all of the
backend's notes but the cycles are cut out of it.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxgen.errors import UserError
from jaxgen.parallel import roofline
from jaxgen.parallel.hlo import Collective, read_work
from jaxgen.parallel.topology import CHIPS, GIB, Topology, open_topology

REPLICATED = P()
MESH = {'data': 2, 'pixel': 2}
TPU_STEP = (Path(__file__).parent / 'tpu_step.hlo').read_text()
NEGATE = 'ROOT %n = f32[64]{0} negate(%q)'
TABLE, SCORER, KERNEL = 4 * 4096 * 256, 4 * (12288 + 1) * 256, 4 * 256 * 256


def _module(*lines: str, computations: str = '', head: str = 'HloModule m') -> str:
    body = ''.join(f'  {line}\n' for line in lines)
    return f'{head}\n\n{computations}\nENTRY %main (p: f32[4]) -> f32[4] {{\n{body}}}\n'


def _all_reduce(groups: str, shape: str = 'f32[100]{0}') -> str:
    return _module(
        f'%p = {shape} parameter(0)',
        f'ROOT %all-reduce.1 = {shape} all-reduce(%p), channel_id=1, replica_groups={groups}, '
        'use_global_device_ids=true, to_apply=%add, metadata={op_name="jit(f)/add"}',
    )


# A TPU's text


def test_collectives_of_a_tpu_step_are_found_with_kind_size_and_axes():
    found = read_work(TPU_STEP, MESH).collectives
    assert {(c.kind, c.axes, c.group, c.bytes) for c in found} == {
        # D's gradients with those of rgb [256, 3]; the penalty's; G's kernel with its half table.
        ('all-reduce', 'data+pixel', 4, SCORER + 4 * 256 * 3),
        ('all-reduce', 'data+pixel', 4, SCORER),
        ('all-reduce', 'data', 2, KERNEL + TABLE // 2),
        # Per-sample weights of a device's 4 samples; RGB of its 8 samples in bfloat16, both ways.
        ('all-reduce', 'pixel', 2, 4 * KERNEL),
        ('all-to-all', 'pixel', 2, 4 * 2048 * 3 * 2),
        # The new table, since the state is replicated.
        ('all-gather', 'pixel', 2, TABLE),
    }


def test_an_asynchronous_collective_counts_once_though_a_chain_of_fusions_repeats_it():
    assert TPU_STEP.count(' all-gather(') == 4
    gathers = [c for c in read_work(TPU_STEP, MESH).collectives if c.kind == 'all-gather']
    assert [c.count for c in gathers] == [1]


def test_of_a_conditional_the_branch_counts_that_moves_more():
    branches = ''.join(
        f'%{name} (q: f32[64]) -> f32[64] {{\n  %q = f32[64]{{0}} parameter(0)\n  {line}\n}}\n\n'
        for name, line in (('idle', 'ROOT %t = f32[64]{0} bitcast(%q)'), ('busy', NEGATE))
    )
    text = _module(
        '%p = f32[64]{0} parameter(0)',
        '%i = s32[] constant(0)',
        'ROOT %c = f32[64]{0} conditional(%i, %p, %p), branch_computations={%busy, %idle}',
        computations=branches,
    )
    assert read_work(text).bytes == 2 * 64 * 4


def test_traffic_of_a_tpu_step_lies_between_its_state_and_what_xla_counts_with_on_chip_memory():
    state = TABLE + SCORER + KERNEL + 4 * 256 * 3
    assert 2 * state < read_work(TPU_STEP, MESH).bytes < 548_023_808


# Groups of devices, in XLA's three notations


@pytest.mark.parametrize(
    ('groups', 'axes', 'size'),
    [
        ('{{0,1},{2,3},{4,5},{6,7}}', 'pixel', 2),
        ('{{0,2,4,6},{1,3,5,7}}', 'data', 4),
        ('{{0,1,2,3,4,5,6,7}}', 'data+pixel', 8),
        ('{}', 'data+pixel', 8),
        ('[4,2]<=[8]', 'pixel', 2),
        ('[2,4]<=[4,2]T(1,0)', 'data', 4),
        ('[1,8]<=[8]', 'data+pixel', 8),
        ("mesh['axis_0'=4,'axis_1'=2] {'axis_1'}", 'pixel', 2),
        ("mesh['axis_0'=4,'axis_1'=2] {'axis_0'}", 'data', 4),
        ("mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'b'}", 'data', 4),
        ('[2,4]<=[8]', '?', 4),
        ('{{0,3},{1,2},{4,7},{5,6}}', '?', 2),
    ],
)
def test_the_axes_of_a_collective_are_told_from_its_groups(groups, axes, size):
    (found,) = read_work(_all_reduce(groups), {'data': 4, 'pixel': 2}).collectives
    assert (found.axes, found.group, found.bytes, found.count) == (axes, size, 400, 1)


def test_axes_of_one_device_are_not_named():
    (found,) = read_work(_all_reduce('{{0,1,2,3}}'), {'data': 4, 'pixel': 1}).collectives
    assert found.axes == 'data'


# Sizes


def test_arrays_in_on_chip_memory_cost_no_traffic_and_tiles_are_padded():
    def traffic(layout):
        line = f'ROOT %negate.1 = f32[3,100]{layout} negate(%p)'
        return read_work(_module('%p = f32[3,100]{1,0} parameter(0)', line)).bytes

    plain = 3 * 100 * 4
    assert traffic('{1,0}') == 2 * plain
    assert traffic('{1,0:T(8,128)}') == plain + 8 * 128 * 4
    assert traffic('{0,1:T(8,128)}') == plain + 104 * 128 * 4
    assert traffic('{1,0:T(8,128)S(1)}') == plain


def test_a_loop_counts_by_its_rounds():
    body = f'%body (q: f32[64]) -> f32[64] {{\n  %q = f32[64]{{0}} parameter(0)\n  {NEGATE}\n}}\n'
    text = _module(
        '%p = f32[64]{0} parameter(0)',
        'ROOT %w = f32[64]{0} while(%p), condition=%c, body=%body, '
        'backend_config={"known_trip_count":{"n":"7"}}',
        computations=body,
    )
    assert read_work(text).bytes == 7 * 2 * 64 * 4


@pytest.mark.parametrize(
    ('kind', 'group', 'sent'),
    [
        ('all-reduce', 4, 2 * 75.0),
        ('all-gather', 4, 75.0),
        ('reduce-scatter', 4, 75.0),
        ('all-to-all', 4, 75.0),
        ('collective-permute', 2, 100.0),
    ],
)
def test_a_ring_sends_each_part_to_all_others(kind, group, sent):
    assert Collective(kind, 'data', group, 100).link_bytes == sent


# Real compilations for the test's own devices


def _mesh():
    return Mesh(np.array(jax.devices()[:8]).reshape(4, 2), ('data', 'pixel'))


def _compile(function, *arguments, out=REPLICATED):
    mesh = _mesh()
    arrays = [
        jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec))
        for shape, spec in arguments
    ]
    return jax.jit(function, out_shardings=NamedSharding(mesh, out)).lower(*arrays).compile()


@pytest.mark.parametrize(
    ('spec', 'axes', 'group'),
    [
        (P(None, 'data'), 'data', 4),
        (P(None, 'pixel'), 'pixel', 2),
        (P(None, ('data', 'pixel')), 'data+pixel', 8),
    ],
)
def test_the_sum_of_a_contracted_axis_is_one_all_reduce_over_its_devices(spec, axes, group):
    weights = P(spec[1], None)
    compiled = _compile(jnp.matmul, ((16, 64), spec), ((64, 32), weights))
    found = read_work(compiled.as_text(), _mesh().shape).collectives
    assert found == (Collective('all-reduce', axes, group, 16 * 32 * 4),)


def test_work_without_communication_has_no_collectives():
    compiled = _compile(jnp.matmul, ((16, 64), P('data')), ((64, 32), P()), out=P('data'))
    assert read_work(compiled.as_text(), _mesh().shape).collectives == ()


# The report


class _Stats:
    argument_size_in_bytes = output_size_in_bytes = alias_size_in_bytes = GIB
    temp_size_in_bytes = 3 * GIB
    generated_code_size_in_bytes = GIB // 4


class _Lowered:
    """What compiles to the stored step, or to an error."""

    def __init__(self, error=None):
        self.error = error

    def compile(self, compiler_options=None):
        if 'no such' in (compiler_options or {}):
            raise jax.errors.JaxRuntimeError('INVALID_ARGUMENT: No such compile option: no such')
        if self.error:
            raise jax.errors.JaxRuntimeError(self.error)
        return self

    def memory_analysis(self):
        return _Stats

    def cost_analysis(self):
        return {'bytes accessed': 3e9, 'flops': 1e12}

    def as_text(self):
        return TPU_STEP


def _phase(name='generator', every=1, error=None, options=None):
    return roofline.compile_phase(
        name, every, _Lowered(error), MESH, model_macs=2e12, executed_macs=3e12, options=options
    )


def _report(*phases, chip='v5e', **fields):
    topology = Topology('v5e:2x2', (None,) * 4, 4, CHIPS[chip] if chip else None)
    return roofline.Report(topology, phases or (_phase(),), roofline.Fields(32, **fields))


def test_the_roofline_is_the_slower_of_compute_and_memory_plus_the_collectives():
    phase, chip, work = _phase(), CHIPS['v5e'], read_work(TPU_STEP, MESH)
    compute, transfer = 2 * 3e12 / 4 / chip.flops, work.bytes / chip.bandwidth
    sent = sum(c.count * c.link_bytes for c in work.collectives)
    communication = sent / (2 * chip.link_bandwidth)
    assert phase.communication(chip) == pytest.approx(communication)
    assert phase.roofline(chip) == pytest.approx(max(compute, transfer) + communication)
    assert phase.compiler(chip) == pytest.approx(work.cycles / chip.clock + communication)


def test_a_speed_is_images_and_model_flops_over_the_time_of_all_phases():
    phase = _phase()
    step = phase.roofline(CHIPS['v5e'])
    speed = _report(phase).roofline()
    assert speed.step == pytest.approx(step)
    assert speed.images_per_second == pytest.approx(32 / step)
    assert speed.images_per_second_per_chip == pytest.approx(32 / step / 4)
    assert speed.mfu == pytest.approx(2 * 2e12 / (step * 4 * CHIPS['v5e'].flops))


def test_model_flops_alone_count_for_the_mfu_not_what_is_computed_again():
    assert _phase().flops == 2 * 3e12 / 4
    assert _report().roofline().mfu <= 2 / 3


@pytest.mark.parametrize('estimate', [roofline.Report.roofline, roofline.Report.compiler])
def test_a_phase_on_every_sixteenth_step_costs_a_sixteenth_of_its_time_and_flops(estimate):
    once = estimate(_report(_phase()))
    both = estimate(_report(_phase(), _phase('r1', 16)))
    assert both.step == pytest.approx(once.step * 17 / 16)
    assert both.mfu == pytest.approx(once.mfu)
    assert both.images_per_second == pytest.approx(once.images_per_second * 16 / 17)


def test_the_memory_is_that_of_the_largest_phase_and_the_code_of_all():
    assert _phase().memory.total == 4.25 * GIB
    assert _report(_phase(), _phase('r1', 16)).memory == 4.5 * GIB


def test_a_step_that_fits_raises_nothing_and_names_all_kinds_of_memory():
    report = _report()
    report.require_fit()
    text = report.render()
    for word in ('arguments', 'outputs', 'aliased', 'temporaries', 'code', '4.25 GiB', '15.75 GiB'):
        assert word in text
    for word in ('all-reduce', 'all-gather', 'all-to-all', 'data+pixel', 'MFU', 'img/s', 'a chip'):
        assert word in text


def test_a_step_too_large_for_the_chip_names_what_it_needs_and_the_fields_that_help(monkeypatch):
    monkeypatch.setattr(_Stats, 'temp_size_in_bytes', 19 * GIB)
    report = _report(
        parts={
            'model': {'remat': False, 'dtype': 'float32'},
            'discriminator': {'remat': True, 'dtype': 'bfloat16'},
        }
    )
    assert report.to_dict()['fits'] is False
    with pytest.raises(UserError) as error:
        report.require_fit()
    message = str(error.value)
    assert '\n' not in message
    for word in (
        '20.25GiB of 15.75GiB',
        'model.dtype=bfloat16',
        'model.remat=True',
        'batch_size=16',
    ):
        assert word in message
    assert 'discriminator' not in message


def test_with_an_image_per_device_the_pixel_axis_is_advised_instead_of_a_smaller_batch():
    advice = ' '.join(roofline.Fields(batch=16).advice(16))
    assert 'mesh.pixel=2' in advice
    assert 'batch_size' not in advice


OUT_OF_MEMORY = (
    'RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. '
    'Used 20.10G of 15.75G hbm. Exceeded hbm capacity by 4.35G.'
)


def test_a_phase_that_the_compiler_refuses_is_reported_by_name_and_leaves_no_estimate():
    report = _report(_phase('r1', 16), _phase('generator', error=OUT_OF_MEMORY))
    with pytest.raises(UserError, match=r"'generator' needs 20\.10GiB of 15\.75GiB"):
        report.require_fit()
    assert report.roofline() is None
    assert '20.10GiB' in report.render()
    assert json.loads(json.dumps(report.to_dict()))['fits'] is False


def test_a_compiler_without_an_option_is_used_without_it():
    assert _phase(options={'no such': 'true'}).memory == _phase().memory


def test_any_other_error_of_the_compiler_is_raised():
    with pytest.raises(jax.errors.JaxRuntimeError):
        _phase(error='INTERNAL: a bug')


@pytest.mark.parametrize(
    ('message', 'shortage'),
    [
        (
            'RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO '
            'temporaries (128.00G) exceeds available HBM (15.75G).',
            '128.00GiB of 15.75GiB for temporaries alone',
        ),
        (OUT_OF_MEMORY, '20.10GiB of 15.75GiB'),
        ('INTERNAL: a bug', None),
    ],
)
def test_only_running_out_of_memory_is_a_shortage(message, shortage):
    assert roofline.shortage_in(message) == shortage


def test_a_report_survives_json():
    data = json.loads(json.dumps(_report().to_dict()))
    assert data['fits'] is True
    assert data['memory'] == 4.25 * GIB
    assert data['roofline']['images_per_second'] > 0
    assert data['phases'][0]['collectives'][0]['kind'] == 'all-reduce'


def test_devices_without_known_peaks_get_no_estimate():
    report = _report(chip=None)
    report.require_fit()
    assert report.roofline() is None
    assert report.compiler() is None
    assert 'not known' in report.render()


# Topologies


def test_simulated_cpus_are_a_topology():
    topology = open_topology('cpu:8')
    assert len(topology.devices) == topology.chips == 8
    assert topology.device is None


@pytest.mark.parametrize('name', ['v5e', 'v9:2x2', 'v5e:4by4', 'cpu:4x4', 'cpu:0', '', 'cpu:4096'])
def test_an_unknown_topology_is_one_line_with_the_known_ones_or_the_limit(name):
    with pytest.raises(UserError, match=r'v5e:4x4|number of devices|CPU devices') as error:
        open_topology(name)
    assert '\n' not in str(error.value)
    assert repr(name).strip("'") in str(error.value)


def test_without_libtpu_the_message_says_where_to_get_it(monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(UserError, match='make pod-check'):
        open_topology('v5e:4x4')


def test_two_devices_on_a_chip_share_what_it_has():
    half = CHIPS['v4'].share(2)
    assert half.flops == CHIPS['v4'].flops / 2
    assert half.memory == CHIPS['v4'].memory // 2


@pytest.mark.parametrize('chip', CHIPS.values(), ids=CHIPS)
def test_a_chip_is_described_with_a_source(chip):
    assert chip.source
    assert 8 * 2**30 < chip.memory < 2**37
    assert 1e14 < chip.flops < 1e15
    assert chip.flops / chip.bandwidth > 100
