"""Where the files are that come with the package."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).resolve().parent


def shipped(kind: str) -> Path:
    """The folder of the shipped `configs` or `sweeps`: beside the packages in a checkout, within runner installed."""
    return next((path for path in (HERE.parent / kind, HERE / kind) if path.is_dir()), HERE.parent / kind)
