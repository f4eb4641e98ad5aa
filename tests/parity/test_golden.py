"""Every case of a folder of golden data: `pytest tests/parity --golden=DIR`.

Default: the folder beside this one. The kind of a case, the beginning of its name, decides what is
checked; a kind that no check knows is a failure.
"""

from pathlib import Path

import jax
import pytest

from tests.parity import (
    cips_checkpoints,
    cips_discriminator,
    cips_generator,
    cips_layers,
    cips_training,
    metrics_images,
    metrics_spectra,
    metrics_statistics,
    pixelcnn_layers,
    pixelcnn_networks,
    pixelcnn_pp,
    pixelrnn,
    stylegan_ada,
    stylegan_equivariance,
    stylegan_losses,
    stylegan_metrics,
    stylegan_networks,
    stylegan_ops,
    stylegan_pickles,
    stylegan_training,
)
from tests.parity.cases import Case, find_cases, kind_of

CHECKS = {
    **cips_layers.CHECKS,
    **cips_generator.CHECKS,
    **cips_discriminator.CHECKS,
    **cips_training.CHECKS,
    **cips_checkpoints.CHECKS,
    **metrics_spectra.CHECKS,
    **metrics_statistics.CHECKS,
    **metrics_images.CHECKS,
    **pixelcnn_layers.CHECKS,
    **pixelcnn_networks.CHECKS,
    **pixelrnn.CHECKS,
    **pixelcnn_pp.CHECKS,
    **stylegan_ops.CHECKS,
    **stylegan_networks.CHECKS,
    **stylegan_ada.CHECKS,
    **stylegan_equivariance.CHECKS,
    **stylegan_losses.CHECKS,
    **stylegan_metrics.CHECKS,
    **stylegan_pickles.CHECKS,
    **stylegan_training.CHECKS,
}

