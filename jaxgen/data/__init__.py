"""Image data: prepared sets (`sources`), batches (`pipeline`), and the tools that prepare them."""
