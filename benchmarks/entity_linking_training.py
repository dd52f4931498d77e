"""Trains what benchmarks.entity_linking compares, and the word vectors that one of its rows takes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from benchmarks.entity_linking_tasks import LinkingTask
from benchmarks.runs import Advance, Results, bare_trainer, device_name, time_limit
from callbacks import ExponentialMovingAverage, NonFiniteGuard, Word2VecExport
from datamodules import EntityLinkingDataModule, TextDataModule
from lit_modules import EntityLinker, LibraryEmbedding

TEXT = "../shared/data/text/zh_modern.txt.gz"
SCORES = ("mention_precision", "mention_recall", "mention_f1", "linking_accuracy", "precision", "recall", "f1")
# Processes that make batches for an accelerator, at most.
_WORKERS = 12


class EpochCounter(Callback):
    """Advances a progress bar by epochs, and keeps what is measured after each of them."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self.measured: Results = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the scores."""
        self.measured.append({"epoch": trainer.current_epoch + 1, **scores(trainer.callback_metrics)})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count."""
        self._advance(1)


def scores(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The rounded scores of an evaluation."""
    return {name: round(float(metrics[f"val/{name}"]), 4) for name in SCORES}


def tune(task: LinkingTask, method: str, seed: int, advance: Advance) -> Results:
    """The scores on the validation part after each epoch."""
    counter = EpochCounter(advance)
    _fitted(task, method, seed, counter, check_val_every_n_epoch=1)
    return [row | {"device": device_name(task.device)} for row in counter.measured]


def train(task: LinkingTask, method: str, seed: int, advance: Advance) -> Results:
    """The scores on the validation part after the last step: one row."""
    # Never during the training: there is nothing to choose.
    never = {"check_val_every_n_epoch": task.steps + 1}
    trainer, model, data = _fitted(task, method, seed, EpochCounter(advance), **never)
    trainer.validate(model, datamodule=data, verbose=False)
    done = {"steps": trainer.global_step, "device": device_name(task.device)}
    return [scores(trainer.callback_metrics) | done]


def _fitted(
    task: LinkingTask, method: str, seed: int, counter: EpochCounter, **options: Any
) -> tuple[Trainer, EntityLinker, EntityLinkingDataModule]:
    seed_everything(seed, verbose=False)
    workers = 0 if task.device == "cpu" else min(_WORKERS, os.cpu_count() or 1)
    model, data = task.model(method), EntityLinkingDataModule(**task.data, num_workers=workers, seed=seed)
    averages = [] if task.decay is None else [ExponentialMovingAverage("", decay=task.decay)]
    if task.device == "gpu":
        torch.set_float32_matmul_precision("high")
    trainer = bare_trainer(
        [counter, NonFiniteGuard(), *averages],
        accelerator=task.device,
        devices=1,
        max_epochs=task.steps,
        max_time=time_limit(task.minutes),
        **options,
    )
    trainer.fit(model, datamodule=data)
    return trainer, model, data


def word_vectors(text: str, folder: Path, *, quick: bool) -> Path:
    """A file of word vectors that LibraryEmbedding (article 2) learns from a text; an earlier one is taken as it is.

    Args:
        text: a file of Chinese texts, gzipped or not.
        folder: for the file.
        quick: whether a few small ones will do.
    """
    path = folder / ("word_vectors_quick.txt" if quick else "word_vectors.txt.gz")
    if path.is_file():
        return path
    unfinished = path.with_name(f"unfinished_{path.name}")
    seed_everything(0, verbose=False)
    data = TextDataModule(
        text,
        segmenter="chinese",
        min_count=1 if quick else 5,
        window=5,
        batch_size=4096,
        val_fraction=0,
        cache_dir=str(folder),
    )
    model = LibraryEmbedding(
        "dot",
        dim=8 if quick else 100,
        tied=False,
        normalizer="negative",
        negatives=5,
        optimizer="lit_modules.parts.row_optimizers.RowAdagrad",
        learning_rate=0.2,
        initial_scale=0.006,
        lr_schedule="linear",
    )
    shown = {"enable_progress_bar": not quick, "default_root_dir": str(folder), "limit_val_batches": 0}
    bare_trainer([Word2VecExport(unfinished.name)], max_epochs=1 if quick else 5, **shown).fit(model, datamodule=data)
    os.replace(unfinished, path)
    return path
