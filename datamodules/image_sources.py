"""Finds out what an image source is, and opens it."""

import difflib
import os
from pathlib import Path

from datamodules.image_arrays import is_idx, open_embedded, open_idx, open_idx_folder, open_npz
from datamodules.image_files import open_folder, open_zip
from datamodules.image_hub import open_hub
from datamodules.pixels import ImageSource

_KINDS = "an IDX file (.gz or not), an .npz, a .zip, a folder, or hf:NAME"


def open_source(source: str) -> dict[str, ImageSource]:
    """Opens an image source without decoding images.

    Args:
        source: "embedded"; a path to an IDX file of images, a .npz, a zip or a folder of class folders, or a folder
            of IDX files; or "hf:" and the name or the local path of a Hugging Face data set.

    Returns:
        The split "train", and "test" where the source has one.

    Raises:
        FileNotFoundError: where there is no such thing; the message names the nearest one that there is.
        ValueError: where it is damaged, empty, or not of a known kind.
    """
    if source == "embedded":
        return open_embedded()
    if source.startswith("hf:"):
        return open_hub(source)
    path = Path(source).expanduser()
    if path.is_dir():
        return open_idx_folder(path) or open_folder(path)
    if not path.exists():
        raise FileNotFoundError(f"image source {source!r} does not exist{_nearest(path, source)}")
    if path.suffix == ".npz":
        return open_npz(path)
    if path.suffix == ".zip":
        return open_zip(path)
    if is_idx(path):
        return {"train": open_idx(path)}
    raise ValueError(f"image source {source!r} is of no known kind: give {_KINDS}, or 'embedded'")


def _nearest(path: Path, source: str) -> str:
    siblings = os.listdir(path.parent) if path.parent.is_dir() else []
    names = {str(path.with_name(name)): name for name in siblings}
    if matches := difflib.get_close_matches(source, ["embedded", *names], n=1, cutoff=0.7):
        return f"; did you mean {matches[0]!r}?"
    return f"; give 'embedded', the path of {_KINDS}"
