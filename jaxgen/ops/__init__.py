"""Floor 0: pure functions of arrays, no parameters."""
