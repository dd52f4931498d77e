"""What every GAN module does with its two networks: build, sample, decode, check its batches, log, validate.

Shapes: B batch, L latent dimensions, and (...) a sample's shape, (C, H, W) for images and (D,) for points.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from lit_modules.parts import noise, optimizers
from lit_modules.parts.adversarial import check_name
from lit_modules.parts.base import BaseModule
from lit_modules.parts.networks import (
    ConvDiscriminator,
    ConvGenerator,
    PointDiscriminator,
    PointGenerator,
    apply_spectral_norm,
)
from lit_modules.parts.portable import Portable, portable_chain

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


class GANModule(BaseModule):
    """A LightningModule with a ``generator`` (B, L) -> (B, ...) and a ``discriminator`` (B, ...) -> B raw
    scores.

    Batches are ``(samples, labels)`` or samples alone; labels are not used. A subclass saves its
    hyper-parameters, which include all arguments of :func:`default_networks` and ``spectral_norm``,
    ``power_iterations``, ``channels_last``, ``compile``, ``discriminator_lr``, ``generator_lr``,
    ``lr_schedule`` and ``warmup_steps``; then it calls ``check_arguments`` and ``set_networks``.
    """

    generator: nn.Module
    discriminator: nn.Module

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim

    # ---- Building ----

    def check_arguments(self, *counts: str) -> None:
        """Check what all GANs have, and that the hyper-parameters ``counts`` are at least 1.

        Raises:
            ValueError: one is not, naming it.
        """
        for name in ("latent_dim", *counts):
            if self.hparams[name] < 1:
                raise ValueError(f"{name}={self.hparams[name]} must be at least 1")
        if self.hparams["warmup_steps"] < 0:
            raise ValueError(f"warmup_steps={self.hparams['warmup_steps']} must not be negative")
        check_name("lr_schedule", self.hparams["lr_schedule"], optimizers.SCHEDULES)

    def set_networks(self, generator: nn.Module | None, discriminator: nn.Module | None) -> None:
        """Take these networks, or the default ones; normalize and lay them out as the hyper-parameters say."""
        hp = self.hparams
        if generator is None or discriminator is None:
            names = "network", "image_size", "channels", "dimensions", "latent_dim", "width"
            default = default_networks(**{name: hp[name] for name in names})
            generator, discriminator = generator or default[0], discriminator or default[1]
        self.generator, self.discriminator = generator, discriminator
        if hp["spectral_norm"]:
            apply_spectral_norm(self.discriminator, hp["power_iterations"])
        self.lay_out(self.generator, self.discriminator)

    def networks_and_rates(self) -> dict[str, tuple[nn.Module, float]]:
        """By name, each network and its learning rate."""
        return {
            "discriminator": (self.discriminator, self.hparams["discriminator_lr"]),
            "generator": (self.generator, self.hparams["generator_lr"]),
        }

    def setup(self, stage: str) -> None:
        """Compile the networks if asked to."""
        self.compile_if_asked(self.generator, self.discriminator)

    # ---- For the training step ----

    def fakes(self, z: Tensor, x_r: Tensor) -> Tensor:
        """x_f = G(z), (B, ...), in the type of the real samples: both reach D alike under mixed precision.

        Raises:
            ValueError: the generator makes samples of another shape than the batch holds.
        """
        x_f = self.generator(z.to(x_r.dtype)).to(x_r.dtype)
        if x_f.shape != x_r.shape:
            raise ValueError(f"the generator makes {tuple(x_f.shape)}, the batch holds {tuple(x_r.shape)}")
        return x_f

    def log_means(self, parts: list[dict[str, Tensor]]) -> None:
        """Log each quantity's mean over the parts of a step that have it and over ranks, in one exchange."""
        names = list(dict.fromkeys(name for part in parts for name in part))
        means = [torch.stack([part[name] for part in parts if name in part]).mean() for name in names]
        self.log_step(dict(zip(names, means, strict=True)), in_bar=("_loss",))

    # ---- Sampling ----

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
            return self.generator.forward(self.as_input(z)).float()
        finally:
            self.generator.train(was_training)

    def sample(self, n: int) -> Tensor:
        """``n`` new samples (n, ...) on the module's device, in the range of the training data.

        The noise comes from torch's random state: ``torch.manual_seed`` before a call repeats it.
        """
        return self.decode(self.latents(n))

    def portable_networks(self) -> dict[str, Portable]:
        """The generator, (B, L) to (B, ...), and the discriminator, (B, ...) to (B,)."""
        return portable_chain(self.latents(2), generator=self.generator, discriminator=self.discriminator)

    # ---- Batches ----

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
