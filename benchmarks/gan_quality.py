"""What benchmarks of GANs on digits share: the task, and one training with the FID of its averaged generator."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import LightningModule, Trainer, seed_everything

from benchmarks.runs import Advance, Results, StepCounter, Task, trainer_of
from callbacks import ExponentialMovingAverage, GenerativeMetrics
from datamodules import ImageDataModule
from lit_modules.parts.gan import GANModule

STEPS = 1500


@dataclass(frozen=True, kw_only=True)
class GANTask(Task):
    """A task whose models are GANs.

    Attributes:
        every: steps from one evaluation to the next.
        note: a further setting in words.
        ema_decay: of the generator that is evaluated.
        reference: number of real images that generated ones are compared with; 0 where there are none.
    """

    every: int
    note: str = ""
    ema_decay: float = 0.99
    reference: int = 0

    def in_words(self) -> str:
        """All settings, for the report."""
        samples = f"{self.samples:,} samples of the generator, averaged with decay {self.ema_decay}"
        if self.reference:
            samples += f", against the first {self.reference:,} training images"
        parts = [f"All methods: {self.options_in_words()}", self.note, samples]
        return "; ".join(part for part in parts if part) + "."


def digits_task(
    images: str, steps: int, methods: Mapping[str, Callable[..., GANModule]], *, note: str = "", quick: bool = False
) -> GANTask:
    """Grey digits 28x28; the learning rate and batch of article 1's author, networks a quarter as wide."""
    shared = {"width": 16, "discriminator_lr": 2e-4, "generator_lr": 2e-4, "betas": (0.5, 0.999)}
    # A few held-out images make Lightning validate.
    data = {"source": images, "batch_size": 64, "val_fraction": 64}
    samples, reference = (500, 640) if quick else (5000, 9_984)
    return GANTask(
        steps=steps,
        every=min(250, steps),
        samples=samples,
        methods=methods,
        shared=shared,
        data=data,
        note=note,
        reference=reference,
    )


# ---- One training ----


class Digits(ImageDataModule):
    """ImageDataModule whose reference is the first ``reference`` training images (in whole batches), to save time."""

    def __init__(self, reference: int, **options: Any) -> None:
        super().__init__(**options)
        self._reference_batches = max(1, reference // self.batch_size)

    def reference_dataloader(self) -> Iterable[Any]:  # type: ignore[override]
        return itertools.islice(super().reference_dataloader(), self._reference_batches)


class Observer(StepCounter):
    """Advances a progress bar, and keeps the FID of each validation."""

    def __init__(self, advance: Advance) -> None:
        super().__init__(advance)
        self.fid: dict[int, float] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.fid[trainer.global_step] = float(trainer.callback_metrics["val/fid"])


def train_digits(task: GANTask, method: str, seed: int, advance: Advance) -> Results:
    """The FID at each evaluated step: rows with "step" and "fid"."""
    seed_everything(seed, verbose=False)
    observer = Observer(advance)
    callbacks = [
        ExponentialMovingAverage("generator", task.ema_decay),
        GenerativeMetrics(task.samples, metrics=["fid"]),
        observer,
    ]
    trainer = trainer_of(task, callbacks, val_check_interval=task.every, check_val_every_n_epoch=None)
    trainer.fit(task.model(method), Digits(task.reference, seed=seed, **task.data))
    return [{"step": step, "fid": round(fid, 3)} for step, fid in observer.fid.items()]
