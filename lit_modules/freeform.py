"""Article 4: "make Keras cooler", free losses and metrics (Scientific Spaces, 2019-01-27).

Two networks whose losses and metrics are added where they arise, with ``add_loss`` and ``add_metric`` of
``parts.free_losses``, and not computed from an output and a target by what trains them.

    FreeformAutoencoder   784 -> 100 relu -> 784 sigmoid,   L = mean (x - x_hat)^2, no target
    FreeformClassifier    784 -> 100 relu -> 10,            L = cross-entropy, watching x_h_norm = E sum_j h_j^2

The classifier can have a narrow layer of features f before its last one and, as the example of a loss on an
intermediate layer that has parameters of its own, center loss:

    L = cross-entropy + w E 0.5 |f - c_y|^2,                with centers c that the same optimizer learns

Run it:     python run.py fit --config configs/freeform_autoencoder.yaml
            python run.py fit --config configs/freeform_classifier.yaml
            python run.py fit --config configs/freeform_classifier_center_loss.yaml
Expect:     see docs/freeform.md

Source: the article, and a later one of the same series for center loss (``parts.center_loss``).
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torchmetrics.classification import MulticlassAccuracy

from lit_modules.parts import optimizers
from lit_modules.parts.added_losses import add_loss, add_metric, collect
from lit_modules.parts.adversarial import check_name
from lit_modules.parts.base import BaseModule, batch_images
from lit_modules.parts.center_loss import CenterLoss
from lit_modules.parts.free_losses import FreeLosses
from lit_modules.parts.portable import Portable, images_like, portable_chain

__all__ = ["CenterLoss", "FreeLosses", "FreeformAutoencoder", "FreeformClassifier", "add_loss", "add_metric", "collect"]


class FreeformAutoencoder(FreeLosses, BaseModule):
    """An autoencoder of images in [0, 1] that is trained without a target.

    Args:
        image_size: side S of the images in pixels.
        channels: C, 1 for grey, 3 for color.
        hidden_dim: numbers d in the code.
        optimizer: class path of the optimizer.
        optimizer_args: its further arguments.
        learning_rate: of both networks.
        betas: of Adam and its kin; other optimizers don't get it.
        lr_schedule: "constant", or "linear" or "cosine" falling to 0 at the run's end.
        warmup_steps: steps in which the learning rate rises linearly first.
        compile: torch.compile both networks.
        encoder: a network of your own, images (B, C, S, S) to codes (B, d).
        decoder: a network of your own, codes (B, d) to images in [0, 1]. Networks passed from Python are not saved as
            hyper-parameters: pass them to ``load_from_checkpoint`` again.

    Raises:
        ValueError: an unknown name or an impossible value, naming it and the nearest right one.
    """

    def __init__(
        self,
        image_size: int = 28,
        channels: int = 1,
        hidden_dim: int = 100,
        optimizer: str = "torch.optim.Adam",
        optimizer_args: dict[str, Any] | None = None,
        learning_rate: float = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        lr_schedule: str = "constant",
        warmup_steps: int = 0,
        compile: bool = False,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        betas = [float(beta) for beta in betas]
        self.keep_hyperparameters("encoder", "decoder")
        _check_arguments(self.hparams)
        self._optimizer_args = optimizers.optimizer_arguments(optimizer, betas, optimizer_args or {})
        shape = channels, image_size, image_size
        self.encoder = encoder or _dense_encoder(shape, hidden_dim)
        self.decoder = decoder or nn.Sequential(
            nn.Linear(hidden_dim, prod(shape)), nn.Sigmoid(), nn.Unflatten(1, shape)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, S, S) to their reconstructions, adding the loss."""
        x_hat = self.decoder(self.encoder(x))
        if x_hat.shape != x.shape:
            raise ValueError(f"the decoder makes {tuple(x_hat.shape)}, the batch holds {tuple(x.shape)}")
        self.add_loss("reconstruction", mse_loss(x_hat, x))
        return x_hat

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Reconstruct a batch (images, ...): the loss is what that adds."""
        x = _images(self, batch)
        if self.global_step == 0:
            _warn_of_range(x)
        self(x)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log val/loss, the mean squared error of a pixel."""
        self(_images(self, batch))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Log test/loss."""
        self(_images(self, batch))

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The codes (B, d) of a batch."""
        return self.encode(_images(self, batch))

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Codes (B, d), float32, of images (B, C, S, S)."""
        return self.encoder(self.as_input(x)).float()

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Images (B, C, S, S) in [0, 1], float32, of codes (B, d)."""
        return self.decoder(self.as_input(z)).float()

    def reconstruct(self, x: Tensor) -> Tensor:
        """What becomes of images (B, C, S, S) on the way through the code."""
        return self.decode(self.encode(x))

    def portable_networks(self) -> dict[str, Portable]:
        """The encoder, images (B, C, S, S) to codes (B, d), and the decoder back."""
        return portable_chain(images_like(self.hparams), encoder=self.encoder, decoder=self.decoder)

    def setup(self, stage: str) -> None:
        """Compile the networks if asked to."""
        self.compile_if_asked(self.encoder, self.decoder)

    def configure_optimizers(self) -> Any:
        """One optimizer over both networks, and a scheduler that steps with it."""
        return self.optimizer_over({"model": (self, self.hparams["learning_rate"])}, self._optimizer_args)


