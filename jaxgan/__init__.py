"""jaxgan: a functional training toolkit for generative adversarial networks in JAX."""

__version__ = "0.1.0"
