"""Side room: how arrays and steps lie on devices. Imports jax only."""
