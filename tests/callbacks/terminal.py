"""Terminals for tests: one that remembers its screen, one that is only said to be there."""

import io
import re
import sys
from typing import Any

import pytest
from rich.cells import cell_len

TOKEN = re.compile(r"\x1b\[(\d*)([A-Za-z])|[\r\n]|[^\r\n\x1b]+")


class FakeTerminal(io.StringIO):
    """A stream that says it is a terminal, of a given encoding."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return True


def attach(stream: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a stream stdout and stderr of a test; not in a fixture, because pytest sets them before the test's body."""
    for name in ("CI", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def screen(text: str, columns: int = 10_000) -> list[str]:
    """The rows of a terminal after `text`, without trailing spaces; a wide character takes two cells.

    Fails where the terminal would wrap a row, or does not know an escape code that is not for colors.
    """
    rows: list[list[str]] = [[]]
    at = 0
    for token in TOKEN.finditer(text):
        part = token.group()
        if part == "\r":
            at = 0
        elif part == "\n":
            # A terminal's line discipline adds the return; a bare newline of a test has none.
            rows, at = [*rows, []], 0
        elif part.startswith("\x1b"):
            assert token.group(2) == "m", part
        else:
            for character in part:
                at = _put(rows[-1], at, character)
                assert at <= columns, f"wraps: {part!r}"
    return ["".join(row).rstrip() for row in rows]


def _put(row: list[str], at: int, character: str) -> int:
    cells = cell_len(character)
    row += [" "] * (at + cells - len(row))
    row[at : at + cells] = [character, *[""] * (cells - 1)]
    return at + cells
