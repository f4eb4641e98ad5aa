"""Golden cases of the layers and networks of StyleGAN2 and StyleGAN3."""

import functools
import math
import re

import jax
import numpy as np

from jaxgen.interop.stylegan_names import (
    MAPPING,
    STYLEGAN2,
    discriminator_modules,
    stylegan3_modules,
    to_published,
    to_variables,
)
from jaxgen.models import stylegan2, stylegan3
from jaxgen.models.discriminator import Discriminator, tapered_channels
from jaxgen.models.stylegan3_plan import LayerSpec
from jaxgen.nn.equalized import EqualizedConv
from jaxgen.nn.mapping import MappingNetwork
from jaxgen.ops.upfirdn2d import setup_filter
from tests.parity.cases import nchw, nhwc, value_and_gradients
from tests.parity.stylegan_cases import Checker

FIR = (1, 3, 3, 1)
WHOLE_BATCH = 2**30


def read(case, modules=()):
    """Our variables from `param/…`; filters of the published code must be those of ours."""
    stored = case.under('param')
    config = case.sidecar['constructor']
    taps = config.get('resample_filter', FIR)
    for name, array in stored.items():
        if name.endswith('resample_filter'):
            np.testing.assert_array_equal(array, setup_filter(taps), err_msg=name)
        if name.endswith('transform'):
            np.testing.assert_array_equal(array, np.eye(3))
    return to_variables(stored, modules)


def size_from(size):
    """Published [width, height], or a number, as (height, width)."""
    return (size, size) if isinstance(size, int) else (size[1], size[0])


def sg2_layer(case):
    config = case.sidecar['constructor']
    checks = {
        'Conv2dLayer': sg2_conv,
        'SynthesisLayer': sg2_synthesis_layer,
        'ToRGBLayer': sg2_to_rgb,
    }
    checks[config['cls'].split()[-1]](case, config)


def sg2_conv(case, config):
    module = EqualizedConv(
        config['out_channels'],
        config['kernel_size'],
        up=config.get('up', 1),
        down=config.get('down', 1),
        resample_filter=tuple(config.get('resample_filter', FIR)),
        use_bias=config.get('bias', True),
        activation=config.get('activation', 'linear'),
        clamp=config.get('conv_clamp'),
    )
    y = jax.jit(module.apply)(read(case), nhwc(case['in/x']))
    Checker(case).check('out/y', nchw(y))
    # The published gain √½ multiplies the gain of the activation and the clamp.
    Checker(case).check('out/y_gain', math.sqrt(0.5) * nchw(y))


def sg2_synthesis_layer(case, config):
    variables, x, w = read(case), nhwc(case['in/x']), case['in/w']
    assert config['resolution'] == x.shape[1] * config.get('up', 1)

    def run(noise, form=None, drawn=None):
        module = stylegan2.StyledConv(
            config['out_channels'],
            config.get('kernel_size', 3),
            up=config.get('up', 1),
            noise=noise if config.get('use_noise', True) else 'none',
            activation=config.get('activation', 'lrelu'),
            resample_filter=tuple(config.get('resample_filter', FIR)),
            clamp=config.get('conv_clamp'),
            form=form,
        )
        return nchw(jax.jit(module.apply)(variables, x, w, drawn))

    checker = Checker(case)
    for key in case.keys(r'out/y_(const|none)_fused[01]'):
        mode, fused = key.removeprefix('out/y_').split('_fused')
        checker.check(key, run(mode, 'weights' if fused == '1' else 'activations'))
    checker.check('out/y_const_gain', math.sqrt(0.5) * run('const'))
    if 'out/y_random' in case:
        checker.check('out/y_random', run('random', drawn=nhwc(case['in/noise'])))


def sg2_to_rgb(case, config):
    variables = read(case)
    for key in case.keys(r'out/y_fused[01]'):
        form = 'weights' if key.endswith('1') else 'activations'
        module = stylegan2.ToRGB(
            config['out_channels'], config.get('conv_clamp'), form, config.get('kernel_size', 1)
        )
        y = jax.jit(module.apply)(variables, nhwc(case['in/x']), case['in/w'])
        Checker(case).check(key, nchw(y))


