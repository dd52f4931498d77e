"""Where the tables go that callbacks make: CSV files of the run, and loggers."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import lightning.pytorch as pl

Cell = str | int | float


def run_folder(trainer: pl.Trainer) -> Path:
    """The trainer's `log_dir`, or `default_root_dir`; a collective call, which all ranks make."""
    return Path(trainer.log_dir or trainer.default_root_dir)


def publish_table(
    trainer: pl.Trainer, folder: Path, key: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]
) -> None:
    """Write a table as `folder/media/KEY-step=0000123.csv` and hand it to the loggers; on rank 0 only.

    Loggers: those with a `log_table(key, columns, data, step)`, as W&B's, or an experiment with `add_text`, as
    TensorBoard's.
    """
    step = trainer.global_step
    write_csv(folder / "media" / f"{key}-step={step:07d}.csv", columns, rows)
    for logger in trainer.loggers:
        _log(logger, key, columns, rows, step)


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Write a CSV file (UTF-8) with a line of column names; nobody ever sees half of it."""

    def write(file: IO[bytes]) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        csv.writer(text, lineterminator="\n").writerows([columns, *rows])
        text.detach()

    write_whole(path, write)


def write_whole(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Let `write` fill a file under another name first, and rename it once it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.tmp")
    try:
        with unfinished.open("wb") as file:
            write(file)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _log(logger: Any, key: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], step: int) -> None:
    if hasattr(logger, "log_table"):
        logger.log_table(key=key, columns=list(columns), data=[list(row) for row in rows], step=step)
    elif hasattr(getattr(logger, "experiment", None), "add_text"):
        logger.experiment.add_text(key, _markdown([columns, ["---"] * len(columns), *rows]), global_step=step)


def _markdown(rows: Sequence[Sequence[Cell]]) -> str:
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows)
