"""Folders that are written once, by whichever process comes first, and read by all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock


def cache_folder(cache_dir: str | None, kind: str) -> Path:
    """Returns the folder for caches of a kind: the one given, or litspaces/<kind> in $XDG_CACHE_HOME or ~/.cache."""
    if cache_dir is not None:
        return Path(cache_dir).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "litspaces" / kind


def cached_folder(cache: Path, key: Any, write: Callable[[Path], None]) -> Path:
    """Returns the folder of a key, which `write` fills if no process has done so yet.

    Args:
        cache: folder for such folders; made if need be.
        key: JSON-plain; differs where the contents differ.
        write: called with an empty folder, by one process at a time.

    Raises:
        OSError: the folder cannot be written to.
    """
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
    folder = cache / name
    if not folder.is_dir():
        _make(cache)
        with FileLock(cache / f"{name}.lock"):
            if not folder.is_dir():
                _write_whole(folder, write)
    return folder


def _make(cache: Path) -> None:
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"cache_dir {str(cache)!r} cannot be made ({error.strerror}); give another") from None


def _write_whole(folder: Path, write: Callable[[Path], None]) -> None:
    """Writes under another name, so that whoever is killed leaves nothing that looks finished."""
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        write(unfinished)
        os.replace(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
