"""Vectors of items in the file formats of word2vec, which gensim and many others read."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Literal

import lightning.pytorch as pl
from lightning.pytorch import Callback
from torch import Tensor

from callbacks.ema import averaged_weights
from callbacks.items import read_vectors
from callbacks.protocols import SupportsItemVectors, require
from callbacks.rank_zero import on_rank_zero
from callbacks.tables import run_folder, write_whole

Format = Literal["text", "binary"]
Spaces = Literal["error", "underscore"]
_FORMATS = {"text": "vectors.txt", "binary": "vectors.bin"}
_SPACES = ("error", "underscore")
# Rows copied from the device at a time.
_CHUNK = 4096


class Word2VecExport(Callback):
    """Writes the vectors of all items into the run's folder when training ends, for gensim's KeyedVectors and others.

    With `ExponentialMovingAverage` they are those of the averaged weights. The folder is the trainer's `log_dir`, or
    `default_root_dir`. `write_word2vec` says what the file looks like.

    Args:
        filename: name of the file, gzipped if it ends in .gz; None for "vectors.txt" or "vectors.bin".
        format: "text" or "binary".
        spaces: what to do with items that hold white space, which the formats cannot: "error" or "underscore".

    Raises:
        ValueError: an argument is out of its range, or (when training starts) the formats cannot hold the items.
    """

    def __init__(self, filename: str | None = None, format: Format = "text", spaces: Spaces = "error") -> None:
        if format not in _FORMATS:
            raise ValueError(f"format must be 'text' or 'binary', got {format!r}")
        _check_spaces(spaces)
        self.filename = filename or _FORMATS[format]
        self.format = format
        self.spaces = spaces
        self._folder = Path()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check that the module has vectors."""
        require(pl_module, SupportsItemVectors, self)
        self._folder = run_folder(trainer)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the items' names, which the module knows by now."""
        on_rank_zero(trainer, lambda: _written_names(read_vectors(pl_module, self)[0], self.spaces))

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file."""
        on_rank_zero(trainer, lambda: self._write(trainer, pl_module))

    def _write(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        with averaged_weights(trainer, pl_module):
            items, vectors = read_vectors(pl_module, self)
            # They may be the very weights, and must be written before the others come back.
            write_word2vec(self._folder / self.filename, items, vectors, self.format == "binary", self.spaces)


def write_word2vec(
    path: str | Path, items: Sequence[str], vectors: Tensor, binary: bool = False, spaces: Spaces = "error"
) -> None:
    """Write vectors in word2vec's format, gzipped if the path ends in .gz.

    A first line has the number of items and the dimension. Then come the items, each in UTF-8 with a space, its vector
    and a line feed: in text d numbers of 9 digits, which are the float32 ones exactly, or d little-endian float32. A
    file under the path's name is always complete.

    Args:
        path: of the file.
        items: N different names without white space.
        vectors: (N, d).
        binary: the binary format, 4 bytes a number, instead of text.
        spaces: "underscore" puts _ for each stretch of white space in an item.

    Raises:
        ValueError: an argument is out of its range; the message names the items that cannot be written.
    """
    _check_spaces(spaces)
    names = _written_names(items, spaces)
    if vectors.ndim != 2 or len(vectors) != len(names):
        raise ValueError(f"vectors must be ({len(names)}, d), a row for each item, got {tuple(vectors.shape)}")
    path = Path(path)

    def write(file: IO[bytes]) -> None:
        if path.suffix != ".gz":
            file.writelines(_lines(names, vectors, binary))
            return
        with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed:
            packed.writelines(_lines(names, vectors, binary))

    write_whole(path, write)


def _lines(names: Sequence[str], vectors: Tensor, binary: bool) -> Iterator[bytes]:
    number, dim = vectors.shape
    yield f"{number} {dim}\n".encode()
    pattern = " ".join(["%.9g"] * dim)
    for start in range(0, number, _CHUNK):
        rows = vectors[start : start + _CHUNK].detach().float().cpu().numpy().astype("<f4")
        for name, row in zip(names[start : start + _CHUNK], rows, strict=True):
            numbers = row.tobytes() if binary else (pattern % tuple(row.tolist())).encode()
            yield name.encode() + b" " + numbers + b"\n"


def _written_names(items: Sequence[str], spaces: Spaces) -> list[str]:
    """The items as they stand in a file.

    Raises:
        ValueError: one is empty or has white space, or two are the same.
    """
    names = [re.sub(r"\s+", "_", item) for item in items] if spaces == "underscore" else list(items)
    bad = [name for name in names if not name or re.search(r"\s", name)]
    if bad:
        raise ValueError(
            f"word2vec's formats hold no items that are empty or have white space, as {_some(bad)}"
            + (": write spaces='underscore'" if any(bad) else "")
        )
    twice = [name for name, number in Counter(names).items() if number > 1]
    if twice:
        raise ValueError(f"word2vec's formats hold each item once; there are more of {_some(twice)}")
    return names


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} others" if len(names) > 3 else "")


def _check_spaces(spaces: str) -> None:
    if spaces not in _SPACES:
        raise ValueError(f"spaces must be 'error' or 'underscore', got {spaces!r}")
