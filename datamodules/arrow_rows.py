"""Rows of numbers and texts in an Arrow file: written a part at a time, memory-mapped when read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROWS = 1000


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], types: Mapping[str, str]) -> None:
    """Writes rows into an Arrow file, a thousand at a time.

    Args:
        path: of the file.
        rows: each has a value for every column.
        types: of the columns, by their names: Arrow's name of a type, with "[]" behind it for lists.
    """
    import pyarrow as pa

    schema = pa.schema([(name, _type(kind)) for name, kind in types.items()])
    left = iter(rows)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        while part := list(islice(left, _ROWS)):
            writer.write_batch(pa.RecordBatch.from_pylist(part, schema))


def _type(kind: str) -> Any:
    import pyarrow as pa

    if kind.endswith("[]"):
        return pa.list_(pa.type_for_alias(kind.removesuffix("[]")))
    return pa.type_for_alias(kind)


class ArrowRows:
    """The rows of an Arrow file, N of them; of what is not asked for nothing is read.

    Args:
        path: written by `write_rows`.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        # Pages are read when they are touched, and shared by all processes of a machine.
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        self._parts: list[Any] = table.to_batches()
        self._starts = np.cumsum([0, *(part.num_rows for part in self._parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def value(self, column: str, row: int) -> Any:
        """Returns a value as Python has it."""
        part, number = self._place(row)
        return part.column(column)[number].as_py()

    def numbers(self, column: str, row: int) -> NDArray[Any]:
        """Returns a list of numbers, (L,), without copying it."""
        part, number = self._place(row)
        found = part.column(column)
        start, end = found.offsets[number].as_py(), found.offsets[number + 1].as_py()
        return np.asarray(found.values[start:end].to_numpy(zero_copy_only=True))

    def column(self, name: str) -> NDArray[Any]:
        """Returns a column of numbers, (N,)."""
        return np.concatenate([np.zeros(0, np.int64), *(part.column(name).to_numpy() for part in self._parts)])

    def lengths(self, column: str) -> NDArray[np.int64]:
        """Returns how long each list of a column is, (N,)."""
        return np.concatenate([np.zeros(0, np.int64), *self._lengths(column)])

    def _lengths(self, column: str) -> Iterator[NDArray[Any]]:
        for part in self._parts:
            yield np.diff(part.column(column).offsets.to_numpy())

    def _place(self, row: int) -> tuple[Any, int]:
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._parts[part], row - int(self._starts[part])
