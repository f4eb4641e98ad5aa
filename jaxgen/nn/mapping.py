"""The mapping network z → w of StyleGAN2 and StyleGAN3, which CIPS shares."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.nn.equalized import EqualizedDense

# Whether running means move; or the mean over devices, where each has a part of the batch.
UpdateAverage = bool | Callable[[jax.Array], jax.Array]


def over_devices(batch_mean: jax.Array, update_average: UpdateAverage) -> jax.Array:
    """A batch's mean as that of all devices, if `update_average` is the function for it."""
    return update_average(batch_mean) if callable(update_average) else batch_mean


def normalize_second_moment(x: jax.Array, eps: float = 1e-8) -> jax.Array:
    """x / √(mean(x²) + ε) over the last axis."""
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + eps)


def label_vectors(label: jax.Array, num_classes: int, dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """`[B, num_classes]`: integers `[B]` as one-hot vectors; vectors are left alone."""
    if label.ndim == 2:
        return label.astype(dtype)
    return jax.nn.one_hot(label, num_classes, dtype=dtype)


class MappingNetwork(nn.Module):
    """Dense layers with a hundredth of the learning rate (StyleGAN2, appendix B).

    The running mean of w is kept in the collection 'stats' for truncation.

    Attributes:
      features: width of w. layers: 8 in StyleGAN2, 2 in StyleGAN3.
      hidden: width of the layers before the last; None: `features`.
      label_features: width of the label's embedding; None: `features`.
      num_ws: the result is `[B, num_ws, features]`, one copy for each layer; None: `[B, features]`.
      average_decay: of the running mean; None: there is none.
    """

    features: int = 512
    layers: int = 8
    lr_multiplier: float = 0.01
    num_classes: int = 0
    average_decay: float | None = 0.998
    hidden: int | None = None
    label_features: int | None = None
    num_ws: int | None = None
    activation: str = 'lrelu'

    @nn.compact
    def __call__(
        self,
        z: jax.Array | None,
        label: jax.Array | None = None,
        *,
        truncation: float | jax.Array | None = None,
        truncation_cutoff: int | None = None,
        update_average: UpdateAverage = False,
    ) -> jax.Array:
        """`z [B, latent]` to w.

        Args:
          z: standard normal; None if w is a function of the label alone.
          label: `[B]` integers below `num_classes` or vectors `[B, num_classes]`, exactly if
            `num_classes` is not 0.
          truncation: ψ of w_avg + ψ(w - w_avg), or one for each example, `[B, 1]`; None or 1 leaves
            w alone.
          truncation_cutoff: truncates the first so many of `num_ws` only.
          update_average: moves the running mean, before truncation reads it; needs
            `mutable=['stats']`. Or the function that makes a batch's mean that of all devices.

        Raises:
          ValueError: a label without classes, or classes without a label.
        """
        x = self._inputs(z, label)
        for i in range(self.layers):
            last = i == self.layers - 1
            x = EqualizedDense(
                self.features if last else self.hidden or self.features,
                lr_multiplier=self.lr_multiplier,
                activation=self.activation,
                name=f'layer_{i}',
            )(x)
        truncated = self._truncate(x, truncation, update_average)
        if self.num_ws is None:
            return truncated
        first = self.num_ws if truncation_cutoff is None else truncation_cutoff
        layer = jnp.arange(self.num_ws)[None, :, None]
        return jnp.where(layer < first, truncated[:, None], x[:, None])

    def _inputs(self, z: jax.Array | None, label: jax.Array | None) -> jax.Array:
        if (label is not None) != (self.num_classes > 0):
            given = 'a label' if label is not None else 'no label'
            raise ValueError(f'num_classes is {self.num_classes} but {given} was given')
        if z is None and label is None:
            raise ValueError('there is neither z nor a label')
        parts = [] if z is None else [normalize_second_moment(z)]
        if label is not None:
            vectors = label_vectors(label, self.num_classes, jnp.float32 if z is None else z.dtype)
            embedded = EqualizedDense(self.label_features or self.features, name='label')(vectors)
            parts.append(normalize_second_moment(embedded))
        return jnp.concatenate(parts, axis=-1)

    def _truncate(
        self, w: jax.Array, truncation: float | jax.Array | None, update_average: UpdateAverage
    ) -> jax.Array:
        if self.average_decay is None:
            return w
        average = self.variable('stats', 'w_avg', jnp.zeros, (self.features,))
        if update_average and not self.is_initializing():
            batch_mean = over_devices(jax.lax.stop_gradient(w).mean(axis=0), update_average)
            average.value = batch_mean + self.average_decay * (average.value - batch_mean)
        if truncation is None:
            return w
        return average.value[None] + truncation * (w - average.value[None])
