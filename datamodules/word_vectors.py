"""Word vectors from a file in one of word2vec's formats, read line by line; only those that are wanted are kept."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from datamodules.json_lines import existing_file
from datamodules.normalizing import normalize
from datamodules.text_files import open_bytes

_BLOCK = 2**20
_FLOAT = 4


def read_word_vectors(path: str | Path, wanted: Collection[str]) -> tuple[list[str], Tensor]:
    """Returns the words of a file that are wanted, and their vectors.

    The file is as word2vec writes it (and `Word2VecExport` and gensim), text or binary, gzipped or not: a line with
    the number of words and the dimension d, then each word with its vector. Text may lack the first line, as GloVe's
    does. Words are normalized as the texts are; of words that become the same, the first one counts, which is the most
    frequent in the usual order.

    Args:
        path: of the file.
        wanted: words in normalized form.

    Returns:
        V words, of which the first is "" (no word), and a float32 tensor (V, d), whose first row is 0.

    Raises:
        FileNotFoundError: there is no such file; the message names the nearest one.
        ValueError: the file is damaged or none of its words is wanted; the message says where.
    """
    path = existing_file(path, "word_vectors")
    words: dict[str, int] = {"": 0}
    vectors: list[np.ndarray] = []
    dim = 0
    try:
        for name, vector in _entries(path):
            dim = len(vector)
            word = normalize(name)
            if word in wanted and word not in words:
                words[word] = len(words)
                vectors.append(vector)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: damaged gzip file ({error})") from None
    if not vectors:
        raise ValueError(f"{path}: none of its words occurs in the knowledge base or the training texts")
    table = np.concatenate([np.zeros((1, dim), np.float32), np.stack(vectors)])
    if not np.isfinite(table).all():
        word = list(words)[int(np.argmin(np.isfinite(table).all(axis=1)))]
        raise ValueError(f"{path}: the vector of {word!r} is not finite")
    return list(words), torch.from_numpy(table)


def _entries(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yields each word of a file and its vector (d,), float32."""
    with open_bytes(path) as file:
        first, second = file.readline(), file.readline()
    header = _header(first)
    dim = header[1] if header else len(first.split()) - 1
    if dim < 1:
        raise ValueError(f"{path}, line 1: expected the number of words and the dimension, got {first[:80]!r}")
    with open_bytes(path) as file:
        if header:
            file.readline()
        if header and _numbers(second, dim) is None and not _is_readable(second):
            yield from _binary_entries(file, path, *header)
        else:
            yield from _text_entries(file, path, dim, header[0] if header else None)


def _text_entries(file: BinaryIO, path: Path, dim: int, count: int | None) -> Iterator[tuple[str, np.ndarray]]:
    number = 0
    for number, line in enumerate(file, start=1):
        vector = _numbers(line, dim)
        if vector is None:
            where = number + (count is not None)
            raise ValueError(f"{path}, line {where}: expected a word and {dim} numbers, got {line[:80]!r}")
        yield line.rstrip().rsplit(maxsplit=dim)[0].decode(errors="replace"), vector
    if count is not None and number != count:
        raise ValueError(f"{path}: line 1 says {count} words, but there are {number}")


def _binary_entries(file: BinaryIO, path: Path, count: int, dim: int) -> Iterator[tuple[str, np.ndarray]]:
    buffer, start = b"", 0
    for number in range(count):
        space = buffer.find(b" ", start)
        while space < 0 or len(buffer) < space + 1 + _FLOAT * dim:
            more = file.read(_BLOCK)
            if not more:
                raise ValueError(f"{path}: line 1 says {count} words, but the file ends in word {number + 1}")
            buffer, start = buffer[start:] + more, 0
            space = buffer.find(b" ")
        end = space + 1 + _FLOAT * dim
        yield (
            buffer[start:space].lstrip(b"\n").decode(errors="replace"),
            np.frombuffer(buffer[space + 1 : end], "<f4").astype(np.float32),
        )
        start = end


def _header(line: bytes) -> tuple[int, int] | None:
    """The number of words and the dimension, if this is what the line says."""
    fields = line.split()
    return (int(fields[0]), int(fields[1])) if len(fields) == 2 and all(map(bytes.isdigit, fields)) else None


def _numbers(line: bytes, dim: int) -> np.ndarray | None:
    """The last d numbers of a line that has a word before them, else None."""
    fields = line.rstrip().rsplit(maxsplit=dim)
    try:
        return np.array(fields[1:], np.float32) if len(fields) == dim + 1 else None
    except ValueError:
        return None


def _is_readable(line: bytes) -> bool:
    """Whether a line holds characters alone, as one of text does even if it is damaged."""
    try:
        return line.decode().rstrip("\r\n").isprintable()
    except UnicodeDecodeError:
        return False