def mapping(case):
    config = case.sidecar['constructor']
    default_layers = 8 if 'stylegan2' in config['cls'] else 2
    module = MappingNetwork(
        config['w_dim'],
        config.get('num_layers', default_layers),
        config.get('lr_multiplier', 0.01),
        config['c_dim'],
        config.get('w_avg_beta', 0.998),
        hidden=config.get('layer_features'),
        label_features=config.get('embed_features'),
        num_ws=config['num_ws'],
        activation=config.get('activation', 'lrelu'),
    )
    variables = read(case, MAPPING)
    z = case['in/z'] if config['z_dim'] else None
    label = case['in/c'] if config['c_dim'] else None
    checker = Checker(case)
    checker.check('out/w', jax.jit(module.apply)(variables, z, label))
    for key in case.keys(r'out/w_psi.+'):
        checker.check(key, module.apply(variables, z, label, **truncation_from(key)))
    for suffix in ('', '2'):
        if f'out/w_avg_after{suffix}' in case:
            w, updated = module.apply(
                variables, z, label, truncation=0.5, update_average=True, mutable=['stats']
            )
            variables = {**variables, **updated}
            if not suffix:
                checker.check('out/w_update', w)
            checker.check(f'out/w_avg_after{suffix}', variables['stats']['w_avg'])


def truncation_from(key):
    """Arguments of a key that ends in _psiP or _psiP_cutK; none for other keys."""
    match = re.search(r'_psi([-\d.]+)(?:_cut(\d+))?$', key)
    if not match:
        return {}
    cutoff = {'truncation_cutoff': int(match[2])} if match[2] else {}
    return {'truncation': float(match[1]), **cutoff}


def mapping_fields(config, layers):
    """Fields of our generators from published `mapping_kwargs`; `layers` by default."""
    ours = {
        'num_layers': 'mapping_layers',
        'lr_multiplier': 'mapping_lr_multiplier',
        'layer_features': 'mapping_features',
        'embed_features': 'label_features',
        'w_avg_beta': 'average_decay',
    }
    return {'mapping_layers': layers} | {ours[name]: value for name, value in config.items()}


def stylegan2_from(config, **fields):
    """The generator of a published `Generator` or `SynthesisNetwork`."""
    mapping = config.get('mapping_kwargs', {})
    published = mapping_fields(mapping, 8) | dict(
        size=config['img_resolution'],
        image_channels=config['img_channels'],
        latent=config.get('z_dim', 1),
        style=config['w_dim'],
        num_classes=config.get('c_dim', 0),
        channel_base=config.get('channel_base', 32768),
        channel_max=config.get('channel_max', 512),
        architecture=config.get('architecture', 'skip'),
        activation=config.get('activation', 'lrelu'),
        resample_filter=tuple(config.get('resample_filter', FIR)),
        clamp=config.get('conv_clamp', 256),
        noise='const' if config.get('use_noise', True) else 'none',
    )
    return stylegan2.StyleGAN2Generator(**published | fields)


def sg2_synthesis(case):
    config = case.sidecar['constructor']
    variables, w = read(case, STYLEGAN2), case['in/ws']
    checker = Checker(case)

    def run(maps=None, **fields):
        model = stylegan2_from(config, **fields)
        image, state = jax.jit(
            lambda variables, w, maps: model.apply(
                variables,
                w,
                maps,
                method='synthesize',
                mutable=['intermediates'],
                capture_intermediates=lambda module, _: isinstance(module, stylegan2.Block),
            )
        )(variables, w, maps)
        return nchw(image), state['intermediates']

    image, blocks = run(form='weights')
    checker.check('out/img_const', image)
    for key in case.keys(r'out/act/b\d+\.(x|img)'):
        side, kind = re.fullmatch(r'out/act/b(\d+)\.(x|img)', key).groups()
        checker.check(key, nchw(blocks[f'block_{side}']['__call__'][0][kind == 'img']))
    checker.check('out/img_const_unfused', run(form='activations')[0])
    checker.check('out/img_none', run(noise='none')[0])
    maps = case.under('in/noise')
    if maps:
        order = sorted(maps, key=lambda name: (int(name[1:].split('.')[0]), name))
        checker.check('out/img_random', run([nhwc(maps[name]) for name in order])[0])


