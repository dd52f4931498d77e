"""What benchmarks of autoencoders of digits share: the images, and how good a trained autoencoder is.

It is known by three functions only, so that ours and other libraries' are measured by the same code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from callbacks.feature_metrics import FeatureMetrics
from callbacks.features import DigitFeatures
from callbacks.normality import sliced_ks
from datamodules import ImageDataModule
from lit_modules.parts.samplers import CodeSampler

QUALITIES = (
    "reconstruction",
    "fid_reconstructions",
    "fid_samples",
    "fid_mixture",
    "fid_interpolations",
    "normality",
)
COMPONENTS = 10  # of the Gaussian mixture: RAE's and EAE's papers take 10 on MNIST
EXPLAINED = (
    "Reconstruction is the squared error summed over an image's 784 pixels, which are in [-1, 1]. FID compares as many"
    f" images as are held out with those that are. Mixture: samples from {COMPONENTS} Gaussians fitted to the training"
    " images' codes. Interpolations: decoded midpoints on the great circle between the codes of two held-out images."
    " Normality is the sliced Kolmogorov-Smirnov distance of held-out images' codes to N(0, I), about 0.009 for 10,000"
    " draws from it. A VAE's codes are drawn for mixture and normality, and are the means elsewhere."
)
Codes = Callable[[Tensor], Tensor]  # images (n, C, H, W) to codes (n, d), or codes to images
_BATCH = 1000


@dataclass(frozen=True)
class Split:
    """Images (n, 1, 28, 28) in [-1, 1] to train on, and others to judge by."""

    training: Tensor
    held_out: Tensor


@dataclass(frozen=True)
class Autoencoder:
    """A trained autoencoder in evaluation mode.

    Attributes:
        encode: images to codes; of a VAE, to their means.
        decode: codes to images.
        draw_codes: images to codes as the decoder was trained on them, a VAE's with noise.
    """

    encode: Codes
    decode: Codes
    draw_codes: Codes


def load_split(source: str, held_out: int, seed: int) -> Split:
    """The split that ``ImageDataModule(source, val_fraction=held_out, seed=seed)`` trains on."""
    data = ImageDataModule(source, val_fraction=held_out, seed=seed, batch_size=_BATCH)
    data.setup("fit")
    training = torch.cat([images for images, _ in data.reference_dataloader()])
    validation = data.val_dataloader()
    assert not isinstance(validation, list)
    return Split(training, torch.cat([data.on_after_batch_transfer(batch, 0)[0] for batch in validation]))


class Judge:
    """Measures autoencoders against real images, whose features are computed once.

    Args:
        real: images (n, 1, 28, 28) in [-1, 1].
        count: number of generated images in each comparison.
        seed: of codes, mixtures and pairs.
    """

    def __init__(self, real: Tensor, count: int, seed: int) -> None:
        self._network = DigitFeatures()
        self._fid = FeatureMetrics(["fid"], count, self._network.num_features, 1, torch.device("cpu"))
        self._fid.add_real(in_batches(self._network, real))
        self._fid.finish_real()
        self._count = count
        self._seed = seed

    def fid(self, images: Tensor) -> float:
        """Fréchet distance of images (n, 1, 28, 28) to the real ones."""
        self._fid.add_fake(in_batches(self._network, images))
        return float(self._fid.compute()["fid"])

    @torch.no_grad()
    def fid_of_samples(self, model: Autoencoder, dimensions: int) -> float:
        """Of what is decoded from N(0, I)."""
        torch.manual_seed(self._seed)
        return self.fid(in_batches(model.decode, torch.randn(self._count, dimensions)))


@torch.no_grad()
def evaluate(model: Autoencoder, split: Split, seed: int = 0) -> dict[str, float]:
    """All QUALITIES of a model, by name, against the held-out images."""
    images = split.held_out
    judge = Judge(images, len(images), seed)
    codes = in_batches(model.encode, images)
    restored = in_batches(model.decode, codes)
    values = {
        "reconstruction": (restored - images).square().flatten(1).sum(dim=1).mean().item(),
        "fid_reconstructions": judge.fid(restored),
        "fid_samples": judge.fid_of_samples(model, codes.shape[1]),
    }
    torch.manual_seed(seed)
    middles = midpoints(codes, codes[torch.randperm(len(codes))])
    sampler = CodeSampler(codes.shape[1], COMPONENTS)
    sampler.fit(in_batches(model.draw_codes, split.training))
    values["fid_mixture"] = judge.fid(in_batches(model.decode, sampler(len(images))))
    values["fid_interpolations"] = judge.fid(in_batches(model.decode, middles))
    values["normality"] = sliced_ks(in_batches(model.draw_codes, images)).item()
    return values


def midpoints(a: Tensor, b: Tensor) -> Tensor:
    """Codes (n, d) halfway from ``a`` to ``b`` (n, d): direction and length each halfway.

    The straight line's middle would be shorter than codes are: by a factor of 0.7 for two draws from N(0, I) in many
    dimensions.
    """
    direction = torch.nn.functional.normalize(a, dim=1) + torch.nn.functional.normalize(b, dim=1)
    length = (a.norm(dim=1) + b.norm(dim=1)) / 2
    return torch.nn.functional.normalize(direction, dim=1) * length[:, None]


def in_batches(function: Codes, rows: Tensor) -> Tensor:
    """``function`` of all rows, a thousand at a time."""
    return torch.cat([function(part) for part in rows.split(_BATCH)])
