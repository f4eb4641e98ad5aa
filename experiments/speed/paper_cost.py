"""Parameters and multiply-accumulates of the paper's models at 256², counted, not run.

    python experiments/speed/paper_cost.py [--json] [--quick]

'other' are the published figures, or those of the released code where the paper has none. Its
parameter counts include one noise strength for each styled layer.
"""

from typing import Any

import jax
import jax.numpy as jnp
import timing

from jaxgen.models import CIPSGenerator, Discriminator
from jaxgen.models.cips import released_residual_widths, released_widths, uniform_widths
from jaxgen.parallel.flops import count_macs

SIZE = 256


def generator(name: str, widths: tuple[int, ...], **options: Any) -> dict[str, tuple[str, float]]:
    """Parameters in millions, and GMAC of one image, of a generator."""
    model = CIPSGenerator(size=SIZE, block_widths=widths, noise='random', **options)
    z, key = jnp.zeros((1, model.latent)), jax.random.key(0)
    shapes = jax.eval_shape(
        lambda: model.init(
            key, z, coords=jnp.zeros((1, 1, 1, 2)), noise=key[None], method='generate'
        )
    )
    macs = count_macs(lambda v: model.apply(v, z, noise=key[None], method='generate'), shapes)
    return {f'{name}: parameters': size(shapes), f'{name}: GMAC': round(macs / 1e9, 1)}


def discriminator() -> dict[str, Any]:
    """The same of the discriminator."""
    model, image = Discriminator(size=SIZE), jnp.zeros((1, SIZE, SIZE, 3))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), image))
    macs = count_macs(lambda v: model.apply(v, image), shapes)
    return {
        'discriminator: parameters': size(shapes),
        'discriminator: GMAC': round(macs / 1e9, 1),
    }


def size(shapes: Any) -> int:
    """Number of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(shapes['params']))


PUBLISHED = {
    'uniform: parameters': 45_911_076,
    'uniform: GMAC': 275.6,
    'taper: parameters': 44_317_092,
    'taper: GMAC': 222.9,
    'residual: parameters': 43_027_858,
}


def main() -> None:
    """Counts and prints."""
    options = timing.parser(__doc__).parse_args()
    counted = {
        **generator('uniform', uniform_widths(SIZE)),
        **generator('taper', released_widths(SIZE)),
        **generator('residual', released_residual_widths(SIZE), residual=True),
        **discriminator(),
    }
    rows = []
    for name, value in counted.items():
        other = PUBLISHED.get(name)
        ratio = None if other is None else value / other
        rows.append({'measured': name, 'jaxgen': value, 'other': other, 'ratio': ratio})
    timing.report(rows, options.json)


if __name__ == '__main__':
    main()