def sg2_generator(case):
    config = case.sidecar['constructor']
    variables, checker = read(case, STYLEGAN2), Checker(case)
    label = case['in/c'] if config['c_dim'] else None
    model = stylegan2_from(config)
    checker.check('out/ws', model.apply(variables, case['in/z'], label, method='mapping'))
    for key in case.keys(r'out/img.*'):
        # The sidecar: with a cutoff, noise is off too.
        run = model.clone(noise='none') if '_cut' in key else model
        options = truncation_from(key)
        image = jax.jit(lambda v, z, c, m=run, o=options: m.apply(v, z, c, **o))(
            variables, case['in/z'], label
        )
        checker.check(key, nchw(image))


def discriminator_from(config):
    """The discriminator of a published `Discriminator`, with its grouping of the batch."""
    epilogue, block = config.get('epilogue_kwargs', {}), config.get('block_kwargs', {})
    mapping = config.get('mapping_kwargs', {})
    assert set(mapping) <= {'num_layers'}, mapping
    assert set(epilogue) <= {'mbstd_group_size', 'mbstd_num_channels'}, epilogue
    # Which layers are frozen is the optimiser's business.
    assert set(block) <= {'freeze_layers', 'resample_filter', 'activation'}, block
    size = config['img_resolution']
    group = epilogue.get('mbstd_group_size', 4) or WHOLE_BATCH
    features = epilogue.get('mbstd_num_channels', 1)
    return Discriminator(
        size=size,
        channels=tapered_channels(
            size, config.get('channel_base', 32768), config.get('channel_max', 512)
        ),
        image_channels=config['img_channels'],
        blur_kernel=tuple(block.get('resample_filter', FIR)),
        minibatch_std_group=group if features else 0,
        minibatch_std_features=features,
        minibatch_std_grouping='strided',
        num_classes=config['c_dim'],
        architecture=config.get('architecture', 'resnet'),
        clamp=config.get('conv_clamp', 256),
        label_layers=mapping.get('num_layers', 8),
        label_features=config.get('cmap_dim'),
        activation=block.get('activation', 'lrelu'),
    )


def sg2_discriminator(case):
    config = case.sidecar['constructor']
    model, checker = discriminator_from(config), Checker(case)
    variables = read(case, discriminator_modules(config['img_resolution']))
    label = case['in/c'] if config['c_dim'] else None
    image = nhwc(case['in/img'])
    scores, (gradient,) = value_and_gradients(
        lambda x: model.apply(variables, x, label), np.ones(len(image), image.dtype), image
    )
    checker.check('out/logits', scores[:, None])
    checker.check('grad/img', nchw(gradient))


def sg3_input(case):
    config = case.sidecar['constructor']
    variables = read(case)
    module = stylegan3.FourierInput(
        config['channels'],
        size_from(config['size']),
        config['sampling_rate'],
        config['bandwidth'],
    )
    run = jax.jit(module.apply)
    for name, transform in case.under('in/transform').items():
        y = run(variables, case['in/w'], transform)
        Checker(case).check(f'out/{name}', nchw(y))


def spec_from(config):
    """The plan of a published `SynthesisLayer`."""
    return LayerSpec(
        out_channels=config['out_channels'],
        in_size=size_from(config['in_size']),
        out_size=size_from(config['out_size']),
        in_rate=config['in_sampling_rate'],
        out_rate=config['out_sampling_rate'],
        in_cutoff=config['in_cutoff'],
        out_cutoff=config['out_cutoff'],
        in_half_width=config['in_half_width'],
        out_half_width=config['out_half_width'],
        to_rgb=config['is_torgb'],
        critical=config['is_critically_sampled'],
        kernel_size=1 if config['is_torgb'] else config.get('conv_kernel', 3),
        filter_size=config.get('filter_size', 6),
        lrelu_upsampling=config.get('lrelu_upsampling', 2),
        radial=config.get('use_radial_filters', False),
    )


