"""Rows in an Arrow file."""

from pathlib import Path

import numpy as np

from datamodules.arrow_rows import ArrowRows, write_rows

TYPES = {"name": "string", "size": "int64", "numbers": "int32[]", "words": "string[]"}


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    """More than are written at once, with empty lists among them."""
    written = [
        {"name": str(row), "size": row, "numbers": np.arange(row % 7), "words": ["甲"] * (row % 3)}
        for row in range(2500)
    ]
    write_rows(tmp_path / "a", iter(written), TYPES)
    rows = ArrowRows(tmp_path / "a")
    assert len(rows) == 2500
    for row in [0, 1, 999, 1000, 1999, 2000, 2499]:
        assert [rows.value(name, row) for name in ("name", "size", "words")] == [str(row), row, ["甲"] * (row % 3)]
        assert rows.numbers("numbers", row).tolist() == list(range(row % 7))
    assert rows.column("size").tolist() == list(range(2500))
    assert rows.lengths("numbers").tolist() == [row % 7 for row in range(2500)]


def test_numbers_are_not_copied(tmp_path: Path) -> None:
    write_rows(tmp_path / "a", [{"name": "", "size": 0, "numbers": [1, 2], "words": []}], TYPES)
    numbers = ArrowRows(tmp_path / "a").numbers("numbers", 0)
    assert numbers.dtype == np.int32
    assert not numbers.flags.owndata
    assert not numbers.flags.writeable


def test_no_rows(tmp_path: Path) -> None:
    write_rows(tmp_path / "a", [], TYPES)
    rows = ArrowRows(tmp_path / "a")
    assert len(rows) == 0
    assert rows.column("size").tolist() == rows.lengths("words").tolist() == []
