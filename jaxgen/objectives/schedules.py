"""What changes in the course of a run, and rules of thumb: functions of numbers, traced or not.

Progress is counted in images shown to the discriminator, `seen`, all devices together. From the
published code of StyleGAN2-ADA (2006.06676) and StyleGAN3 (2106.12423).
"""

import jax
import jax.numpy as jnp
import numpy as np

Number = jax.Array | float


def ema_decay(
    seen: Number, batch: int, half_life: float, *, ramp: float | None = 0.05
) -> jax.Array:
    """What a step keeps of the average of the generator: 0.5^(batch / half-life).

    Args:
      seen: before this step: the first one copies the generator.
      half_life: in images.
      ramp: the half-life is at most this share of `seen`; None: no ramp, as after a resume.
    """
    if ramp is not None:
        half_life = jnp.minimum(half_life, ramp * seen)
    return jnp.exp2(-batch / jnp.maximum(half_life, 1e-8))


def automatic_half_life(batch: int) -> float:
    """Half-life of the average in images, 10,000 for a batch of 32."""
    return 10_000 * batch / 32


def blur_sigma(seen: Number, *, initial: float = 10.0, fade: float = 200_000) -> jax.Array:
    """σ in pixels of the blur before the discriminator (`ops.blur`): falls linearly to 0.

    `fade`: in images; 200,000 for a batch of 32, as published, and in proportion for others.
    """
    return initial * jnp.maximum(1 - seen / fade, 0.0)


def augment_probability(
    p: Number,
    mean_sign: Number,
    images: int,
    *,
    target: float = 0.6,
    images_to_one: float = 500_000,
) -> jax.Array:
    """ADA's p after one update.

    Args:
      mean_sign: mean of sign(D(real)) since the update before, all devices together: how much the
        discriminator overfits.
      images: seen since then.
      target: of `mean_sign`. Above it p grows, below it falls, but not below 0.
      images_to_one: in which p would go from 0 to 1; 100,000 after a resume.
    """
    return jnp.maximum(p + jnp.sign(mean_sign - target) * (images / images_to_one), 0.0)


def automatic_r1_weight(size: int, batch: int) -> float:
    """γ of R1 for images of `size`² where nobody tuned it; try ¼ to 4 times it."""
    return 0.0002 * size**2 / batch


def projection_rate(
    step: Number, steps: int, *, rate: float = 0.1, ramp_up: float = 0.05, ramp_down: float = 0.25
) -> jax.Array:
    """Adam's rate when an image is projected to W (StyleGAN2, 1912.04958, appendix D).

    Grows linearly over the first 5% of the steps, falls as a cosine over the last 25%.
    """
    t = step / steps
    down = jnp.minimum(1.0, (1 - t) / ramp_down)
    return rate * (0.5 - 0.5 * jnp.cos(np.pi * down)) * jnp.minimum(1.0, t / ramp_up)


def projection_noise(
    step: Number, steps: int, *, initial: float = 0.05, length: float = 0.75
) -> jax.Array:
    """Deviation of the noise on w while it is projected, in deviations of w."""
    return initial * jnp.square(jnp.maximum(0.0, 1 - step / steps / length))