def check_filters(stored, spec):
    """The published filters are ours, bit for bit. `stored`: {'up_filter': …, 'down_filter': …}."""
    for name, ours in (('up_filter', spec.up_filter()), ('down_filter', spec.down_filter())):
        assert (ours is None) == (stored.get(name) is None), name
        if ours is not None:
            np.testing.assert_array_equal(stored[name], ours, err_msg=name)


def published_padding(spec):
    (top, bottom), (left, right) = spec.padding
    return [left, right, top, bottom]


def sg3_layer(case):
    config = case.sidecar['constructor']
    spec, checker, variables = spec_from(config), Checker(case), read(case)
    stored = case.under('param')
    check_filters(stored, spec)
    for name, value in case.sidecar['derived'].items():
        ours = {
            'up_factor': spec.up,
            'down_factor': spec.down,
            'up_taps': spec.up_taps,
            'down_taps': spec.down_taps,
            'padding': published_padding(spec),
            'tmp_sampling_rate': spec.inner_rate,
        }[name]
        assert ours == value, name
    layer = stylegan3.Layer(
        spec, config.get('conv_clamp', 256), config.get('magnitude_ema_beta', 0.999)
    )

    def run(params, x, w):
        return layer.apply({**variables, 'params': params}, x, w)

    x, w = nhwc(case['in/x']), case['in/w']
    y, (gradients, of_x, of_w) = value_and_gradients(
        run, nhwc(case['in/ct']), variables['params'], x, w
    )
    checker.check('out/y', nchw(y))
    checker.check('grad/x', nchw(of_x))
    checker.check('grad/w', of_w)
    names = [key.removeprefix('grad/param/') for key in case.keys('grad/param/.+')]
    assert set(names) == {name for name in stored if name.endswith(('weight', 'bias'))}
    for name, gradient in to_published({'params': gradients}, names).items():
        checker.check(f'grad/param/{name}', gradient)
    y, updated = layer.apply(variables, x, w, True, mutable=['stats'])
    checker.check('out/y_update', nchw(y))
    checker.check('out/magnitude_ema_after', updated['stats']['magnitude'])


def stylegan3_from(config):
    """The generator of a published `Generator` or `SynthesisNetwork`."""
    mapping = config.get('mapping_kwargs', {})
    return stylegan3.StyleGAN3Generator(
        size=config['img_resolution'],
        image_channels=config['img_channels'],
        latent=config.get('z_dim', 1),
        style=config.get('w_dim', 1),
        **mapping_fields(mapping, 2),
        num_classes=config.get('c_dim', 0),
        channel_base=config.get('channel_base', 32768),
        channel_max=config.get('channel_max', 512),
        num_layers=config.get('num_layers', 14),
        num_critical=config.get('num_critical', 2),
        first_cutoff=config.get('first_cutoff', 2),
        first_stopband=config.get('first_stopband', 2**2.1),
        last_stopband_rel=config.get('last_stopband_rel', 2**0.3),
        margin=config.get('margin_size', 10),
        output_scale=config.get('output_scale', 0.25),
        kernel_size=config.get('conv_kernel', 3),
        radial=config.get('use_radial_filters', False),
        filter_size=config.get('filter_size', 6),
        lrelu_upsampling=config.get('lrelu_upsampling', 2),
        clamp=config.get('conv_clamp', 256),
        magnitude_decay=config.get('magnitude_ema_beta', 0.999),
        low_precision_blocks=config.get('num_fp16_res', 4),
    )


