"""Golden cases of numbers made of features, logits, likelihoods and distances."""

import jax.numpy as jnp
import numpy as np

from jaxgen.metrics import bits_per_dim as bits
from jaxgen.metrics import (
    frechet,
    inception_score,
    kid,
    perceptual_path,
    precision_recall,
    stats,
)

DDOF = {'unbiased': 1, 'biased': 0}


def frechet_of_features(case, scale=0.0):
    x, y = case['in_features1'], case['in_features2']
    whole, streamed = (stats.moments_of(x), stats.moments_of(y)), (stream(x, 64), stream(y, 50))
    for name, ddof in DDOF.items():
        values = [frechet.frechet_distance(*pair, ddof=ddof) for pair in (whole, streamed)]
        for value in (*values, frechet.feature_distance(x, y, ddof=ddof)):
            case.check(f'out_fd_{name}', value, scale=scale)
            # What others get by a matrix square root. That is how far it goes.
            case.check(f'out_fd_{name}_scipy_sqrtm', value, 1e-4, scale=scale)
    for i in (0, 1):
        for moments in (whole[i], streamed[i]):
            case.check(f'out_mu{i + 1}', moments.mean)
            if f'out_sigma{i + 1}' in case:
                case.check(f'out_sigma{i + 1}', moments.covariance())
            else:
                case.check(f'out_sigma{i + 1}_diag', np.diag(moments.covariance()))


def frechet_identical(case):
    frechet_of_features(case, scale=1.0)


def frechet_from_stats(case):
    given = [case[f'in_{name}'] for name in ('mu1', 'sigma1', 'mu2', 'sigma2')]
    value = frechet.gaussian_distance(*given)
    case.check('out_fd', value)
    case.check('out_fd_scipy_sqrtm', value, 1e-6)


def feature_stats(case):
    features = case['in_features']
    sums, parts = stats.start(features.shape[1]), []
    for rows in np.split(features, case['in_cuts'][1:-1]):
        sums = stats.add(sums, rows)
        parts.append(stats.moments_of(rows))
    merged = parts[0]
    for part in parts[1:]:
        merged = stats.merge(merged, part)
    for moments in (stats.finish(sums), merged, stats.moments_of(features)):
        assert moments.count == len(features)
        case.check('out_mu', moments.mean)
        for name, ddof in DDOF.items():
            case.check(f'out_sigma_{name}', moments.covariance(ddof))


def kid_of_subsets(case):
    subsets = case['in_idx_gen'], case['in_idx_real']
    found = kid.kernel_distance(case['in_gen'], case['in_real'], subsets)
    case.check('out_kid_mean', found.mean)
    case.check('out_kid_std', found.deviation)
    case.check('out_kid_per_subset', found.per_subset)


def kid_of_sets(case):
    generated, real = case['in_gen'], case['in_real']
    count = min(len(generated), len(real))
    case.check('out_kid', kid.squared_mmd(generated[:count], real[:count]))


def precision_and_recall(case):
    real, generated, k = case['in_real'], case['in_gen'], case.config['k']
    found = precision_recall.precision_recall(real, generated, k=k)
    for name, value in found._asdict().items():
        if f'out_{name}' in case:
            case.check(f'out_{name}', value, 1e-7)
    radii = {
        name: precision_recall.radii(x, k=k) for name, x in (('real', real), ('gen', generated))
    }
    for name, radius in radii.items():
        case.check(f'out_radii_{name}', radius)
    probes = {'real': (generated, real), 'gen': (real, generated)}
    for name, (points, centres) in probes.items():
        inside = precision_recall.membership(points, centres, radii[name])[0] > 0
        np.testing.assert_array_equal(inside, case[f'out_in_{name}_manifold'])


def score(case):
    found = inception_score.inception_score(case['in_logits'], splits=case.config['splits'])
    case.check('out_is_mean', found.mean)
    case.check('out_is_std', found.deviation)
    case.check('out_is_per_split', found.per_split)
    whole = inception_score.inception_score(case['in_logits'], splits=1)
    case.check('out_is_one_split', whole.mean)


def score_limits(case):
    for name in ('confident', 'equal'):
        found = inception_score.inception_score(case[f'in_{name}'], splits=1)
        case.check(f'out_is_{name}', found.mean, 1e-5)


def path_length(case):
    epsilon = case.config['epsilon']
    distances = perceptual_path.distances_of(case['in_f0'], case['in_f1'], epsilon=epsilon)
    case.check('out_distances', distances)
    found = perceptual_path.path_length(distances)
    case.check('out_ppl', found.mean)
    case.check('out_lo', found.lower)
    case.check('out_hi', found.upper)
    case.check('out_num_kept', found.kept)
    case.check('out_ppl_unfiltered', np.mean(distances))


def path_points(case):
    if 'in/a' in case:  # as the StyleGAN folder has it
        a, b, t = (jnp.asarray(case[f'in/{name}']) for name in 'abt')
        t = t[:, 0]
        case.check('out/slerp', perceptual_path.slerp(a, b, t))
        case.check('out/slerp_eps', perceptual_path.slerp(a, b, t + perceptual_path.EPSILON))
        case.check('out/lerp', perceptual_path.lerp(a, b, t))
        return
    a, b, t = (jnp.asarray(case[f'in_{name}']) for name in 'abt')
    for name, steps in (('t', t), ('t_eps', t + case.config['epsilon'])):
        case.check(f'out_slerp_{name}', perceptual_path.slerp(a, b, steps))
        case.check(f'out_lerp_{name}', perceptual_path.lerp(a, b, steps))


def bits_per_dim(case):
    dims = case['in_shapes'].prod(axis=1)
    found = bits.from_probability(case['in_nll_nats'], dims)
    case.check('out_bpd', found)
    case.check('out_mean_bpd_equal_sizes', bits.set_mean(found[[0, 4, 8]]))
    for name, scale in (('unscaled', 1), ('256', 256), ('01_255', 255), ('pm1_1275', 127.5)):
        density = bits.from_density(case['in_logdensity'], dims, scale=scale)
        case.check(f'out_bpd_density_{name}', density)


def stream(features, batch):
    """The moments by way of the devices."""
    sums = stats.start(features.shape[1])
    for begin in range(0, len(features), batch):
        sums = stats.add(sums, features[begin : begin + batch])
    return stats.finish(sums)


CHECKS = {
    'frechet': frechet_of_features,
    'frechet_identical': frechet_identical,
    'frechet_from_stats': frechet_from_stats,
    'frechet_rank_deficient': frechet_of_features,
    'feature_stats': feature_stats,
    'kid': kid_of_sets,
    'kid_subsets': kid_of_subsets,
    'precision_recall': precision_and_recall,
    'inception_score': score,
    'inception_score_limits': score_limits,
    'ppl_from_features': path_length,
    'ppl_interpolation': path_points,
    'bits_per_dim': bits_per_dim,
}
