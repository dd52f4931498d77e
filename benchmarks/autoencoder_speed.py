"""What benchmarks.autoencoder times of ours: the entropy term's share of a step, and whole trainings."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.autoencoder_report import (
    BATCH_SIZE,
    LATENT_DIM,
    OUR_EAE,
    OUR_VAE,
    TERM,
    WITH_TERM,
    WITHOUT_TERM,
)
from benchmarks.runs import bare_trainer
from datamodules import ImageDataModule
from lit_modules import EntropicAutoencoder
from lit_modules.parts.codes import CodeNorm
from lit_modules.parts.entropy import knn_entropy

TERM_REPEATS = 20
Tell = Callable[[], object]


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Progress bars and tables of libraries go nowhere."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


# ---- The entropy term ----


class StepEnds(Callback):
    """When each training step ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.times.append(time.perf_counter())


def fixed_batches(images: str, steps: int) -> DataLoader[Any]:
    """The first batches of a source, floats already, as often as it takes."""
    data = ImageDataModule(images, subset=4 * BATCH_SIZE, val_fraction=0, batch_size=BATCH_SIZE)
    data.setup("fit")
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]
    return DataLoader([batches[i % len(batches)] for i in range(steps)], batch_size=None)  # type: ignore[arg-type]


def seconds_per_step(network: str, regularizer: str, loader: DataLoader[Any]) -> float:
    """Of a fresh autoencoder with code norm under a bare Trainer, from its first step's end to its last's."""
    torch.manual_seed(0)
    model = EntropicAutoencoder(network=network, latent_dim=LATENT_DIM, regularizer=regularizer, code_norm=True)
    clock = StepEnds()
    trainer = bare_trainer([clock], max_epochs=1, limit_val_batches=0)
    trainer.fit(model, loader, [])
    return (clock.times[-1] - clock.times[0]) / (len(clock.times) - 1)


def seconds_of_term() -> float:
    """Of the entropy of one batch's codes, forward and backward, by itself; the median of TERM_REPEATS."""
    codes = CodeNorm(LATENT_DIM)(torch.randn(BATCH_SIZE, LATENT_DIM)).requires_grad_()
    seconds = []
    for _ in range(TERM_REPEATS):
        start = time.perf_counter()
        knn_entropy(codes).backward()
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def entropy_contestants(network: str, images: str, steps: int) -> dict[str, Callable[[], float]]:
    """Seconds of a step with the term and without it, and of the term."""
    loader = fixed_batches(images, 1 + steps)
    return {
        WITH_TERM: lambda: seconds_per_step(network, "entropy", loader),
        WITHOUT_TERM: lambda: seconds_per_step(network, "none", loader),
        TERM: seconds_of_term,
    }


# ---- Whole trainings ----


@dataclass(frozen=True)
class Setting:
    """What all contestants have in common.

    Attributes:
        network: "dense" or "convolutional".
        images: source of ImageDataModule.
        count: number of images, a multiple of the batch size.
        epochs: that are timed, after a first one that is not.
    """

    network: str
    images: str
    count: int
    epochs: int

    def data(self) -> ImageDataModule:
        """The images; none are kept for validation."""
        return ImageDataModule(self.images, subset=self.count, val_fraction=0, batch_size=BATCH_SIZE)

    def tensor(self) -> Tensor:
        """All images (count, 1, 28, 28) in [-1, 1]."""
        data = self.data()
        data.setup("fit")
        return torch.cat([images for images, _ in data.reference_dataloader()])


Contestant = Callable[[Setting, Tell], None]  # trains, and tells the end of each epoch


class EpochEnds(Callback):
    """Tells the end of each epoch."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._tell()


def ours(setting: Setting, tell: Tell, *, regularizer: str, precision: Any = "32-true", tuned: bool = False) -> None:
    """EntropicAutoencoder under a Trainer with Lightning's defaults: progress bar, CSV log, checkpoint each epoch."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"optimizer_args": {"fused": True}, "channels_last": True} if tuned else {}
    model = EntropicAutoencoder(regularizer=regularizer, network=setting.network, latent_dim=LATENT_DIM, **options)
    epochs = 1 + setting.epochs
    with tempfile.TemporaryDirectory() as folder:
        # Lightning's default logger, unless TensorBoard is installed.
        common = {"default_root_dir": folder, "logger": CSVLogger(folder), "callbacks": [EpochEnds(tell)]}
        trainer = Trainer(accelerator="cpu", max_epochs=epochs, precision=precision, **common)
        trainer.fit(model, datamodule=setting.data())


OURS: dict[str, Contestant] = {}
for name, regularizer in ((OUR_VAE, "kl"), (OUR_EAE, "entropy")):
    tuned = partial(ours, regularizer=regularizer, tuned=True)
    OURS[name] = partial(ours, regularizer=regularizer)
    OURS[f"{name}, tuned"] = tuned
    OURS[f"{name}, tuned, bf16-mixed"] = partial(tuned, precision="bf16-mixed")


def images_per_second(contestant: Contestant, setting: Setting) -> float:
    """Of a fresh training, from the end of its first epoch to that of its last: all that happens between counts."""
    ends: list[float] = []
    with silent():
        contestant(setting, lambda: ends.append(time.perf_counter()))
    assert len(ends) == 1 + setting.epochs
    return setting.count * setting.epochs / (ends[-1] - ends[0])


def speed_contestants(setting: Setting, contestants: Mapping[str, Contestant]) -> dict[str, Callable[[], float]]:
    """Images/s of each."""
    return {name: partial(images_per_second, contestant, setting) for name, contestant in contestants.items()}
