"""Tables in a pipe."""

import pytest
from rich.table import Table

from runner.tables import table_console


def test_a_row_is_one_line_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("name", "value")
    table.add_row("a" * 90, "b" * 90)
    table_console().print(table)
    assert any("a" * 90 in line and "b" * 90 in line for line in capsys.readouterr().out.splitlines())
