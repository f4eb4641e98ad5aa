"""Metrics: pure numerics on arrays, with no model, data set or file in sight."""
