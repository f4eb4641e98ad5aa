"""Golden cases of StyleGAN's losses with all gradients, of schedules, and of projection."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.interop.stylegan_names import (
    STYLEGAN2,
    discriminator_modules,
    stylegan3_modules,
    to_published,
    to_variables,
)
from jaxgen.losses.adversarial import discriminator_logistic, generator_non_saturating
from jaxgen.losses.gradient_penalty import r1
from jaxgen.losses.noise_correlation import noise_correlation, normalize_noise
from jaxgen.losses.path_length import path_length_penalty, path_lengths
from jaxgen.objectives import schedules
from jaxgen.objectives.optim import lazy_adam
from jaxgen.ops.blur import blur, blur_taps
from jaxgen.ops.styles import style_statistics
from tests.parity.cases import NEGLIGIBLE, nchw, nhwc
from tests.parity.stylegan_cases import Checker
from tests.parity.stylegan_networks import discriminator_from, stylegan2_from, stylegan3_from


class Networks:
    """The generator and the discriminator of a case, and its losses by jaxgen's functions."""

    def __init__(self, case):
        config = case.sidecar['constructor']
        self.case, self.loss = case, config['loss']
        self.is_3 = 'stylegan3' in config['G']['cls']
        if self.is_3:
            self.generator = stylegan3_from(config['G'])
            modules = stylegan3_modules(self.generator.num_layers)
        else:
            self.generator = stylegan2_from(config['G'], noise='random')
            modules = STYLEGAN2
        self.discriminator = discriminator_from(config['D'])
        self.modules = {'G': modules, 'D': discriminator_modules(config['D']['img_resolution'])}
        stored = case.under('param')
        self.variables = {
            side: to_variables(
                {n.removeprefix(f'{side}.'): a for n, a in stored.items() if n.startswith(side)},
                modules,
            )
            for side, modules in self.modules.items()
        }
        self.sigma = 0.0
        if self.is_3:
            self.sigma = schedules.blur_sigma(
                float(case['in/cur_nimg']),
                initial=self.loss['blur_init_sigma'],
                fade=self.loss['blur_fade_kimg'] * 1000,
            )
            np.testing.assert_allclose(self.sigma, case.sidecar['blur_sigma'], rtol=1e-6)

    def maps(self, index):
        """Layer noise of a synthesis call, in the order of the layers."""
        maps = self.case.under(f'in/noise{index}')
        order = sorted(maps, key=lambda name: (int(name[1:].split('.')[0]), name))
        return [nhwc(maps[name]) for name in order]

    def styles(self, params, z):
        variables = {**self.variables['G'], 'params': params}
        return self.generator.apply(variables, z, method='mapping')

    def synthesize(self, params, w, maps):
        variables = {**self.variables['G'], 'params': params}
        extra = () if self.is_3 else (maps,)
        return self.generator.apply(variables, w, *extra, method='synthesize')

    def generate(self, params, z, maps):
        return self.synthesize(params, self.styles(params, z), maps)

    def generate_with_averages(self, z, maps):
        """Fakes as the discriminator's phase makes them, and the buffers that this moves."""
        extra = {} if self.is_3 else {'noise': maps}
        image, updated = self.generator.apply(
            self.variables['G'], z, update_average=True, mutable=['stats'], **extra
        )
        return image, updated['stats']

    def blurred(self, image):
        return blur(image, self.sigma) if self.is_3 else image

    def score(self, params, image):
        return self.discriminator.apply({'params': params}, self.blurred(image))


def report(case, checker, name, actual):
    key = f'out/report/Loss/{name}'
    checker.check(key, np.asarray(actual).reshape(case[key].shape))


