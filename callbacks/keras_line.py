"""The text of a progress line as Keras 3 writes it; nothing here knows a Trainer, a terminal or what time it is.

" 234/1875 ━━━━━━━━━━━━━━━━━━━━ 12s 3ms/step - loss: 0.1234 - accuracy: 0.9876"
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

# The bar gives way to the values on a narrow terminal, but not below so many cells.
NARROWEST = 5
_ESCAPES = re.compile(r"\x1b\[\d*m")


@dataclass(frozen=True)
class Style:
    """What a stream can show: the characters of the bar, and whether escape codes may color it."""

    done: str = "━"
    tip: str = "━"
    rest: str = "─"
    more: str = "…"
    color: bool = False

    def bar(self, filled: int, width: int) -> str:
        """`filled` of `width` cells are done."""
        if self.color:
            return _colored(self.done * filled, "32") + _colored(self.done * (width - filled), "37")
        tip = self.tip if 0 < filled < width else self.done
        return self.done * (filled - 1) + tip * (filled > 0) + self.rest * (width - filled)

    def bold(self, text: str) -> str:
        """`text` in bold, on a stream that has it."""
        return _colored(text, "1") if self.color else text


UNICODE = Style()
COLORED = Style(color=True)
ASCII = Style(done="=", tip=">", rest=".", more="...")


@dataclass(frozen=True)
class Line:
    """One state of a progress line.

    Args:
        count: steps done.
        total: steps in all; None if nobody knows.
        seconds: the time left of a line that is under way and has a total, the time taken otherwise.
        pace: seconds a step.
        values: shown at the end, in this order.
        label: stands before the count.
        over: whether this is the last state of the line.
        width: cells of the bar.
    """

    count: int
    total: int | None
    seconds: float
    pace: float
    values: Mapping[str, float | str]
    label: str = ""
    over: bool = False
    width: int = 20

    def on_one_row(self, columns: int | None, style: Style) -> str:
        """The line cut down to `columns` cells (None: as long as it is), the bar first and then the last values."""
        pieces = self._pieces()
        if columns is None:
            return self._head(self.width, style) + "".join(pieces)
        spare = columns - visible(self._head(self.width, style) + "".join(pieces))
        bar = max(min(NARROWEST, self.width), self.width + min(spare, 0))
        text = self._head(bar, style)
        if visible(text) > columns:
            return set_cell_size(self._head(0, Style()), columns).rstrip()
        return text + _as_many_as_fit(pieces, columns - visible(text), style.more)

    def on_rows(self, columns: int | None, style: Style) -> list[str]:
        """The whole line, with all its values; it goes on in further rows where it is longer than `columns`."""
        head = self._head(self.width, style)
        if columns is not None and visible(head) > columns:
            head = self._head(0, style)
        rows, indent = [head], " " * visible(self._counter())
        for piece in self._pieces():
            if columns is not None and visible(rows[-1] + piece) > columns:
                rows.append(indent + piece)
            else:
                rows[-1] += piece
        return rows

    def _head(self, bar: int, style: Style) -> str:
        parts = [style.bold(self._counter())]
        if self.total and bar:
            parts.append(style.bar(bar * min(self.count, self.total) // self.total, bar))
        left = self.total is not None and not self.over
        parts.append(style.bold(clock(self.seconds) if left else f"{self.seconds:.0f}s"))
        return " ".join([*parts, pace(self.pace)])

    def _counter(self) -> str:
        label = f"{self.label} " if self.label else ""
        if self.total is None:
            return f"{label}{self.count:>7}/Unknown"
        return f"{label}{self.count:>{len(str(self.total))}}/{self.total}"

    def _pieces(self) -> list[str]:
        return [f" - {name}: {number(value)}" for name, value in self.values.items()]


def number(value: float | str) -> str:
    """A value with the digits that Keras gives it: 0.1234, 1.2340e-04."""
    if isinstance(value, str):
        return value
    return f"{value:.4f}" if abs(value) > 1e-3 else f"{value:.4e}"


def clock(seconds: float) -> str:
    """Time left: 12s, 2:05, 1:02:05."""
    whole = int(seconds)
    if whole > 3600:
        return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"
    return f"{whole // 60}:{whole % 60:02}" if whole > 60 else f"{whole}s"


def pace(seconds: float) -> str:
    """Time a step: 2s/step, 3ms/step, 40us/step."""
    if seconds >= 1 or seconds == 0:
        return f"{seconds:.0f}s/step"
    return f"{seconds * 1e3:.0f}ms/step" if seconds >= 1e-3 else f"{seconds * 1e6:.0f}us/step"


def visible(text: str) -> int:
    """Cells that a text takes in a terminal: 2 for a wide character, none for an escape code."""
    return cell_len(_ESCAPES.sub("", text))


def _as_many_as_fit(pieces: list[str], cells: int, more: str) -> str:
    """The first of the pieces, and a sign that there are others, in so many cells."""
    if visible("".join(pieces)) <= cells:
        return "".join(pieces)
    text = ""
    for piece in pieces:
        if visible(f"{text}{piece} {more}") > cells:
            break
        text += piece
    return f"{text} {more}" if visible(f"{text} {more}") <= cells else text


def _colored(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if text else ""
