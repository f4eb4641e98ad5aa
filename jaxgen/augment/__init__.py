"""Floor 1: augmentations as pure functions of (key, images, probability)."""