class FreeformClassifier(FreeLosses, BaseModule):
    """A classifier of images that watches its hidden layer and can shape its features by center loss.

    Args:
        image_size: side S of the images in pixels.
        channels: C, 1 for grey, 3 for color.
        classes: number of classes.
        hidden_dim: width of the hidden layer h.
        feature_dim: width d of a linear layer of features after h; 0 for none, then h is the feature.
        center_loss_weight: w of the center loss on the features; 0 for none.
        optimizer: class path of the optimizer.
        optimizer_args: its further arguments.
        learning_rate: of all parameters, the centers included.
        betas: of Adam and its kin; other optimizers don't get it.
        lr_schedule: "constant", or "linear" or "cosine" falling to 0 at the run's end.
        warmup_steps: steps in which the learning rate rises linearly first.
        compile: torch.compile the networks.
        encoder: a network of your own, images (B, C, S, S) to h (B, hidden_dim).
        classifier: a network of your own, features (B, d) to logits (B, classes). Networks passed from Python are not
            saved as hyper-parameters: pass them to ``load_from_checkpoint`` again.

    Raises:
        ValueError: an unknown name or an impossible value, naming it and the nearest right one.
    """

    def __init__(
        self,
        image_size: int = 28,
        channels: int = 1,
        classes: int = 10,
        hidden_dim: int = 100,
        feature_dim: int = 0,
        center_loss_weight: float = 0.0,
        optimizer: str = "torch.optim.Adam",
        optimizer_args: dict[str, Any] | None = None,
        learning_rate: float = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        lr_schedule: str = "constant",
        warmup_steps: int = 0,
        compile: bool = False,
        encoder: nn.Module | None = None,
        classifier: nn.Module | None = None,
    ) -> None:
        super().__init__()
        betas = [float(beta) for beta in betas]
        self.keep_hyperparameters("encoder", "classifier")
        _check_arguments(self.hparams)
        self._optimizer_args = optimizers.optimizer_arguments(optimizer, betas, optimizer_args or {})
        features = feature_dim or hidden_dim
        self.encoder = encoder or _dense_encoder((channels, image_size, image_size), hidden_dim)
        self.feature = nn.Linear(hidden_dim, feature_dim) if feature_dim else nn.Identity()
        self.classifier = classifier or nn.Linear(features, classes)
        self.center_loss = CenterLoss(classes, features, center_loss_weight) if center_loss_weight else None
        self.accuracy = MulticlassAccuracy(classes, average="micro")

    def features(self, x: Tensor) -> Tensor:
        """Images (B, C, S, S) to features (B, d), watching the hidden layer."""
        h = self.encoder(x)
        self.add_metric("x_h_norm", h.float().square().sum(dim=1).mean())
        return self.feature(h)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, S, S) to logits (B, classes)."""
        return self.classifier(self.features(x))

    def _learn(self, x: Tensor, y: Tensor) -> Tensor:
        """Logits, adding the losses."""
        f = self.features(x)
        logits = self.classifier(f if self.center_loss is None else self.center_loss(f, y))
        self.add_loss("cross_entropy", cross_entropy(logits, y))
        return logits

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Classify a batch (images, labels): the loss is what that adds."""
        x, y = self._labeled(batch, batch_idx)
        logits = self._learn(x, y)
        self.add_metric("accuracy", (logits.argmax(dim=1) == y).float().mean())

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log val/loss and val/accuracy, of all processes' images together."""
        self._evaluate("val", *self._labeled(batch, batch_idx))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Log test/loss and test/accuracy."""
        self._evaluate("test", *self._labeled(batch, batch_idx))

    def _evaluate(self, split: str, x: Tensor, y: Tensor) -> None:
        self.accuracy(self._learn(x, y), y)
        self.log(f"{split}/accuracy", self.accuracy, on_step=False, on_epoch=True, prog_bar=True)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The classes (B,) of a batch."""
        return self(_images(self, batch)).argmax(dim=1)

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Features (B, d), float32, of images (B, C, S, S)."""
        return self.features(self.as_input(x)).float()

    def portable_networks(self) -> dict[str, Portable]:
        """The classifier, images (B, C, S, S) to logits (B, classes)."""
        classifier = nn.Sequential(self.encoder, self.feature, self.classifier)
        return portable_chain(images_like(self.hparams), classifier=classifier)

    def _labeled(self, batch: Any, batch_idx: int) -> tuple[Tensor, Tensor]:
        """Images and labels (B,) of a batch; labels are looked at in each epoch's first one."""
        x, y = _images(self, batch), batch[1] if isinstance(batch, (tuple, list)) and len(batch) > 1 else None
        classes = self.hparams["classes"]
        if y is None or (batch_idx == 0 and not 0 <= y.min() <= y.max() < classes):
            found = "none" if y is None else f"{int(y.min())} to {int(y.max())}"
            raise ValueError(
                f"the model takes labels from 0 to {classes - 1}, the batch holds {found}: set model.classes, or take"
                " other data"
            )
        return x, y

    def setup(self, stage: str) -> None:
        """Compile the networks if asked to."""
        self.compile_if_asked(self.encoder, self.feature, self.classifier)

    def configure_optimizers(self) -> Any:
        """One optimizer over all parameters, and a scheduler that steps with it."""
        return self.optimizer_over({"model": (self, self.hparams["learning_rate"])}, self._optimizer_args)


# ---- What both share ----


def _dense_encoder(shape: tuple[int, ...], hidden_dim: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(prod(shape), hidden_dim), nn.ReLU())


def _check_arguments(hp: Mapping[str, Any]) -> None:
    check_name("lr_schedule", hp["lr_schedule"], optimizers.SCHEDULES)
    least = {"image_size": 1, "channels": 1, "classes": 2, "hidden_dim": 1}
    least |= {"feature_dim": 0, "center_loss_weight": 0, "warmup_steps": 0}
    for name in least.keys() & hp.keys():
        if hp[name] < least[name]:
            raise ValueError(f"{name}={hp[name]} must be at least {least[name]}")


def _images(module: BaseModule, batch: Any) -> Tensor:
    hp = module.hparams
    return batch_images(batch, (hp["channels"], hp["image_size"], hp["image_size"]))


def _warn_of_range(x: Tensor) -> None:
    low, high = x.min().item(), x.max().item()
    if low < 0 or high > 1:
        rank_zero_warn(
            f"images from {low:g} to {high:g} cannot be reconstructed by a sigmoid, which gives 0 to 1: set"
            " data.value_range to unit"
        )
