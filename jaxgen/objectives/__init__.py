"""Floor 3: what a model is trained for: state, one training step, one evaluation step, sampling."""
