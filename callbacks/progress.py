"""A second line under the trainer's progress bar, for work that a callback does by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import lightning.pytorch as pl
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from callbacks.keras_progress_bar import KerasProgressBar


@contextmanager
def progress(trainer: pl.Trainer, description: str, total: int | None) -> Iterator[Callable[[int], object]]:
    """Show the progress of `total` units of work; call what this yields with the number of units just done.

    Nothing is shown where the trainer's own bar is off, or on ranks other than 0.
    """
    bar = trainer.progress_bar_callback
    if bar is None or getattr(bar, "is_disabled", False) or not trainer.is_global_zero:
        yield lambda done: None
    elif isinstance(bar, KerasProgressBar):
        with bar.stage(description, total) as advance:
            yield advance
    elif isinstance(bar, RichProgressBar):
        # Two live displays of rich would overwrite each other: add a line to the one there is.
        shown = bar.progress
        assert shown is not None, "the progress bar starts before a validation does"
        # Lightning's columns show infinity as an unknown total.
        task = shown.add_task(description, total=float("inf") if total is None else total)
        try:
            yield lambda done: shown.advance(task, done)
        finally:
            shown.remove_task(task)
    else:
        with Tqdm(desc=description, total=total, leave=False) as line:
            yield line.update
