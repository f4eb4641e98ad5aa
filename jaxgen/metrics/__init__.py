"""Metrics: numbers from arrays, and the networks whose features they compare; no file in sight."""
