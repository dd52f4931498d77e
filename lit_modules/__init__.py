"""Lightning modules for articles of the blog Scientific Spaces, one file an article."""

from lit_modules.relativistic_gan import RelativisticGAN

__all__ = ["RelativisticGAN"]
