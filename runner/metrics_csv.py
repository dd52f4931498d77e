"""`metrics.csv` of a run folder: every logged value, a row a step, whole after a kill and after a resume."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from runner.run_folder import write_atomically


class MetricsCsv(Logger):
    """Logs scalars to `<folder>/metrics.csv`, each row on disk at once.

    Lightning's CSVLogger buffers 100 rows and deletes what an earlier start of the same run wrote. Here the file
    only grows, except that `rewind` cuts off what a resumed run is going to log again.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self.path = folder / "metrics.csv"
        self._columns, self._rows = self._read()

    @property
    def name(self) -> str:
        """Empty: the folder's name says what was run."""
        return ""

    @property
    def version(self) -> str:
        """Empty, as the name."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run's folder; Lightning takes `trainer.log_dir` from here."""
        return str(self._folder)

    @property
    def num_rows(self) -> int:
        """How many rows the file has."""
        return self._rows

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The hyper-parameters stand in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Appends one row; a name that was never logged before adds a column."""
        values = {"step": step, **metrics}
        new = [name for name in values if name not in self._columns]
        if new:
            self._rewrite([*self._columns, *sorted(new)], self._rows)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns).writerow(values)
        self._rows += 1

    @rank_zero_only
    def rewind(self, num_rows: int) -> None:
        """Keeps the first `num_rows` rows.

        Args:
            num_rows: as many as were logged when the checkpoint was written that the run goes on from.
        """
        if num_rows < self._rows:
            self._rewrite(self._columns, num_rows)

    def _read(self) -> tuple[list[str], int]:
        if not self.path.is_file():
            return ["step"], 0
        with self.path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            return next(reader, ["step"]), sum(1 for _ in reader)

    def _rewrite(self, columns: list[str], num_rows: int) -> None:
        """Replaces the file by one with these columns and at most `num_rows` of its rows."""
        rows: list[dict[str, str]] = []
        if self.path.is_file():
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))[:num_rows]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, text.getvalue())
        self._columns, self._rows = columns, len(rows)
