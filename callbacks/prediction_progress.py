"""How far a file of predictions has got: records in a small file beside it, from which a killed run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import IO, NamedTuple

from callbacks.tables import write_whole


class Progress(NamedTuple):
    """What was done when a batch had been written.

    Attributes:
        inputs: that were predicted, all of them completely.
        lines: that they gave.
        end: of these lines in the file, in bytes.
    """

    inputs: int = 0
    lines: int = 0
    end: int = 0

    def record(self) -> bytes:
        """As a line of the file beside the predictions."""
        return b"%d %d %d\n" % self


def progress_path(path: Path) -> Path:
    """The file beside the predictions `path`."""
    return path.with_name(f"{path.name}.progress")


def read_progress(path: Path) -> Progress | None:
    """The last record that the predictions `path` are long enough for; None where there is no telling.

    The predictions may be longer: the rest is of a batch that was not finished. They may also have been cut, and then
    an earlier record holds.
    """
    if not path.exists():
        return Progress()
    size = path.stat().st_size
    try:
        records = progress_path(path).read_bytes().split(b"\n")[:-1]
        held = [progress for progress in map(_parsed, records) if progress.end <= size]
    except (OSError, ValueError):
        held = []
    last = held[-1] if held else None if size else Progress()
    return last if last and _ends_a_line(path, last.end) else None


def begin_progress(path: Path, progress: Progress) -> None:
    """Let records for the predictions `path` go on from this one."""

    def write(file: IO[bytes]) -> None:
        file.write(progress.record())

    write_whole(progress_path(path), write)


def _parsed(record: bytes) -> Progress:
    inputs, lines, end = map(int, record.split())
    return Progress(inputs, lines, end)


def _ends_a_line(path: Path, end: int) -> bool:
    if not end:
        return True
    with path.open("rb") as file:
        file.seek(end - 1)
        return file.read(1) == b"\n"
