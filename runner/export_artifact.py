"""An exported model as an artifact of Weights & Biases."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from runner.errors import UserError
from runner.loggers import is_logged_in


def artifact_name(wanted: str | None, run: Path | None) -> str | None:
    """The name of the artifact that an export becomes; None for none.

    Args:
        wanted: what the user asked for.
        run: the folder of the run that is exported: one that W&B has online gets an artifact of the config's name.

    Raises:
        UserError: an artifact is wanted, and W&B is switched off.
        ValueError: the name is none that W&B takes.
    """
    if wanted is None:
        was_online = run is not None and any((run / "wandb").glob("run-*"))
        return run.parent.name if run is not None and was_online and is_logged_in() else None
    if os.environ.get("WANDB_MODE") == "disabled":
        raise UserError("--artifact with WANDB_MODE=disabled: set it to offline or online.")
    import wandb

    # Before anything is written.
    return wandb.Artifact(wanted, type="model").name


def log_artifact(folder: Path, name: str, run: Path | None, metadata: dict[str, Any]) -> str:
    """Logs a folder as an artifact of the run, or of a run of its own; offline, `wandb sync` uploads it later.

    Args:
        folder: the exported model.
        name: of the artifact.
        run: the folder of the run that was exported.
        metadata: what W&B shows beside the files.

    Returns:
        Where it is: an address, or the command that uploads it.
    """
    # Before the import: W&B would print its own summary.
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    offline = not is_logged_in()
    with wandb.init(
        project="litspaces",
        id=run.name if run else None,
        dir=run,
        job_type="export",
        mode="offline" if offline else "online",
        resume=None if offline else "allow",
        settings=wandb.Settings(console="off"),
    ) as started:
        # After it has begun: before, W&B isn't silent yet.
        artifact = wandb.Artifact(name, type="model", metadata=metadata)
        artifact.add_dir(str(folder))
        started.log_artifact(artifact)
    return f"wandb sync {Path(started.dir).parent}" if offline else str(started.url)