def check_spec(model, expected):
    """The plan of all layers, against the sidecar's list."""
    channels, specs = model.specs()
    assert model.num_ws == expected['num_ws']
    assert len(specs) == len(expected['layers'])
    first = specs[0]
    assert expected['input'] == {
        'channels': channels,
        'size': list(first.in_size),
        'sampling_rate': first.in_rate,
        'bandwidth': first.in_cutoff,
    }
    for i, (spec, layer) in enumerate(zip(specs, expected['layers'], strict=True)):
        ours = {
            'name': f'L{i}_{spec.out_size[0]}_{spec.out_channels}',
            'is_torgb': spec.to_rgb,
            'critically_sampled': spec.critical,
            'fp16': spec.out_rate * 2**model.low_precision_blocks > model.size,
            'in_channels': specs[i - 1].out_channels if i else channels,
            'out_channels': spec.out_channels,
            'in_size': list(spec.in_size),
            'out_size': list(spec.out_size),
            'in_sampling_rate': spec.in_rate,
            'out_sampling_rate': spec.out_rate,
            'tmp_sampling_rate': spec.inner_rate,
            'in_cutoff': spec.in_cutoff,
            'out_cutoff': spec.out_cutoff,
            'in_half_width': spec.in_half_width,
            'out_half_width': spec.out_half_width,
            'conv_kernel': spec.kernel_size,
            'up_factor': spec.up,
            'up_taps': spec.up_taps,
            'down_factor': spec.down,
            'down_taps': spec.down_taps,
            'down_radial': spec.down_radial,
            'padding': published_padding(spec),
        }
        assert ours == layer


def sg3_spec(case):
    model = stylegan3_from(case.sidecar['constructor'])
    check_spec(model, case.sidecar['spec'])
    for layer, spec in zip(case.sidecar['spec']['layers'], model.specs()[1], strict=True):
        check_filters(case.under(f'out/{layer["name"]}'), spec)


def sg3_generator(case):
    config = case.sidecar['constructor']
    model, checker = stylegan3_from(config), Checker(case)
    specs = model.specs()[1]
    check_spec(model, case.sidecar['spec'])
    stored = case.under('param')
    modules = stylegan3_modules(model.num_layers)
    variables = read(case, modules)
    for layer, spec in zip(case.sidecar['spec']['layers'], specs, strict=True):
        names = {key: f'synthesis.{layer["name"]}.{key}' for key in ('up_filter', 'down_filter')}
        check_filters({key: stored.get(name) for key, name in names.items()}, spec)
    z, label = case['in/z'], case['in/c'] if config['c_dim'] else None
    checker.check('out/ws', model.apply(variables, z, label, method='mapping'))

    # Compiled once for all transforms and truncations.
    @functools.partial(jax.jit, static_argnames=('truncation_cutoff', 'update_average'))
    def generate(variables, z, label, **options):
        return model.apply(
            variables,
            z,
            label,
            mutable=['intermediates', 'stats'],
            capture_intermediates=lambda module, _: isinstance(
                module, stylegan3.Layer | stylegan3.FourierInput
            ),
            **options,
        )

    def run(**options):
        image, state = generate(variables, z, label, **options)
        return nchw(image), state

    image, state = run()
    checker.check('out/img', image)
    for key in case.keys('out/act/.+'):
        name = key.removeprefix('out/act/')
        index = -1 if name == 'input' else int(name[1:].split('_')[0])
        ours = 'to_rgb' if index == len(specs) - 1 else f'layer_{index}' if index >= 0 else 'input'
        features = nchw(state['intermediates'][ours]['__call__'][0])
        checker.check(key, features[:1, :4])
    for key in case.keys(r'out/img_psi.+'):
        options = {'transform': np.eye(3)} | truncation_from(key)
        checker.check(key, run(**options)[0])
    for name, transform in case.under('in/transform').items():
        checker.check(f'out/{name}', run(transform=transform, truncation=1.0)[0])
    if 'out/img_update' in case:
        image, state = run(update_average=True)
        checker.check('out/img_update', image)
        names = [key.removeprefix('out/buf_after/') for key in case.keys('out/buf_after/.+')]
        for name, value in to_published(state, names, modules).items():
            checker.check(f'out/buf_after/{name}', value)


CHECKS = {
    'sg2_layer': sg2_layer,
    'sg2_mapping': mapping,
    'sg2_synthesis': sg2_synthesis,
    'sg2_generator': sg2_generator,
    'sg2_discriminator': sg2_discriminator,
    'sg3_mapping': mapping,
    'sg3_input': sg3_input,
    'sg3_layer': sg3_layer,
    'sg3_spec': sg3_spec,
    'sg3_generator': sg3_generator,
}