def loss(case):
    networks = Networks(case)
    phase = case.sidecar['constructor']['phase']
    # There are no labels, and R1 draws no images.
    assert not any(case[key].size for key in case.keys('in/c'))
    assert case['in/z'].size
    run = generator_phase if phase.startswith('G') else discriminator_phase
    averages, gradients = run(case, networks, phase)
    checker, side = Checker(case), phase[0]
    names = [key.removeprefix('grad/') for key in case.keys('grad/.+')]
    published = to_published(
        {'params': gradients}, [n.removeprefix(f'{side}.') for n in names], networks.modules[side]
    )
    largest = max(np.abs(case[f'grad/{n}']).max() for n in names)
    for name, gradient in published.items():
        # R1 depends on biases through the minibatch deviation alone: what is left of sums that
        # cancel has the error of their terms.
        cancels = phase.startswith('D') and phase != 'Dmain' and name.endswith('bias')
        key = f'grad/{side}.{name}'
        scale = largest if cancels else NEGLIGIBLE * largest
        case.check(key, gradient, checker.tolerance(key), scale)
    listed = sum(np.abs(g).sum() for g in published.values())
    total = sum(np.abs(g).sum() for g in jax.tree.leaves(gradients))
    np.testing.assert_allclose(listed, total, rtol=1e-6, err_msg='some gradient is not published')
    buffers = [key.removeprefix('out/buf_after/G.') for key in case.keys('out/buf_after/.+')]
    for name, value in to_published({'stats': averages}, buffers, networks.modules['G']).items():
        checker.check(f'out/buf_after/G.{name}', value)


def generator_phase(case, networks, phase):
    """Gmain, Greg or Gboth; the path length penalty takes half of the latents."""
    checker, z, config = Checker(case), case['in/z'], networks.loss
    d_params = networks.variables['D']['params']
    main, regularizes = phase != 'Greg', phase != 'Gmain' and 'in/pl_noise' in case
    maps = [networks.maps(i) for i in range(2)]
    half = len(z) // config.get('pl_batch_shrink', 1)
    noise = nhwc(case['in/pl_noise']) if regularizes else None
    # Stored in float32; the published run had the decimal number.
    mean = float(str(np.float32(case['in/pl_mean']))) if regularizes else None

    def objective(params):
        total, outputs = 0.0, {}
        if main:
            image = networks.generate(params, z, maps[0])
            scores = networks.score(d_params, image)
            total += generator_non_saturating(scores)
            outputs |= {'image': image, 'scores': scores}
        if regularizes:
            w = networks.styles(params, z[:half])
            lengths = path_lengths(
                lambda w: networks.synthesize(params, w, maps[int(main)]), w, noise
            )
            penalty, after = path_length_penalty(lengths, mean, config['pl_decay'])
            total += config['pl_weight'] * penalty.mean()
            outputs |= {'penalty': penalty, 'mean': after}
        return total * case.sidecar['constructor']['gain'], outputs

    gradients, outputs = jax.jit(jax.grad(objective, has_aux=True))(
        networks.variables['G']['params']
    )
    if main:
        scores = outputs['scores']
        report(case, checker, 'scores/fake', scores)
        report(case, checker, 'signs/fake', np.sign(scores))
        report(case, checker, 'G/loss', jax.nn.softplus(-scores))
        checker.check('out/D_input0', nchw(networks.blurred(outputs['image'])))
    if regularizes:
        report(case, checker, 'pl_penalty', outputs['penalty'])
        report(case, checker, 'G/reg', config['pl_weight'] * outputs['penalty'])
        checker.check('out/pl_mean_after', outputs['mean'])
    return networks.variables['G']['stats'], gradients


