"""Feature networks for `GenerativeMetrics`: images in [-1, 1] in, one vector an image out."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

DIGIT_WEIGHTS = Path(__file__).with_name("mnist_features.safetensors")
_INCEPTION_PREFIX = "inception:"
_KNOWN = 'features="digits" (one channel), "inception:PATH" (three channels) or an nn.Module of your own'


class DigitFeatures(nn.Module):
    """Features of handwritten digits: the penultimate layer of a small classifier of MNIST.

    Five 3x3 convolutions and a dense layer, 167,000 parameters. The feature vector is the last batch norm's
    output, before the nonlinearity: every component has about mean 0 and variance 1 over MNIST's training
    digits, so a distance between feature statistics reads in units of the data's own spread.

    The shipped weights come from `python -m benchmarks.train_digit_features` (seed 0, first 50,000 of MNIST's
    60,000 training images); measured accuracy on the other 10,000: 99.48 %.

    Args:
        pretrained: load the shipped weights and freeze them: eval mode, no gradients.
    """

    num_features = 64
    size = 28

    def __init__(self, pretrained: bool = True) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            *_conv(1, 32, stride=1),
            *_conv(32, 32, stride=2),
            *_conv(32, 64, stride=1),
            *_conv(64, 64, stride=2),
            *_conv(64, 64, stride=2),
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, self.num_features, bias=False),
            nn.BatchNorm1d(self.num_features, affine=False),
        )
        self.head = nn.Linear(self.num_features, 10)
        if pretrained:
            self.load_state_dict(load_file(DIGIT_WEIGHTS))
            self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, 64), float32, of images (B, 1, H, W) in [-1, 1]; sizes other than 28 are resized.

        Raises:
            ValueError: the images have another number of channels than 1.
        """
        if images.ndim != 4 or images.shape[1] != 1:
            raise ValueError(
                f"DigitFeatures takes images of shape (B, 1, H, W), got {tuple(images.shape)}; there is {_KNOWN}"
            )
        images = images.float()
        if images.shape[-2:] != (self.size, self.size):
            images = _resize(images, self.size)
        features: Tensor = self.trunk(images)
        return features

    def classify(self, images: Tensor) -> Tensor:
        """Logits (B, 10) of the ten digits for images (B, 1, H, W) in [-1, 1]."""
        logits: Tensor = self.head(F.relu(self(images)))
        return logits


class InceptionFeatures(nn.Module):
    """The 2048 pool features of FID's Inception v3 through torch-fidelity, for RGB images.

    Args:
        weights_path: torch-fidelity's `weights-inception-2015-12-05-6726825d.pth`, which you have to download
            yourself: nothing here goes to the network.

    Raises:
        FileNotFoundError: there is no file at `weights_path`.
        ModuleNotFoundError: torch-fidelity is not installed (`pip install litspaces[inception]`).
    """

    num_features = 2048

    def __init__(self, weights_path: str | Path) -> None:
        super().__init__()
        if not Path(weights_path).is_file():
            raise FileNotFoundError(f"no file with Inception weights at {weights_path!s}")
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "Inception features need torch-fidelity: pip install litspaces[inception]"
            ) from error
        self.network = FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(weights_path)
        )
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, 2048), float32, of images (B, 3, H, W) in [-1, 1]; the network resizes them to 299.

        Raises:
            ValueError: the images have another number of channels than 3.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(
                f"InceptionFeatures takes images of shape (B, 3, H, W), got {tuple(images.shape)}; there is {_KNOWN}"
            )
        pixels = ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        features: Tensor = self.network(pixels)[0]
        return features.float()


def build_features(features: str | nn.Module) -> nn.Module:
    """The feature network that `features` names: "digits", "inception:PATH", or a module of your own.

    A module of your own takes images (B, C, H, W) in [-1, 1], gives vectors (B, F) and has an attribute
    `num_features`, F.

    Raises:
        ValueError: `features` is an unknown name, or a module without `num_features`.
    """
    if isinstance(features, nn.Module):
        if not isinstance(getattr(features, "num_features", None), int):
            raise ValueError(f"the feature network {type(features).__name__} needs an integer num_features")
        return features.eval().requires_grad_(False)
    if features == "digits":
        return DigitFeatures()
    if features.startswith(_INCEPTION_PREFIX):
        return InceptionFeatures(features.removeprefix(_INCEPTION_PREFIX))
    raise ValueError(f"unknown feature network {features!r}: there is {_KNOWN}")


def _conv(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


def _resize(images: Tensor, size: int) -> Tensor:
    # Antialiasing matters: FID moves with the resizing filter (Parmar et al. 2022, arXiv 2104.11222).
    return F.interpolate(images, size=(size, size), mode="bicubic", antialias=True).clamp(-1, 1)
