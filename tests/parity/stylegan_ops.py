"""Golden cases of the operations of StyleGAN2 and StyleGAN3: values and gradients of every call."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.nn.equalized import EqualizedDense
from jaxgen.nn.minibatch_std import minibatch_std
from jaxgen.ops.activations import bias_act as bias_act_op
from jaxgen.ops.convolution import conv2d_resample as conv2d_resample_op
from jaxgen.ops.filtered_lrelu import filtered_lrelu as filtered_lrelu_op
from jaxgen.ops.lowpass import lowpass
from jaxgen.ops.modulation import modulated_conv2d, normalize_modulation
from jaxgen.ops.upfirdn2d import (
    downsample2d,
    filter2d,
    setup_filter,
    upfirdn2d,
    upsample2d,
)
from tests.parity.cases import nchw, nhwc, value_and_gradients
from tests.parity.stylegan_cases import (
    Checker,
    cases_of,
    padding_from,
    pair_from,
    to_ours,
    to_published,
)

# Our names of the published arguments of the filters.
RENAMED = {'flip_filter': 'flip', 'clamp': 'limit', 'alpha': 'slope', 'act': 'kind'}


def arguments_of(config):
    """Published keyword arguments as ours."""
    arguments = {RENAMED.get(name, name): value for name, value in config.items()}
    if 'padding' in arguments:
        arguments['padding'] = padding_from(arguments['padding'])
    for name in ('up', 'down'):
        if name in arguments:
            arguments[name] = pair_from(arguments[name])
    return arguments


def check_call(case, name, function, inputs, layouts):
    """`function(**inputs)` and its gradients against the stored ones.

    `layouts`: how an input and its gradient go from the published layout to ours and back.
    """
    checker = Checker(case)
    ours = {key: layouts[key][0](case[f'in/{name}/{key}']) for key in inputs}
    cotangent = case[f'in/{name}/ct']
    into, back = IMAGE if cotangent.ndim == 4 else SAME
    value, gradients = value_and_gradients(
        lambda *values: function(**dict(zip(ours, values, strict=True))),
        into(cotangent),
        *ours.values(),
    )
    checker.check(f'out/{name}/y', back(value))
    for key, gradient in zip(ours, gradients, strict=True):
        if f'grad/{name}/{key}' in case:
            checker.check(f'grad/{name}/{key}', layouts[key][1](gradient))


IMAGE = (nhwc, nchw)
KERNEL = (to_ours, to_published)
SAME = (np.asarray, np.asarray)


def stored_filter(case, name, key='f'):
    """The filter of a call in float64, None if it has none."""
    key = f'in/{name}/{key}'
    return np.asarray(case[key], np.float64) if key in case else None


def setup_filters(case):
    for name, config in cases_of(case):
        arguments = {k: v for k, v in arguments_of(config).items() if k != 'f'}
        case.check(f'out/{name}/f', setup_filter(config['f'], **arguments))


def upfirdn(case):
    for name, config in cases_of(case):
        f, arguments = stored_filter(case, name), arguments_of(config)
        check_call(
            case, name, lambda x, f=f, a=arguments: upfirdn2d(x, f, **a), ['x'], {'x': IMAGE}
        )


def resample(case):
    operations = dict(filter2d=filter2d, upsample2d=upsample2d, downsample2d=downsample2d)
    for name, config in cases_of(case):
        f, arguments = stored_filter(case, name), arguments_of(config)
        op = operations[arguments.pop('op')]
        check_call(
            case, name, lambda x, f=f, a=arguments, op=op: op(x, f, **a), ['x'], {'x': IMAGE}
        )


def bias_act(case):
    for name, config in cases_of(case):
        arguments = arguments_of(config)
        # Their axes are those of a stored array; images are the only arrays that we lay out anew.
        axis = arguments.pop('dim', 1)
        inputs = [key for key in ('x', 'b') if f'in/{name}/{key}' in case]
        check_call(
            case,
            name,
            lambda x, b=None, a=arguments, axis=axis: (
                jnp.moveaxis(bias_act_op(jnp.moveaxis(x, -1, 1), b, axis=axis, **a), 1, -1)
                if x.ndim == 4
                else bias_act_op(x, b, axis=axis, **a)
            ),
            inputs,
            {'x': IMAGE if case[f'in/{name}/x'].ndim == 4 else SAME, 'b': SAME},
        )


def conv2d_resample(case):
    for name, config in cases_of(case):
        f, arguments = stored_filter(case, name), arguments_of(config)
        arguments['flip_kernel'] = not arguments.pop('flip_weight', True)
        check_call(
            case,
            name,
            lambda x, w, f=f, a=arguments: conv2d_resample_op(x, w, f, **a),
            ['x', 'w'],
            {'x': IMAGE, 'w': KERNEL},
        )


def filtered_lrelu(case):
    for name, config in cases_of(case):
        filters = [stored_filter(case, name, key) for key in ('fu', 'fd')]
        arguments = arguments_of(config)
        inputs = [key for key in ('x', 'b') if f'in/{name}/{key}' in case]
        for remat in (False, True):
            check_call(
                case,
                name,
                lambda x, b=None, f=filters, a=arguments, remat=remat: filtered_lrelu_op(
                    x, *f, b, remat=remat, **a
                ),
                inputs,
                {'x': IMAGE, 'b': SAME},
            )


def modulated_conv(case):
    """StyleGAN2's; 'fused' cases are checked in the form with per-sample weights."""
    for name, config in cases_of(case):
        f, arguments = stored_filter(case, name), arguments_of(config)
        form = 'weights' if arguments.pop('fused_modconv', True) else 'activations'
        arguments['flip_kernel'] = not arguments.pop('flip_weight', True)
        noise = 0.0
        if f'in/{name}/noise' in case:
            noise = case[f'in/{name}/noise']
            noise = noise.reshape(-1, *noise.shape[-2:], 1)

        def layer(x, weight, styles, f=f, a=arguments, form=form, noise=noise):
            return modulated_conv2d(x, weight, styles, f=f, form=form, **a) + noise

        check_call(
            case,
            name,
            layer,
            ['x', 'weight', 'styles'],
            {'x': IMAGE, 'weight': KERNEL, 'styles': SAME},
        )


