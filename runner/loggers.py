"""The loggers of a run: metrics.csv, and Weights & Biases, offline unless the user is logged in."""

from __future__ import annotations

import netrc
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning.pytorch.loggers import Logger

from runner.metrics_csv import MetricsCsv


def default_loggers(folder: Path, config: dict[str, Any]) -> list[Logger]:
    """The loggers of a run whose config names none.

    Args:
        folder: the run's folder.
        config: the complete configuration, shown by W&B.
    """
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    offline = not is_logged_in()
    wandb_logger = WandbLogger(
        project="litspaces",
        name=f"{folder.parent.name}/{folder.name}",
        id=folder.name,
        save_dir=folder,
        offline=offline,
        # Offline, each start writes a folder of its own under the same id, and `wandb sync` joins them.
        resume=None if offline else "allow",
        config=config,
        settings=wandb.Settings(silent=True, console="off"),
    )
    return [MetricsCsv(folder), wandb_logger]


def is_logged_in() -> bool:
    """Whether W&B has a key or was told its mode; asking W&B itself could prompt."""
    if mode := os.environ.get("WANDB_MODE"):
        return mode == "online"
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def finish_wandb() -> None:
    """Ends W&B's run, or the next one in this process would go on with it."""
    if wandb := sys.modules.get("wandb"):
        wandb.finish()
