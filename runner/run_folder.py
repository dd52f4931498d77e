"""A run's folder: `runs/<config>/<time>-<id>/`, never shared by two runs, found again to resume."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path

from filelock import FileLock, Timeout

from runner.errors import UserError, nearest

CHECKPOINTS = "checkpoints"
LAST = f"{CHECKPOINTS}/last.ckpt"
# Lightning starts the other processes of a run by running the same command again: they inherit the folder here.
INHERITED = "LITSPACES_RUN_FOLDER"


def create(parent: Path, name: str) -> Path:
    """Makes a new folder `parent/name/<time>-<id>`; two runs of the same second get two.

    Args:
        parent: usually `runs`.
        name: the config's name.
    """
    while True:
        folder = parent / name / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder


def resolve_checkpoint(wanted: str, parent: Path, name: str) -> Path:
    """Finds the checkpoint that `--ckpt_path` means.

    Args:
        wanted: `last` or `best` (of the newest run of this config that has one), or a path.
        parent: usually `runs`.
        name: the config's name.

    Raises:
        UserError: there is none.
    """
    if wanted not in ("last", "best"):
        return _existing(Path(wanted))
    for folder in sorted((parent / name).glob("*-*"), reverse=True):
        found = folder / LAST if wanted == "last" else best_checkpoint(folder)
        if found and found.is_file():
            return found
    raise UserError(f"--ckpt_path {wanted}: no run in {parent / name} has a checkpoint yet.")


def _existing(path: Path) -> Path:
    if path.is_file():
        return path
    if (path / LAST).is_file():
        return path / LAST
    siblings = [file.name for file in path.parent.glob("*.ckpt")] if path.parent.is_dir() else []
    raise UserError(f"there is no checkpoint {path}.{nearest(path.name, siblings)}")


def best_checkpoint(folder: Path) -> Path | None:
    """The run's best checkpoint: the only one beside last.ckpt."""
    others = [file for file in (folder / CHECKPOINTS).glob("*.ckpt") if file.name != "last.ckpt"]
    return max(others, key=lambda file: file.stat().st_mtime, default=None)


def folder_of(checkpoint: Path) -> Path | None:
    """The run folder that `checkpoint` can be continued in: its own, if it is that run's last.ckpt.

    An earlier checkpoint starts a new run instead: continuing in place would overwrite what came after it.
    """
    folder = checkpoint.resolve().parent.parent
    is_last = checkpoint.name == "last.ckpt" and (folder / "config.yaml").is_file()
    return folder if is_last else None


def lock(folder: Path) -> FileLock:
    """Takes the run folder for this process until it ends, however it ends.

    Raises:
        UserError: another process is writing there.
    """
    file_lock = FileLock(folder / ".lock")
    try:
        file_lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"another process is running in {folder}; resume when it has ended.") from None
    return file_lock


def write_atomically(path: Path, text: str) -> None:
    """Writes a small file so that a reader, or a kill, never sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
