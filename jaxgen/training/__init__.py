"""Floor 5: the loop, checkpoints, logs."""
