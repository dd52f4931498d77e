"""Where a progress line stands: a terminal or a notebook, where it is updated in place, or a file, where it is not."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Any, TextIO, cast

from callbacks.keras_line import ASCII, COLORED, UNICODE, Line, Style, visible

# Seconds between two states of a line: where it is updated in place (Keras's value), and where each takes a line.
LIVE_INTERVAL, PLAIN_INTERVAL = 0.05, 30.0


def is_notebook(stream: TextIO) -> bool:
    """Whether a notebook's kernel made the stream."""
    return any(base.__module__.startswith("ipykernel") for base in type(stream).__mro__)


def is_live(stream: TextIO) -> bool:
    """Whether a line of the stream can be overwritten: in a terminal that is no dumb one, and in a notebook."""
    if is_notebook(stream):
        return True
    in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    return stream.isatty() and os.environ.get("TERM") != "dumb" and not in_ci


def style_of(stream: TextIO) -> Style:
    """The best that the stream's encoding can show."""
    try:
        "━─…".encode(_encoding(stream))
    except UnicodeEncodeError:
        return ASCII
    return COLORED if is_live(stream) and not os.environ.get("NO_COLOR") else UNICODE


class Screen:
    """Writes progress lines to one stream.

    While a line is shown, what others write to stdout or stderr, and log there, goes above it: both are replaced by
    streams that take the line away, write, and put it back.

    Args:
        stream: where to write.
    """

    def __init__(self, stream: TextIO) -> None:
        self.live = is_live(stream)
        self._stream = stream
        self._style = style_of(stream)
        self._text = ""
        self._cells = 0
        self._foreign_text = False
        self._watched: list[_Watched] = []
        self._next_update = 0.0 if self.live else monotonic() + PLAIN_INTERVAL

    def update(self, line: Callable[[], Line]) -> None:
        """Shows a line, or adds it to a file, if the last one is old enough."""
        now = monotonic()
        if now < self._next_update:
            return
        if self.live:
            self.show(line())
            self._next_update = now + LIVE_INTERVAL
        else:
            self.keep(line())

    def show(self, line: Line) -> None:
        """Makes this the current line, in place of the one before."""
        self._text = self._encodable(line.on_one_row(self._columns(), self._style))
        self._watch()
        self._draw()

    def keep(self, line: Line | str) -> None:
        """Writes lines that stay, in place of the current one."""
        self._unwatch()
        rows = [line] if isinstance(line, str) else line.on_rows(self._columns(), self._style)
        rows = [self._encodable(row) for row in rows]
        # What is left of the current line is overwritten with spaces, which every terminal knows.
        rows[0] += " " * max(0, self._cells - visible(rows[0]))
        self._write(self._to_the_left() + "\n".join(rows) + "\n")
        self._text, self._cells = "", 0
        self._next_update = 0.0 if self.live else monotonic() + PLAIN_INTERVAL

    def clear(self) -> None:
        """Takes the current line away."""
        self._unwatch()
        self._make_room()
        self._text = ""
        if self.live:
            self._next_update = 0.0

    def _draw(self) -> None:
        cells = visible(self._text)
        self._write(self._to_the_left() + self._text + " " * (self._cells - cells))
        self._cells = cells

    def _to_the_left(self) -> str:
        if self._foreign_text:
            self._foreign_text = False
            return "\n"
        return "\r" if self.live else ""

    def _make_room(self) -> None:
        if self._cells:
            self._write("\r" + " " * self._cells + "\r")
            self._cells = 0

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    def _columns(self) -> int | None:
        """One less than there are: a terminal may wrap after its last column. A notebook and a file have no end."""
        if not self.live or is_notebook(self._stream):
            return None
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns
        except OSError:
            columns = 0
        return max(1, (columns or int(os.environ.get("COLUMNS") or 80)) - 1)

    def _encodable(self, text: str) -> str:
        encoding = _encoding(self._stream)
        return text.encode(encoding, "replace").decode(encoding)

    # ---- What others write ----

    def _watch(self) -> None:
        if self._watched:
            return
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is self._stream or is_live(stream):
                self._watched.append(_Watched(name, stream, self))

    def _unwatch(self) -> None:
        while self._watched:
            self._watched.pop().remove()

    def write_above(self, stream: TextIO, text: str) -> int:
        """Writes another's text above the current line, which comes back once the text has ended its own."""
        if not self._watched:
            return stream.write(text)
        self._make_room()
        written = stream.write(text)
        if text:
            self._foreign_text = not text.endswith(("\n", "\r"))
        if text.endswith("\n"):
            stream.flush()
            self._draw()
        return written


@dataclass(eq=False)
class _Watched:
    """`sys.stdout` or `sys.stderr` while a line is shown; all but writing is the replaced stream's."""

    name: str
    stream: TextIO
    screen: Screen

    def __post_init__(self) -> None:
        setattr(sys, self.name, self)
        # Lightning's log goes to the stream that was there when it was imported.
        self._pass(self.stream, cast(TextIO, self))

    def remove(self) -> None:
        # Somebody may have replaced it in turn; then it goes on as a stream that only passes on.
        if getattr(sys, self.name) is self:
            setattr(sys, self.name, self.stream)
        self._pass(cast(TextIO, self), self.stream)

    @staticmethod
    def _pass(old: TextIO, new: TextIO) -> None:
        for logger in [logging.root, *logging.root.manager.loggerDict.values()]:
            for handler in getattr(logger, "handlers", []):
                # One that looks for its stream each time it writes has none to set.
                if isinstance(handler, logging.StreamHandler) and vars(handler).get("stream") is old:
                    handler.setStream(new)

    def write(self, text: str) -> int:
        return self.screen.write_above(self.stream, text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _encoding(stream: TextIO) -> str:
    return getattr(stream, "encoding", None) or "utf-8"
