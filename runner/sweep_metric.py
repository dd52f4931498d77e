"""What a run has logged of one metric, read from its metrics.csv while it grows."""

from __future__ import annotations

import csv
from pathlib import Path


class LoggedMetric:
    """Follows one column of `metrics.csv`.

    Args:
        folder: the `default_root_dir` of the run.
        name: of the metric.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._columns: list[str] = []
        self._offset = 0
        self._file = 0
        self.values: list[float] = []

    @property
    def columns(self) -> list[str]:
        """All that was logged, by name."""
        return [column for column in self._columns if column != "step"]

    def read(self) -> list[float]:
        """The values that were logged since the last call."""
        path = max(self._folder.glob("*/*/metrics.csv"), default=None)
        if path is None:
            return []
        known = len(self.values)
        with path.open("rb") as file:
            inode = path.stat().st_ino
            if inode != self._file:
                # Replaced by a file with more columns and the same rows: read from its start.
                self._file, self._offset, self._columns, self.values = inode, 0, [], []
            file.seek(self._offset)
            # A row that is being written has no end yet.
            whole = file.read().rpartition(b"\n")
        self._offset += len(whole[0]) + len(whole[1])
        self._take(whole[0].decode())
        return self.values[known:]

    def _take(self, text: str) -> None:
        rows = list(csv.reader(text.splitlines()))
        if rows and not self._columns:
            self._columns = rows.pop(0)
        if self._name in self._columns:
            position = self._columns.index(self._name)
            self.values += [float(row[position]) for row in rows if row[position]]
