"""Floor 1: losses as pure functions of callables and arrays."""
