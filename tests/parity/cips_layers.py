"""Golden cases of the parts of CIPS: coordinates, encodings, mapping, layers, losses, patches."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.data import patches
from jaxgen.interop.cips_names import generator_names
from jaxgen.losses.adversarial import discriminator_logistic, generator_non_saturating
from jaxgen.models.discriminator import ResidualBlock
from jaxgen.nn.equalized import EqualizedConv, EqualizedDense
from jaxgen.nn.fourier import CoordinateEmbedding, FourierFeatures
from jaxgen.nn.mapping import MappingNetwork
from jaxgen.nn.minibatch_std import minibatch_std
from jaxgen.nn.styled import ModulatedDense, StyledDense, ToRGB
from jaxgen.ops import coords
from jaxgen.ops.modulation import FORMS, modulated_dense
from jaxgen.ops.upfirdn2d import setup_filter, upfirdn2d
from tests.parity.cases import nchw, nhwc, pixels, unpixels, value_and_gradients
from tests.parity.cips_generator import generate, generator_from


def coordinate_grid(case):
    for size in case.config['sizes']:
        grid = nchw(coords.grid(size, size)[None])
        case.check(f'out/grid_{size}', grid)
        # Values below 1 differ by half a unit of the last place of 1 at most.
        case.check(f'out/grid32_{size}', nchw(coords.grid(size, size, jnp.float32)[None]), 2**-23)
        case.check(f'out/integer_grid_{size}', np.rint((grid + 1) / 2 * (size - 1)))
    height, width = case.config['nonsquare']
    case.check(f'out/grid_{height}x{width}', nchw(coords.grid(height, width)[None]))


def fourier_features(case):
    names = generator_names(residual=False)
    module = FourierFeatures(case.config['hidden_size'])
    stored = case.under('param')
    value, (params, places) = value_and_gradients(
        lambda p, c: module.apply({'params': p['fourier']}, c),
        nhwc(case['in/cot']),
        names.to_tree(stored),
        nhwc(case['in/coords']),
    )
    case.check('out/features', nchw(value))
    case.check_tree('grad', {**names.to_published(params, stored), 'coords': nchw(places)})


def coordinate_embedding(case):
    size, features = case.config['size'], case.config['hidden_size']
    names = generator_names(residual=False)
    stored = case.under('param')
    params = names.to_tree(stored)
    for key in case.keys('in/.+/coords'):
        place = key.split('/')[1]
        for path in ('reference', 'exact'):
            module = CoordinateEmbedding(size, size, features, path)
            value = jax.jit(lambda p, c, m=module: m.apply({'params': p['embedding']}, c))(
                params, nhwc(case[key])
            )
            case.check(f'out/{place}/{path}', nchw(value))
            cotangent = f'in/{place}/cot'
            if cotangent in case:
                _, (gradient, places) = value_and_gradients(
                    lambda p, c, m=module: m.apply({'params': p['embedding']}, c),
                    nhwc(case[cotangent]),
                    params,
                    nhwc(case[key]),
                )
                published = names.to_published(gradient, stored)
                case.check_tree(f'grad/{path}', {**published, 'coords': nchw(places)})
    table = module.apply({'params': params['embedding']}, None)
    case.check('out/train_grid', unpixels(table, case['out/train_grid']))


def mapping(case):
    names = generator_names(residual=False)
    for i, config in enumerate(case.config['cases']):
        width = config['style_dim']
        module = MappingNetwork(width, config['n_mlp'], config['lr_mlp'])
        stats = {'w_avg': np.zeros(width)}
        stored = case.under(f'param/{i}')
        value, (params, z) = value_and_gradients(
            lambda p, z, m=module, s=stats: m.apply({'params': p['mapping'], 'stats': s}, z),
            case[f'in/{i}/cot'],
            names.to_tree(stored),
            case[f'in/{i}/z'],
        )
        case.check(f'out/{i}/w', value)
        case.check_tree(f'grad/{i}', {**names.to_published(params, stored), 'z': z})


def modfc(case):
    for i, config in enumerate(case.config['cases']):
        stored = case.under(f'param/{i}')
        kernel = stored['weight'][0, :, :, 0, 0].T
        affine = {'kernel': stored['modulation.weight'].T, 'bias': stored['modulation.bias']}
        x, w, cotangent = (case[f'in/{i}/{name}'] for name in ('x', 'w', 'cot'))

        def style_of(affine, w):
            return EqualizedDense(affine['bias'].shape[0]).apply({'params': affine}, w)

        case.check(f'out/{i}/s', style_of(affine, w))
        module = ModulatedDense(config['out_channel'], demodulate=config['demodulate'])
        y = module.apply({'params': {'kernel': kernel, 'affine': affine}}, pixels(x), w)
        case.check(f'out/{i}/y', unpixels(y, cotangent))
        for form in FORMS:

            def layer(kernel, affine, x, w, config=config, form=form, style_of=style_of):
                return modulated_dense(
                    x,
                    kernel / np.sqrt(kernel.shape[0]),
                    style_of(affine, w),
                    demodulate=config['demodulate'],
                    form=form,
                )

            y, gradients = value_and_gradients(
                layer, pixels(cotangent), kernel, affine, pixels(x), w
            )
            case.check(f'out/{i}/y', unpixels(y, cotangent))
            kernel_gradient, affine_gradient, x_gradient, w_gradient = gradients
            named = {
                'weight': kernel_gradient.T[None, :, :, None, None],
                'modulation.weight': affine_gradient['kernel'].T,
                'modulation.bias': affine_gradient['bias'],
                'x': unpixels(x_gradient, x),
                'w': w_gradient,
            }
            case.check_tree(f'grad/{i}', named)


def styled_layer(case):
    names = generator_names(residual=False)
    for i, config in enumerate(case.config['cases']):
        stored = {f'conv1.{name}': x for name, x in case.under(f'param/{i}').items()}
        x, w, noise, cotangent = (case[f'in/{i}/{name}'] for name in ('x', 'w', 'noise', 'cot'))
        module = StyledDense(
            config['out_channel'], use_noise=True, activation=config['activation'] or 'lrelu'
        )

        def layer(params, x, w, noise, module=module):
            return module.apply({'params': params['input']}, x, w, noise)

        params = names.to_tree(stored)
        y, (gradients, x_gradient, w_gradient, _) = value_and_gradients(
            layer, pixels(cotangent), params, pixels(x), w, pixels(noise)
        )
        case.check(f'out/{i}/y', unpixels(y, cotangent))
        quiet = jax.jit(layer)(params, pixels(x), w, None)
        case.check(f'out/{i}/y_no_noise', unpixels(quiet, cotangent))
        named = names.to_published(gradients, stored)
        named = {name.removeprefix('conv1.'): value for name, value in named.items()}
        case.check_tree(f'grad/{i}', {**named, 'x': unpixels(x_gradient, x), 'w': w_gradient})


def to_rgb(case):
    names = generator_names(residual=False)
    stored = {f'to_rgbs.0.{name}': x for name, x in case.under('param').items()}
    x, w, skip, cotangent = (case[f'in/{name}'] for name in ('x', 'w', 'skip', 'cot'))
    module = ToRGB()

    def layer(params, x, w, skip):
        return module.apply({'params': params['block_0']['to_rgb']}, x, w) + skip

    params = names.to_tree(stored)
    y, gradients = value_and_gradients(layer, pixels(cotangent), params, pixels(x), w, pixels(skip))
    case.check('out/with_skip', unpixels(y, cotangent))
    case.check('out/no_skip', unpixels(layer(params, pixels(x), w, 0), cotangent))
    named = names.to_published(gradients[0], stored)
    named = {name.removeprefix('to_rgbs.0.'): value for name, value in named.items()}
    named |= {'x': unpixels(gradients[1], x), 'w': gradients[2]}
    case.check_tree('grad', {**named, 'skip': unpixels(gradients[3], skip)})


def losses(case):
    real, fake = (case[f'in/{name}'] for name in ('real', 'fake'))
    value, gradients = jax.value_and_grad(discriminator_logistic, (0, 1))(real[:, 0], fake[:, 0])
    case.check('out/d', value)
    case.check('grad/d/real', gradients[0][:, None])
    case.check('grad/d/fake', gradients[1][:, None])
    value, gradient = jax.value_and_grad(generator_non_saturating)(fake[:, 0])
    case.check('out/g', value)
    case.check('grad/g/fake', gradient[:, None])
    # The pipeline flips images [H, W, C] along their second axis.
    case.check('out/flip/image', nchw(nhwc(case['in/flip/image'][None])[:, :, ::-1])[0])


def patch_coordinates(case):
    size, side = case.config['R'], case.config['P']
    offsets = case['in/offsets']
    assert patches.ScaledPatches(side, (size, size)).num_scales == case.config['scales']
    np.testing.assert_array_equal(offsets[:, 1], 2 ** offsets[:, 0])
    image, places, parts = nhwc(case['in/image'][None])[0], [], []
    for _, stride, row_phase, column_phase, top, left in offsets:
        rows = patches.positions(row_phase, stride, top, side)
        columns = patches.positions(column_phase, stride, left, side)
        places.append(patches.patch_coords((size, size), rows, columns, image.dtype))
        parts.append(image[np.ix_(rows, columns)])
    places = np.stack(places)
    case.check('out/coords', nchw(places))
    case.check('out/image', nchw(np.stack(parts)))

    names = generator_names(case.config['generator']['kind'] == 'CIPSres', noise=False)
    params = names.to_tree(case.under('param'))
    z = case['in/z']
    repeated = np.broadcast_to(z, (len(offsets), z.shape[1]))
    for key, lookup in (('out/rgb', 'reference'), ('out/rgb_exact', 'exact')):
        model = generator_from(case.config['generator'], lookup=lookup)
        case.check(key, nchw(generate(model, params, repeated, places)))
    case.check('in/full_rgb', nchw(generate(model, params, z, None)))


def discriminator_parts(case):
    taps = np.asarray(case['in/blur_kernel'], np.float64).sum(0)
    blur = setup_filter(taps)
    np.testing.assert_allclose(blur, case['in/blur_kernel'], rtol=1e-6)
    x = nhwc(case['in/x'])
    for key in case.keys(r'out/blur_pad\d+_\d+'):
        padding = tuple(int(n) for n in key.removeprefix('out/blur_pad').split('_'))
        case.check(key, nchw(upfirdn2d(x, blur, padding=(padding, padding))))
    width = case.config['out_channel']
    taps = tuple(taps.tolist())
    conv = EqualizedConv(width, activation='lrelu')
    down = EqualizedConv(width, down=2, resample_filter=taps, activation='lrelu')
    skip = EqualizedConv(width, 1, down=2, resample_filter=taps, use_bias=False)
    block = ResidualBlock(width, taps)
    part(case, 'conv', x, {'0.weight': 'kernel', '1.bias': 'bias'}, conv.apply)
    part(case, 'down', x, {'1.weight': 'kernel', '2.bias': 'bias'}, down.apply)
    part(case, 'skip', x, {'1.weight': 'kernel'}, skip.apply)
    names = {
        'conv1.0.weight': 'conv0/kernel',
        'conv1.1.bias': 'conv0/bias',
        'conv2.1.weight': 'conv1/kernel',
        'conv2.2.bias': 'conv1/bias',
        'skip.1.weight': 'skip/kernel',
    }
    part(case, 'res', x, names, block.apply)
    for key in case.keys(r'out/mb\d+'):
        batch = nhwc(case[f'in/{key.removeprefix("out/")}/x'])
        case.check(key, nchw(minibatch_std(jnp.asarray(batch), grouping='strided')))
    dense = case.under('param/lin')
    module = EqualizedDense(len(dense['bias']), activation='lrelu')
    variables = {'params': {'kernel': dense['weight'].T, 'bias': dense['bias']}}
    case.check('out/lin', module.apply(variables, case['in/lin/x']))


def part(case, name, x, names, apply):
    """One part of D: `apply({'params': …}, x)`, with `names` from published to our path."""
    stored = case.under(f'param/{name}')
    params = {}
    for published, ours in names.items():
        *parents, leaf = ours.split('/')
        node = params
        for key in parents:
            node = node.setdefault(key, {})
        array = stored.pop(published)
        node[leaf] = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
    assert all(left.endswith('kernel') for left in stored), f'{name}: {sorted(stored)}'
    value, (gradients, x_gradient) = value_and_gradients(
        lambda p, x: apply({'params': p}, x), nhwc(case[f'in/{name}/cot']), params, x
    )
    case.check(f'out/{name}', nchw(value))
    named = {'x': nchw(x_gradient)}
    for published, ours in names.items():
        gradient = gradients
        for key in ours.split('/'):
            gradient = gradient[key]
        named[published] = gradient.transpose(3, 2, 0, 1) if gradient.ndim == 4 else gradient
    case.check_tree(f'grad/{name}', named)


CHECKS = {
    'coordinate_grid': coordinate_grid,
    'coordinate_embedding': coordinate_embedding,
    'fourier_features': fourier_features,
    'mapping': mapping,
    'modfc': modfc,
    'styled_layer': styled_layer,
    'to_rgb': to_rgb,
    'losses': losses,
    'patch_coordinates': patch_coordinates,
    'discriminator_parts': discriminator_parts,
}
