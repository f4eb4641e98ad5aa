"""Golden cases of metrics of StyleGAN2 and StyleGAN3: path length, features, average spectra."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.interop.stylegan_names import STYLEGAN2, stylegan3_modules
from jaxgen.metrics import frechet, kid, perceptual_path, precision_recall, spectra, stats
from tests.parity.cases import nhwc
from tests.parity.stylegan_cases import Checker
from tests.parity.stylegan_networks import read, stylegan2_from, stylegan3_from

# The first `draws` are t and the latents; then comes one noise map for each layer.
LATENT_DRAWS = 2


def path_length(case):
    config = case.sidecar['constructor']
    protocol, third = config['ppl'], 'stylegan3' in config['cls']
    model = stylegan3_from(config) if third else stylegan2_from(config)
    variables = read(case, stylegan3_modules(model.num_layers) if third else STYLEGAN2)
    t, z, *noise = (case[key] for key in case.keys('in/draw_.+'))
    noise = [x[None, :, :, None] for x in noise]
    t = t * (protocol['sampling'] == 'full')
    steps = t, t + protocol['epsilon']
    assert len(noise) == (0 if third else model.num_layers)
    assert case.sidecar['draws'][LATENT_DRAWS - 1][1] == 'randn'

    @jax.jit
    def features(variables, z, proj):
        def mapping(z):
            return model.apply(variables, z, method='mapping')

        if protocol['space'] == 'w':
            ends = jnp.split(mapping(z), 2)
            # The same t for all layers of an example.
            ws = [perceptual_path.lerp(*ends, jnp.asarray(at)[:, None]) for at in steps]
        else:
            ends = jnp.split(z, 2)
            ws = [mapping(perceptual_path.slerp(*ends, jnp.asarray(at))) for at in steps]
        maps = () if third else (noise,)
        images = [model.apply(variables, w, *maps, method='synthesize') for w in ws]
        if protocol['crop']:
            images = [perceptual_path.face_crop(x) for x in images]
        images = [perceptual_path.shrink(x) for x in images]
        flat = [jnp.moveaxis((x + 1) * 127.5, -1, 1).reshape(len(x), -1) for x in images]
        seen = [x @ proj[:, : x.shape[1]].T for x in flat]
        return [x / jnp.linalg.norm(x, axis=1, keepdims=True) for x in seen]

    found = features(variables, z, case['in/proj'])
    distances = perceptual_path.distances_of(*found, epsilon=protocol['epsilon'])
    Checker(case).check('out/dist', distances)


def percentiles(case):
    found = perceptual_path.path_length(case['in/dist'])
    case.check('out/ppl', found.mean)
    case.check('out/lo', found.lower)
    case.check('out/hi', found.upper)


def of_features(case):
    real, generated = case['in/real'], case['in/gen']
    found = {'real': stats.moments_of(real), 'gen': stats.moments_of(generated)}
    for name, moments in found.items():
        case.check(f'out/mean_{name}', moments.mean)
        case.check(f'out/cov_{name}', moments.covariance(0))
    case.check('out/fid', frechet.frechet_distance(found['gen'], found['real'], ddof=0))
    # The sidecar: as many generated features as there are real ones.
    generated = generated[: len(real)]
    # Stored as the published code has it, in float32: numpy's float32 gives the stored number to
    # the last bit, and differs from its own float64 by 5e-7.
    case.check('out/kid', kid.squared_mmd(generated, real), 2e-6)
    shares = precision_recall.precision_recall(real, generated, k=3, half=True)
    # Means that were taken in float32.
    case.check('out/precision', shares.precision, 1e-7)
    case.check('out/recall', shares.recall, 1e-7)


def average_spectrum(case):
    images, (mean, std) = nhwc(np.asarray(case['in/images'], case.dtype)), case['in/mean_std']
    checker = Checker(case)
    checker.check('out/window', spectra.kaiser_window(images.shape[1]))
    power = spectra.windowed_power(images, mean, std).mean(axis=0)
    checker.check('out/spectrum', power)
    checker.check('out/heatmap_db', spectra.heatmap(power))


CHECKS = {
    'ppl_w': path_length,
    'ppl_z': path_length,
    'ppl_percentile': percentiles,
    'fid_kid_pr': of_features,
    'avg_spectrum': average_spectrum,
}
