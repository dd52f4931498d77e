"""Text files, plain or gzipped, line by line; a mistake in one is named by file and line."""

from __future__ import annotations

import codecs
import glob
import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from datamodules.checks import nearest

LONGEST_LINE = 2**20
_GZIP = b"\x1f\x8b"


def find_files(source: str) -> list[Path]:
    """Returns the files that a path, a folder (with all below it that is not hidden) or a pattern stands for, sorted.

    Raises:
        FileNotFoundError: there are none; the message names the nearest name that there is.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        found = [file for file in path.rglob("*") if not _is_hidden(file.relative_to(path))]
    else:
        found = [Path(name) for name in glob.glob(str(path), recursive=True)]
    files = sorted(file for file in found if file.is_file())
    if not files:
        raise FileNotFoundError(f"text source {source!r} {_lack(path, source)}")
    return files


def file_key(path: Path) -> list[str | int]:
    """Returns what tells this file from others and from itself before an edit: path, bytes, time of the last change."""
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def read_lines(path: Path) -> Iterator[str]:
    """Yields the lines of a UTF-8 file, gzipped or not, without a byte order mark.

    Lines of more than a mebibyte come in pieces of about that size, cut at a space where there is one.

    Raises:
        ValueError: not UTF-8, or a damaged gzip file; the message names file and line.
        OSError: it cannot be read.
    """
    number, rest = 1, b""
    with open_bytes(path) as file:
        try:
            while piece := file.readline(LONGEST_LINE):
                line, rest = _cut(rest + piece)
                yield _decode(line, path, number)
                number += line.endswith(b"\n")
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path}, after line {number - 1}: damaged gzip file ({error})") from None
    if rest:
        yield _decode(rest, path, number)


def open_bytes(path: Path) -> BinaryIO:
    """Opens a file, gzipped or not, for reading."""
    with path.open("rb") as file:
        zipped = file.read(2) == _GZIP
    # A GzipFile has all of BinaryIO but its name.
    return cast(BinaryIO, gzip.open(path)) if zipped else path.open("rb")


def _cut(piece: bytes) -> tuple[bytes, bytes]:
    """Splits what is read of an overlong line where no word and no character is torn; others stay whole."""
    if len(piece) < LONGEST_LINE or piece.endswith(b"\n"):
        return piece, b""
    end = piece.rfind(b" ") + 1 or len(piece)
    if end == len(piece):
        # A character's later bytes are 10xxxxxx; the bytes of its start may be all there is of it here.
        end -= 1
        while end > 1 and piece[end] & 0xC0 == 0x80:
            end -= 1
    return piece[:end], piece[end:]


def _decode(line: bytes, path: Path, number: int) -> str:
    try:
        return (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}, line {number}: not UTF-8 (byte 0x{error.object[error.start]:02x}). Convert the file, "
            f"for instance with `iconv -f GB18030 -t UTF-8` where GB18030 is the encoding that it has"
        ) from None


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _lack(path: Path, source: str) -> str:
    if path.is_dir():
        return "has no files"
    if glob.has_magic(source):
        return "matches no file"
    siblings = os.listdir(path.parent) if path.parent.is_dir() else []
    otherwise = "; give 'docstrings', the path of a file or a folder, a pattern, or hf:NAME"
    return f"does not exist{nearest(path.name, ['docstrings', *siblings]) or otherwise}"