def normalized_modulated_conv(case):
    """StyleGAN3's."""
    for name, config in cases_of(case):
        demodulate = config.get('demodulate', True)
        padding = config.get('padding', 0)
        if not isinstance(padding, int):  # [rows, columns]
            padding = tuple((p, p) for p in padding)
        gain = case.under(f'in/{name}').get('input_gain')

        for form in ('weights', 'activations'):

            def layer(x, w, s, demodulate=demodulate, padding=padding, gain=gain, form=form):
                if demodulate:
                    w, s = normalize_modulation(w, s)
                return modulated_conv2d(
                    x, w, s, demodulate=demodulate, padding=padding, input_gain=gain, form=form
                )

            check_call(case, name, layer, ['x', 'w', 's'], {'x': IMAGE, 'w': KERNEL, 's': SAME})


def design_filters(case):
    for name, config in cases_of(case):
        f = lowpass(
            config['numtaps'],
            config['cutoff'],
            config['width'],
            config['fs'],
            radial=config.get('radial', False),
        )
        if config['result'] is None:
            assert f is None, name
        else:
            case.check(f'out/{name}/f', f)


def fc_layers(case):
    """Dense layers; how a bias is stored at the start is not in the numbers."""
    for name, config in cases_of(case):
        module = EqualizedDense(
            config['out_features'],
            use_bias=config.get('bias', True),
            lr_multiplier=config.get('lr_multiplier', 1),
            activation=config.get('activation', 'linear'),
        )
        stored = case.under(f'param/{name}')
        params = {{'weight': 'kernel'}.get(key, key): to_ours(x) for key, x in stored.items()}
        y = jax.jit(module.apply)({'params': params}, case[f'in/{name}/x'])
        Checker(case).check(f'out/{name}/y', y)


def minibatch_stddev(case):
    for name, config in cases_of(case):
        group = config['group_size'] or len(case[f'in/{name}/x'])

        def layer(x, group=group, features=config['num_channels']):
            return minibatch_std(x, group=group, features=features, grouping='strided')

        check_call(case, name, layer, ['x'], {'x': IMAGE})


CHECKS = {
    'ops_setup_filter': setup_filters,
    'ops_upfirdn2d': upfirdn,
    'ops_resample2d': resample,
    'ops_bias_act': bias_act,
    'ops_conv2d_resample': conv2d_resample,
    'ops_filtered_lrelu': filtered_lrelu,
    'sg2_modulated_conv2d': modulated_conv,
    'sg3_modulated_conv2d': normalized_modulated_conv,
    'sg3_design_filters': design_filters,
    'fc_layers': fc_layers,
    'sg2_minibatch_stddev': minibatch_stddev,
}
