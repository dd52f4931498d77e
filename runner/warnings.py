"""Warnings and tips of Lightning that say nothing to a user of this project."""

from __future__ import annotations

import logging
import warnings

KNOWN = [
    # A resumed run goes on in its own folder.
    r"Checkpoint directory .* exists and is not empty",
    # A checkpoint is evaluated, or begins a new run, in another folder than its own.
    r"The dirpath has changed from",
    # The in-memory loaders have no workers because they need none.
    r"The '.*' does not have many workers",
    # Shipped configs are small.
    r"The number of training batches .* is smaller than the logging interval",
    # Lightning 2.6 with torch 2.13.
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    # An optimizer that a config names is meant.
    r"`.*configure_optimizers` will be overridden by `RunCLI",
    # CPU runs are meant.
    r"GPU available but not used",
]


def quieten() -> None:
    """Filters them, by message: everything else is still shown."""
    for message in KNOWN:
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_tip)


def _is_no_tip(record: logging.LogRecord) -> bool:
    """Lightning's tips advertise services."""
    return "Tip:" not in record.getMessage()
