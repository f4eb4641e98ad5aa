"""Floor 5: metrics over a model and a data set."""
