"""A module that answers questions, and questions from a file, for what writes predictions."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn

from datamodules.loading import ShardedSampler


class Answers(LightningModule):
    """Says of each question its text and a number.

    Args:
        start: the number of the first weight; a checkpoint has its own.
        threshold: an argument that changes predictions.
        returns: what `predict_step` returns, "records", "several" (none to two for each question), or something wrong.
        step_seconds: how long a step sleeps, so that a test can interrupt it.
    """

    def __init__(
        self, start: float = 1.5, threshold: float = 0.5, returns: str = "records", step_seconds: float = 0.0
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="step_seconds")
        self.step_seconds = step_seconds
        self.weight = nn.Parameter(torch.tensor(start))

    def predict_step(self, batch: list[str], batch_idx: int) -> Any:
        time.sleep(self.step_seconds)
        records = [{"text": text, "答": [len(text), float(self.weight)]} for text in batch]
        several = [[record] * (len(text) % 3) for record, text in zip(records, batch, strict=True)]
        wrong = {"tensor": torch.zeros(2), "strings": batch, "tensors": [{"x": self.weight}] * len(batch)}
        wrong["nested"] = [[[record]] for record in records]
        return {"records": records, "several": several, "nan": [{"x": float("nan")}], "nothing": None, **wrong}[
            self.hparams["returns"]
        ]


class Questions(LightningDataModule):
    """The lines of a file, in global batches of which each process takes its contiguous part.

    Args:
        source: path of the file.
        batch_size: of each process.
    """

    def __init__(self, source: str, batch_size: int = 4) -> None:
        super().__init__()
        self.source = source
        self.batch_size = batch_size
        self.skip_predictions = 0

    def predict_dataloader(self) -> "Batches":
        lines = Path(self.source).read_text().splitlines()[self.skip_predictions :]
        return Batches(lines, self.batch_size)


class Unskippable(LightningDataModule):
    """The same without a way to begin later."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source

    def predict_dataloader(self) -> "Batches":
        return Batches(Path(self.source).read_text().splitlines(), 4)


class Batches:
    """Lists of lines; empty ones where a process has none of the last batch."""

    def __init__(self, lines: list[str], batch_size: int) -> None:
        self.lines = lines
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[list[str]]:
        if not self.lines:
            return
        distributed = torch.distributed.is_initialized()
        world = torch.distributed.get_world_size() if distributed else 1
        lines = [*self.lines, *[""] * max(0, world - len(self.lines))]
        sampler = ShardedSampler(len(lines), self.batch_size, shuffle=False, drop_last=False)
        for rows in sampler.batches():
            yield [lines[row] for row in rows.tolist() if lines[row]]


class Counted(Questions):
    """The same, with a loader that knows its length: Lightning begins nothing where that is 0."""

    def predict_dataloader(self) -> "CountedBatches":
        batches = super().predict_dataloader()
        return CountedBatches(batches.lines, batches.batch_size)


class CountedBatches(Batches):
    """Batches with a length, on one process."""

    def __len__(self) -> int:
        return -(-len(self.lines) // self.batch_size)
