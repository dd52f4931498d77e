"""Pictures in Hugging Face data sets, and in the Arrow files that large sources of other kinds are turned into.

`datasets` is imported only when such a source is opened. The network is used only where a name is given that is no
local path.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.hub import load_splits
from datamodules.pixels import BadImageError, ImageSource, PixelFormat, Stored

if TYPE_CHECKING:
    import datasets


class HubImages(ImageSource):
    """Pictures of an Arrow table, memory-mapped.

    Args:
        table: the data set; its image column gives {"bytes", "path"}.
        source: name in messages.
        image: name of the image column.
        label: name of the label column, if there is one.
    """

    def __init__(self, table: datasets.Dataset, source: str, image: str, label: str | None) -> None:
        self.table = table
        self._source = source
        self.image = image
        self._label = label

    @property
    def labels(self) -> NDArray[np.int64]:
        if self._label is None:
            return np.full(len(self), -1, np.int64)
        return np.array([-1 if label is None else label for label in self.table[self._label][:]], np.int64)

    def __len__(self) -> int:
        return len(self.table)

    def name(self, row: int) -> str:
        stored = self.table[row][self.image]
        path = stored and stored["path"]
        return path if path and os.path.isabs(path) else f"{self._source}: {path or f'row {row}'}"

    def load(self, row: int) -> Stored:
        return _encoded(self.table[row][self.image])

    def load_all(self, rows: list[int]) -> list[dict[str, Any] | None]:
        """Returns {"bytes", "path"} of each of these pictures, in one access to the table."""
        return self.table[rows][self.image]

    def stamp(self) -> str:
        return str(self.table._fingerprint)


def _encoded(stored: dict[str, Any] | None) -> bytes:
    """Returns a picture's file, from the table itself or from where it says."""
    if stored is None:
        raise BadImageError("missing")
    if stored["bytes"] is not None:
        return stored["bytes"]
    try:
        return Path(stored["path"]).read_bytes()
    except OSError as error:
        raise BadImageError(f"cannot be read ({error.strerror})") from None


class PixelDataset(Dataset[tuple[Tensor, Tensor]]):
    """Rows of an Arrow table as pixels (C, H, W) uint8 and label, decoded when they are asked for.

    A picture that cannot be decoded comes as the BadImageError itself, which `collate` hands on:
    `ResumableDataLoader` raises it outside of the worker, with its message as it is.
    """

    def __init__(self, images: HubImages, rows: NDArray[np.int64], pixel_format: PixelFormat) -> None:
        self._images = images
        self._rows = rows
        self._labels = torch.from_numpy(images.labels[rows])
        self._format = pixel_format

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, Tensor]] | list[ValueError]:
        rows = self._rows[indices].tolist()
        items = []
        for row, index, stored in zip(rows, indices, self._images.load_all(rows), strict=True):
            try:
                pixels = self._format.convert(_encoded(stored))
            except ValueError as error:
                return [self._images.named(row, error)]
            items.append((torch.tensor(pixels), self._labels[index]))
        return items

    @staticmethod
    def collate(rows: list[Any]) -> tuple[Tensor, Tensor] | ValueError:
        """Stacks rows to images (B, C, H, W) and labels (B,)."""
        if isinstance(rows[0], ValueError):
            return rows[0]
        images, labels = zip(*rows, strict=True)
        return torch.stack(images), torch.stack(labels)


def open_hub(source: str) -> dict[str, ImageSource]:
    """Opens "hf:" and a local path (saved data set, folder, .parquet), a hub name, or NAME:CONFIGURATION.

    Raises:
        FileNotFoundError: where it cannot be found or loaded.
        ValueError: where it has no image column.
    """
    found = load_splits(source)
    train = found.get("train") or next(iter(found.values()))
    test = found.get("test") or found.get("validation")
    splits = {"train": _columns(train, source)}
    if test is not None and test is not train:
        splits["test"] = _columns(test, source)
    return splits


def _columns(table: datasets.Dataset, source: str) -> ImageSource:
    """Finds the image column by its type, and the labels: a column of classes, or integers called `label`."""
    import datasets

    features = table.features
    images = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    if not images:
        listing = ", ".join(f"{name} ({type(kind).__name__})" for name, kind in features.items())
        raise ValueError(f"data set {source!r} has no image column: it has {listing}")
    labels = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    if not labels and "int" in str(getattr(features.get("label"), "dtype", "")):
        labels = ["label"]
    table = table.cast_column(images[0], datasets.Image(decode=False))
    return HubImages(table, source, images[0], labels[0] if labels else None)


def to_arrow(images: ImageSource, source: str, split: str) -> HubImages:
    """Returns the same pictures as a memory-mapped table, written to the cache of `datasets` at the first call.

    Pictures in files of their own are not copied: the table then holds their paths.
    """
    import datasets

    if isinstance(images, HubImages):
        return images
    features = datasets.Features(
        {
            # A plain struct: `datasets.Image` would drop the bytes of a picture whose path happens to exist.
            "image": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
            "label": datasets.Value("int64"),
        }
    )
    place = source if source == "embedded" else os.path.abspath(os.path.expanduser(source))
    table = datasets.Dataset.from_generator(
        _records, features=features, gen_kwargs={"source": place, "split": split, "stamp": images.stamp()}
    )
    return HubImages(table, source, "image", "label")


def _records(source: str, split: str, stamp: str) -> Iterator[dict[str, Any]]:
    """Yields the rows of the table; `stamp` is part of the key that `datasets` finds the table by."""
    from datamodules.image_files import FolderImages, ZipImages
    from datamodules.image_sources import open_source

    images = open_source(source)[split]
    in_files = isinstance(images, FolderImages) and not isinstance(images, ZipImages)
    labels = images.labels
    for row in range(len(images)):
        path = images.name(row).removeprefix(f"{source}: ")
        yield {
            "image": {"bytes": None if in_files else _as_file(images, row), "path": path},
            "label": int(labels[row]),
        }


def _as_file(images: ImageSource, row: int) -> bytes:
    """Returns a picture as an encoded file, without loss; what cannot be read becomes an empty one."""
    try:
        stored = images.load(row)
    except BadImageError:
        return b""
    if isinstance(stored, bytes):
        return stored
    file = io.BytesIO()
    Image.fromarray(stored).save(file, "png", compress_level=1)
    return file.getvalue()


def bad_rows(images: HubImages, rows: NDArray[np.int64], pixel_format: PixelFormat) -> dict[int, str]:
    """Decodes all of these rows once (`datasets` keeps the result) and returns which cannot be, and why.

    Raises:
        ValueError: where a picture has another size than "keep" wants.
    """
    checked = images.table.select(rows).map(
        _check,
        batched=True,
        remove_columns=images.table.column_names,
        fn_kwargs={"image": images.image, "pixel_format": pixel_format},
    )
    found = {}
    for row, why, bad in zip(rows.tolist(), checked["why"][:], checked["bad"][:], strict=True):
        if why and not bad:
            raise images.named(row, ValueError(why))
        if why:
            found[row] = str(images.named(row, BadImageError(why)))
    return found


def _check(batch: dict[str, list[Any]], image: str, pixel_format: PixelFormat) -> dict[str, list[Any]]:
    errors: list[ValueError | None] = []
    for stored in batch[image]:
        try:
            pixel_format.convert(_encoded(stored))
        except ValueError as error:
            errors.append(error)
        else:
            errors.append(None)
    return {
        "why": [str(error or "") for error in errors],
        "bad": [isinstance(error, BadImageError) for error in errors],
    }
