"""Floor 1: flax.linen layers that two papers or more share."""