def discriminator_phase(case, networks, phase):
    """Dmain, Dreg or Dboth; the penalty is on the real images before they are blurred."""
    checker, real, config = Checker(case), nhwc(case['in/real_img']), networks.loss
    main, regularizes = phase != 'Dreg', phase != 'Dmain'
    averages, fake = networks.variables['G']['stats'], None
    if main:
        fake, averages = jax.jit(networks.generate_with_averages)(case['in/z'], networks.maps(0))

    def objective(params):
        outputs = {'real': networks.score(params, real)}
        total = 0.0
        if main:
            outputs['fake'] = networks.score(params, fake)
            total += discriminator_logistic(outputs['real'], outputs['fake'])
        if regularizes:
            penalty = r1(lambda x: networks.score(params, x), real)
            total += config['r1_gamma'] / 2 * penalty
            outputs['penalty'] = penalty
        return total * case.sidecar['constructor']['gain'], outputs

    params = networks.variables['D']['params']
    gradients, outputs = jax.jit(jax.grad(objective, has_aux=True))(params)
    report(case, checker, 'scores/real', outputs['real'])
    report(case, checker, 'signs/real', np.sign(outputs['real']))
    if main:
        report(case, checker, 'scores/fake', outputs['fake'])
        report(case, checker, 'signs/fake', np.sign(outputs['fake']))
        both = jax.nn.softplus(outputs['fake']) + jax.nn.softplus(-outputs['real'])
        report(case, checker, 'D/loss', both)
        checker.check('out/D_input0', nchw(networks.blurred(fake)))
    if regularizes:
        slopes = jax.jit(jax.grad(lambda x: networks.score(params, x).sum()))(real)
        penalties = np.square(slopes).sum(axis=(1, 2, 3))
        report(case, checker, 'r1_penalty', penalties)
        report(case, checker, 'D/reg', config['r1_gamma'] / 2 * penalties)
        np.testing.assert_allclose(outputs['penalty'], penalties.mean(), rtol=1e-5)
    checker.check(f'out/D_input{int(main)}', nchw(networks.blurred(real)))
    return averages, gradients


def schedule(case):
    seen, batch = case['in/nimg'].astype(case.dtype), int(case['in/batch'])
    half_life = schedules.automatic_half_life(batch)
    case.check('out/ema_beta', schedules.ema_decay(seen, batch, half_life))
    sigma = schedules.blur_sigma(seen, fade=200_000 * batch / 32)
    case.check('out/blur_sigma', sigma)
    case.check('out/blur_radius', np.floor(3 * np.asarray(sigma)))
    p = [0.0]
    for mean_sign in case['in/mean_sign']:
        p.append(schedules.augment_probability(p[-1], mean_sign, 4 * batch))
    case.check('out/ada_p', np.array(p))
    # One update with a gradient of 1 shows both numbers.
    rates, second = [], []
    for interval in (4, 16):
        optimizer = lazy_adam(1.0, 0.0, 0.99, 0.0, interval=interval)
        updates, state = optimizer.update(jnp.ones(()), optimizer.init(jnp.ones(())))
        rates.append(-updates)
        second.append(1 - state[0].nu)
    case.check('out/lazy_lr_factor_k4_k16', np.array(rates))
    case.check('out/lazy_beta2_k4_k16', np.array(second))


def blur_kernels(case):
    for key in case.keys('out/sigma.+'):
        reach = case[key].size // 2
        case.check(key, blur_taps(float(key.removeprefix('out/sigma')), reach))


def projector_math(case):
    steps = np.arange(case['out/lr'].size)
    case.check('out/lr', schedules.projection_rate(steps, steps.size))
    case.check('out/w_noise_factor', schedules.projection_noise(steps, steps.size))
    for side in (4, 8, 16, 32):
        noise = case[f'in/noise{side}']
        value, gradient = jax.value_and_grad(noise_correlation)(noise)
        case.check(f'out/reg{side}', value)
        case.check(f'grad/noise{side}', gradient)
        case.check(f'out/normalised{side}', normalize_noise(noise))
    mean, deviation = style_statistics(case['in/w_samples'][:, 0])
    case.check('out/w_avg', mean[None, None])
    case.check('out/w_std', deviation)


CHECKS = {
    'loss_sg2': loss,
    'loss_sg3': loss,
    'schedules': schedule,
    'sg3_blur_kernels': blur_kernels,
    'projector_math': projector_math,
}
