"""What every GAN module does with its two networks: sample, decode, check its batches, validate.

Shapes: B batch, L latent dimensions, and (...) a sample's shape, (C, H, W) for images and (D,) for points.
"""

from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from lit_modules.parts import noise
from lit_modules.parts.adversarial import check_name
from lit_modules.parts.networks import ConvDiscriminator, ConvGenerator, PointDiscriminator, PointGenerator

NETWORKS = ("convolutional", "points")


def default_networks(
    network: str, *, image_size: int, channels: int, dimensions: int, latent_dim: int, width: int | None
) -> tuple[nn.Module, nn.Module]:
    """(generator, discriminator) of the kind ``network``, "convolutional" or "points".

    Raises:
        ValueError: unknown kind, or an image_size that the convolutions don't divide.
    """
    check_name("network", network, NETWORKS)
    if network == "points":
        width = width or 128
        return PointGenerator(dimensions, latent_dim, width), PointDiscriminator(dimensions, width)
    width = width or 24
    return (
        ConvGenerator(image_size, channels, latent_dim, width),
        ConvDiscriminator(image_size, channels, width),
    )


class GANModule(LightningModule):
    """A LightningModule with a ``generator`` (B, L) -> (B, ...) and a ``discriminator`` (B, ...) -> B raw
    scores.

    Batches are ``(samples, labels)`` or samples alone; labels are not used.
    """

    generator: nn.Module
    discriminator: nn.Module

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim

    def forward(self, z: Tensor) -> Tensor:
        """Latent rows (B, L) to samples (B, ...)."""
        return self.generator(z)

    def latents(self, n: int) -> Tensor:
        """``n`` latent rows (n, L) from N(0, I), drawn from torch's random state."""
        return torch.randn(n, self.latent_dim, device=self.device, dtype=cast(torch.dtype, self.dtype))

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Latent rows (n, L) to samples (n, ...), float32, by the generator in evaluation mode."""
        was_training = self.generator.training
        self.generator.eval()
        try:
            # The uncompiled forward: a callback's odd batch sizes would set the compiler off again and again.
            return self.generator.forward(z.to(device=self.device, dtype=cast(torch.dtype, self.dtype))).float()
        finally:
            self.generator.train(was_training)

    def sample(self, n: int) -> Tensor:
        """``n`` new samples (n, ...) on the module's device, in the range of the training data.

        The noise comes from torch's random state: ``torch.manual_seed`` before a call repeats it.
        """
        return self.decode(self.latents(n))

    def real_samples(self, batch: Any) -> Tensor:
        """The samples (B, ...) of a batch.

        Raises:
            ValueError: samples of another shape than the networks take, naming the arguments to set.
        """
        x: Tensor = batch[0] if isinstance(batch, (tuple, list)) else batch
        takes = getattr(self.discriminator, "input_shape", None) or getattr(self.generator, "output_shape", None)
        if takes is not None and tuple(x.shape[1:]) != tuple(takes):
            raise ValueError(_shape_message(tuple(x.shape[1:]), tuple(takes)))
        return x

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log val/d_real, the mean score of held-out samples: far below train/d_real, D has memorized."""
        self._log_real_score("val", batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Log test/d_real, the mean score of the test samples."""
        self._log_real_score("test", batch)

    def _log_real_score(self, split: str, batch: Any) -> None:
        x = self.real_samples(batch)
        score = self.discriminator.forward(x).float().mean()
        self.log(f"{split}/d_real", score, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(x))

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """As many new samples (B, ...) as the batch holds: others for each batch and on each rank."""
        generator = noise.keyed_generator(batch_idx, f"predict/{self.global_rank}")
        z = torch.randn(len(self.real_samples(batch)), self.latent_dim, generator=generator)
        return self.decode(z)


def _shape_message(got: tuple[int, ...], takes: tuple[int, ...]) -> str:
    names = "x".join(map(str, got)), "x".join(map(str, takes))
    message = f"the batch holds samples of shape {names[0]}, the model takes {names[1]}: "
    if len(got) == 3 and got[1] == got[2]:
        message += f"set model.image_size={got[1]} and model.channels={got[0]}"
        if len(takes) == 3:
            return message + f", or data.size={takes[1]} and data.channels={takes[0]}"
        return message + " and model.network=convolutional"
    if len(got) == 1:
        return message + f"set model.network=points and model.dimensions={got[0]}"
    return message + "images must be (channels, size, size) and points (dimensions,)"
