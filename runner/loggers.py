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


def run_loggers(folder: Path, config: dict[str, Any], wanted: Any) -> list[Logger]:
    """metrics.csv first, by which Lightning knows the run's folder, then W&B or what the config names instead.

    Args:
        folder: the run's folder.
        config: the complete configuration, shown by W&B.
        wanted: `trainer.logger` of the configuration: none or true for W&B, false for nothing more, or loggers.
    """
    if wanted is None or wanted is True:
        others = [] if os.environ.get("WANDB_MODE") == "disabled" else [_wandb(folder, config)]
    else:
        others = wanted if isinstance(wanted, list) else [wanted] if wanted else []
    return [MetricsCsv(folder), *others]


def _wandb(folder: Path, config: dict[str, Any]) -> Logger:
    # Before the import: W&B warns on the terminal about what Lightning passes to it.
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    offline = not is_logged_in()
    return WandbLogger(
        project="litspaces",
        name=f"{folder.parent.name}/{folder.name}",
        id=folder.name,
        save_dir=folder,
        offline=offline,
        # Offline, each start writes a folder of its own under the same id, and `wandb sync` joins them.
        resume=None if offline else "allow",
        config=config,
        settings=wandb.Settings(console="off"),
    )


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


def finish_wandb(exit_code: int) -> None:
    """Ends W&B's run, or the next one in this process would go on with it.

    Args:
        exit_code: of the run; W&B shows one that is not 0 as failed.
    """
    if wandb := sys.modules.get("wandb"):
        wandb.finish(exit_code=exit_code)
