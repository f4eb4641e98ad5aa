"""The mapping network z → w of StyleGAN2, shared by CIPS and StyleGAN2."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.nn.equalized import EqualizedDense


def normalize_second_moment(x: jax.Array, eps: float = 1e-8) -> jax.Array:
    """x / √(mean(x²) + ε) over the last axis."""
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + eps)


class MappingNetwork(nn.Module):
    """Eight dense layers with a hundredth of the learning rate (StyleGAN2, appendix B).

    The running mean of w is kept in the collection 'stats' for truncation.
    """

    features: int = 512
    layers: int = 8
    lr_multiplier: float = 0.01
    num_classes: int = 0
    average_decay: float = 0.998

    @nn.compact
    def __call__(
        self,
        z: jax.Array,
        label: jax.Array | None = None,
        *,
        truncation: float | jax.Array | None = None,
        update_average: bool = False,
    ) -> jax.Array:
        """`z [B, latent]` to `w [B, features]`.

        Args:
          z: standard normal.
          label: `[B]` integers below `num_classes`, exactly if `num_classes` is not 0.
          truncation: ψ of w_avg + ψ(w - w_avg); None or 1 leaves w alone.
          update_average: moves the running mean; needs `mutable=['stats']`.

        Raises:
          ValueError: a label without classes, or classes without a label.
        """
        if (label is not None) != (self.num_classes > 0):
            given = 'a label' if label is not None else 'no label'
            raise ValueError(f'num_classes is {self.num_classes} but {given} was given')
        x = normalize_second_moment(z)
        if label is not None:
            one_hot = jax.nn.one_hot(label, self.num_classes, dtype=z.dtype)
            embedded = EqualizedDense(z.shape[-1], name='label')(one_hot)
            x = jnp.concatenate([x, normalize_second_moment(embedded)], axis=-1)
        for i in range(self.layers):
            x = EqualizedDense(
                self.features,
                lr_multiplier=self.lr_multiplier,
                activation='lrelu',
                name=f'layer_{i}',
            )(x)
        average = self.variable('stats', 'w_avg', jnp.zeros, (self.features,))
        if update_average and not self.is_initializing():
            batch_mean = jax.lax.stop_gradient(x).mean(axis=0)
            average.value = batch_mean + self.average_decay * (average.value - batch_mean)
        if truncation is not None:
            x = average.value[None] + truncation * (x - average.value[None])
        return x
