"""Pictures that come as files: a folder, or a zip, of class folders."""

import hashlib
import os
import zipfile
import zlib
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from datamodules.pixels import BadImageError, ImageSource, Stored

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_SPLITS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "test",
    "valid": "test",
    "validation": "test",
}


class FolderImages(ImageSource):
    """Picture files in a folder.

    Args:
        folder: the folder.
        files: the files' paths in it, with slashes.
        labels: number of each file's class.
    """

    def __init__(self, folder: Path, files: list[str], labels: list[int]) -> None:
        self._root = folder
        self._files = files
        self._labels = np.array(labels, np.int64)

    @property
    def labels(self) -> NDArray[np.int64]:
        return self._labels

    def __len__(self) -> int:
        return len(self._files)

    def name(self, row: int) -> str:
        return str(self._root / self._files[row])

    def load(self, row: int) -> Stored:
        try:
            return (self._root / self._files[row]).read_bytes()
        except OSError as error:
            raise BadImageError(f"cannot be read ({error.strerror})") from None

    def stamp(self) -> str:
        return hashlib.sha256("\n".join(self._files).encode()).hexdigest()


class ZipImages(FolderImages):
    """Picture files in a zip; it is opened when the first of them is asked for."""

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self._root)

    def close(self) -> None:
        if archive := vars(self).pop("_archive", None):
            archive.close()

    def name(self, row: int) -> str:
        return f"{self._root}: {self._files[row]}"

    def load(self, row: int) -> Stored:
        try:
            return self._archive.read(self._files[row])
        except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise BadImageError(f"cannot be unpacked ({error})") from None

    def stamp(self) -> str:
        status = self._root.stat()
        return f"{status.st_mtime_ns} {status.st_size}"


def open_folder(folder: Path) -> dict[str, ImageSource]:
    """Opens a folder of class folders, at any depth; the class of a file is the folder that it lies in.

    Raises:
        ValueError: where there are no pictures in it.
    """
    files = [
        (Path(parent) / name).relative_to(folder).as_posix()
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
    ]
    return _splits(folder, files, FolderImages)


def open_zip(path: Path) -> dict[str, ImageSource]:
    """Opens a zip of class folders like `open_folder`.

    Raises:
        ValueError: where it is damaged or holds no pictures.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            files = archive.namelist()
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: damaged zip file ({error})") from None
    return _splits(path, files, ZipImages)


def _splits(root: Path, files: list[str], kind: type[FolderImages]) -> dict[str, ImageSource]:
    """Sorts out the pictures: folders `train` and `test`, with nothing else beside them, are two splits."""
    pictures = sorted(name for name in files if _is_picture(PurePosixPath(name)))
    if not pictures:
        raise ValueError(f"{root} holds no images ({', '.join(sorted(SUFFIXES))})")
    depth = len(PurePosixPath(os.path.commonpath([os.path.dirname(name) for name in pictures])).parts)
    splits = [_SPLITS.get(PurePosixPath(name).parts[depth].lower()) for name in pictures]
    if set(splits) != {"train", "test"}:
        splits = ["train"] * len(pictures)
        classes = [os.path.dirname(name) for name in pictures]
    else:
        classes = ["/".join(PurePosixPath(name).parts[depth + 1 : -1]) for name in pictures]
    # Numbered over both splits, so that a class has one number. A single class is none.
    numbers = {name: number for number, name in enumerate(sorted(set(classes)))}
    labels = [numbers[name] if len(numbers) > 1 else -1 for name in classes]
    found: dict[str, ImageSource] = {}
    for split in ("train", "test"):
        members = [row for row, which in enumerate(splits) if which == split]
        if members:
            found[split] = kind(root, [pictures[row] for row in members], [labels[row] for row in members])
    return found


def _is_picture(path: PurePosixPath) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in SUFFIXES and not hidden
