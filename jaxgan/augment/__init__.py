"""Differentiable augmentations that the discriminator sees real and generated images through."""