# Largest deviation allowed, relative to the largest entry of each stored array. Parts are compared
# in float64 only, whole networks in both, where one case of a kind shows what float32 makes of it.
# A row KIND/bias is for the gradients of biases.
EXACT = {'float64': 1e-10}
BOTH = {'float64': 1e-10, 'float32': 1e-5}
TOLERANCES = {
    'coordinate_grid': EXACT,
    'coordinate_embedding': EXACT,
    'fourier_features': EXACT,
    'mapping': EXACT,
    'modfc': EXACT,
    'styled_layer': EXACT,
    'to_rgb': EXACT,
    'losses': EXACT,
    'patch_coordinates': EXACT,
    'discriminator_parts': EXACT,
    'discriminator': BOTH,
    # Sums over all pixels that cancel, and for R1 the way through the minibatch deviation alone:
    # 1.1e-3 and 2e-10 seen, where everything else stays below 1e-6 and 1e-13.
    'discriminator/bias': {'float64': 1e-9, 'float32': 2e-3},
    'generator_skip': BOTH,
    'generator_res': BOTH,
    'generator_noise': BOTH,
    'checkpoint': BOTH,
    'spectrum': BOTH,
    'spectrum_windowed': BOTH,
    'frechet': BOTH,
    'frechet_identical': BOTH,
    'frechet_from_stats': EXACT,
    # In float32 the streamed covariance has noise where its eigenvalues are zero: 2e-5 seen.
    'frechet_rank_deficient': {'float64': 1e-10, 'float32': 1e-4},
    'feature_stats': {'float64': 1e-10, 'float32': 1e-6},
    'kid': EXACT,
    'kid_subsets': EXACT,
    'precision_recall': BOTH,
    'inception_score': EXACT,
    'inception_score_limits': EXACT,
    'ppl_from_features': EXACT,
    'ppl_interpolation': EXACT,
    'bits_per_dim': EXACT,
    # Stored in float32.
    'resize_pillow': {'float64': 1e-6, 'float32': 1e-6},
    'resize_299': {'float64': 2e-6, 'float32': 2e-6},
    'dataset_center_crop': EXACT,
    # Batch normalisation is folded into float32 kernels.
    'inception': {'float32': 1e-5},
    'lpips_from_features': BOTH,
    'lpips_input_scaling': BOTH,
    'lpips_vgg16_random': {'float32': 1e-5},
    'lpips_vgg16_pretrained': {'float32': 1e-5},
    'lpips_alexnet_pretrained': {'float32': 1e-5},
    'masks': EXACT,
    'masked_conv': EXACT,
    'gated_block': EXACT,
    'logistic_single': EXACT,
    'logistic_total': EXACT,
    'logistic_mixture': BOTH,
    'logistic_sampling': EXACT,
    'adam_eps_root': EXACT,
    'dependency': EXACT,  # A derivative that underflows in float32 looks like none.
    'completion': EXACT,  # Integers: in float32 a tie may go the other way.
    'enumeration': EXACT,
    'pixelcnn_net': BOTH,
    'gated_net': BOTH,
    'gated_conditional': BOTH,
    'pixelrnn': BOTH,
    'pixelcnnpp': BOTH,
    'pixelcnnpp_init': EXACT,  # Means over a batch that cancel: 3e-5 seen in float32.
    # In float32 these take the tolerance of each array from the case: 8 times the deviation of the
    # official code's own float32 run, and at least 2e-6.
    **dict.fromkeys(stylegan_ops.CHECKS, EXACT),
    'sg2_layer': EXACT,
    'sg2_mapping': EXACT,
    'sg3_mapping': EXACT,
    'sg3_input': EXACT,
    'sg3_layer': EXACT,
    'sg3_spec': EXACT,
    'sg2_synthesis': BOTH,
    'sg2_generator': BOTH,
    'sg2_discriminator': BOTH,
    'sg3_generator': BOTH,
    'ada_filters': EXACT,
    'ada_random_recorded': EXACT,
    'ada_debug_percentile': EXACT,
    'eq_operators': BOTH,
    'eq_metrics': EXACT,
    'loss_sg2': BOTH,
    'loss_sg3': BOTH,
    'schedules': EXACT,
    'sg3_blur_kernels': EXACT,
    'projector_math': EXACT,
    'ppl_w': BOTH,
    'ppl_z': BOTH,
    'ppl_percentile': EXACT,
    'fid_kid_pr': EXACT,
    'avg_spectrum': EXACT,
    **dict.fromkeys(stylegan_pickles.CHECKS, EXACT),
    # Not in float32: Adam's first updates with β1 = 0 are about lr·sign(gradient), so a gradient
    # at rounding level moves its parameter the other way.
    'train_sg2': EXACT,
    'training': EXACT,
    'training/bias': {'float64': 2e-9},  # R1 again: 4e-10 seen
}


def pytest_generate_tests(metafunc):
    if 'golden_case' not in metafunc.fixturenames:
        return
    folder = golden_folder(metafunc.config)
    runs, kinds = [], set()
    for stem in find_cases(folder):
        kind = kind_of(stem.name, CHECKS)
        # A case of an unknown kind is a test too, one that fails.
        for precision in TOLERANCES.get(kind, EXACT):
            if precision == 'float32' and kind in kinds and 'float64' in TOLERANCES[kind]:
                continue
            name = f'{stem.relative_to(folder)}-{precision}'
            runs.append(pytest.param((stem, kind, precision), id=name))
        kinds.add(kind)
    metafunc.parametrize('golden_case', runs)


def golden_folder(config):
    return Path(config.invocation_params.dir, config.getoption('--golden')).resolve()


def test_golden_case(golden_case):
    stem, kind, precision = golden_case
    for suffix in ('.npz', '.json'):
        assert Path(f'{stem}{suffix}').is_file(), f'{stem.name}: {suffix} is missing'
    assert kind, f'{stem.name}: no check knows this kind, there are {sorted(CHECKS)}'
    with jax.enable_x64(precision == 'float64'):
        tolerances = (TOLERANCES.get(row, {}).get(precision) for row in (kind, f'{kind}/bias'))
        case = Case(stem, precision, *tolerances)
        CHECKS[kind](case)
    case.finish()


def test_the_folder_has_cases(request):
    folder = golden_folder(request.config)
    assert find_cases(folder), f'no golden data in {folder}'


def test_every_kind_has_its_tolerance():
    assert {row.removesuffix('/bias') for row in TOLERANCES} == set(CHECKS)
