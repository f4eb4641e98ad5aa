"""jaxgen: image generators in JAX/Flax, exact to their papers."""

__version__ = '0.1.0'
