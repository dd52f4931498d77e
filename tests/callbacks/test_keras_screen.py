"""Lines in a terminal, in a notebook and in a file; others may print meanwhile."""

import io
import logging
import sys
from collections.abc import Callable
from functools import partial
from typing import TextIO

import pytest

from callbacks import keras_screen
from callbacks.keras_line import ASCII, COLORED, UNICODE, Line
from callbacks.keras_screen import Screen, is_live, style_of
from tests.callbacks.terminal import FakeTerminal, attach, screen


def line(count: int, **values: float) -> Line:
    return Line(count, 9, 1, 1, values, over=True, width=9)


def text(count: int, values: str = "") -> str:
    return f"{count}/9 {'━' * 9} 1s 1s/step{values}"


def plain_text(count: int, values: str = "") -> str:
    return f"{count}/9 {'━' * count}{'─' * (9 - count)} 1s 1s/step{values}"


class NotebookStream(io.StringIO):
    """What a notebook's kernel puts in the place of stdout."""


NotebookStream.__module__ = "ipykernel.iostream"


def test_what_is_live(monkeypatch: pytest.MonkeyPatch) -> None:
    attach(FakeTerminal(), monkeypatch)
    assert is_live(FakeTerminal())
    assert is_live(NotebookStream())
    assert not is_live(io.StringIO())
    monkeypatch.setenv("CI", "true")
    assert not is_live(FakeTerminal())
    monkeypatch.setenv("CI", "false")
    monkeypatch.setenv("TERM", "dumb")
    assert not is_live(FakeTerminal())


def test_styles(monkeypatch: pytest.MonkeyPatch) -> None:
    attach(FakeTerminal(), monkeypatch)
    assert style_of(FakeTerminal()) is COLORED
    assert style_of(io.StringIO()) is UNICODE
    for encoding in ("ascii", "latin-1", "cp1252"):
        assert style_of(FakeTerminal(encoding)) is ASCII
    monkeypatch.setenv("NO_COLOR", "1")
    assert style_of(FakeTerminal()) is UNICODE


def test_a_line_is_updated_in_place_and_a_shorter_one_leaves_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = attach(FakeTerminal(), monkeypatch)
    board = Screen(terminal)
    board.show(line(1, loss=0.5))
    board.show(line(2))
    assert screen(terminal.getvalue()) == [text(2)]
    board.keep(line(9))
    board.keep("next")
    assert screen(terminal.getvalue()) == [text(9), "next", ""]


def test_what_others_print_goes_above_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = attach(FakeTerminal(), monkeypatch)
    board = Screen(terminal)
    board.show(line(1, loss=0.5))
    print("one", 1)
    print("two", file=sys.stderr)
    assert screen(terminal.getvalue()) == ["one 1", "two", text(1, " - loss: 0.5000")]
    board.keep(line(2))
    print("three")
    assert screen(terminal.getvalue()) == ["one 1", "two", text(2), "three", ""]


def test_what_others_log_goes_above_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = attach(FakeTerminal(), monkeypatch)
    handler, logger = logging.StreamHandler(), logging.getLogger("tests.callbacks.of_its_own")
    assert handler.stream is terminal
    monkeypatch.setattr(logger, "handlers", [handler])
    board = Screen(terminal)
    board.show(line(1))
    logger.warning("careful")
    assert screen(terminal.getvalue()) == ["careful", text(1)]
    board.keep(line(2))
    assert handler.stream is terminal


def test_an_unfinished_line_of_others_is_not_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = attach(FakeTerminal(), monkeypatch)
    board = Screen(terminal)
    board.show(line(1))
    print("loading ", end="")
    board.show(line(2))
    assert screen(terminal.getvalue()) == ["loading", text(2)]


def test_another_bar_in_the_same_row_may_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = attach(FakeTerminal(), monkeypatch)
    board = Screen(terminal)
    board.show(line(1))
    sys.stderr.write("\rGenerating: 10%")
    sys.stderr.write("\r               \r")
    board.show(line(2))
    assert screen(terminal.getvalue()) == [text(2)]


def test_the_standard_streams_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = attach(FakeTerminal(), monkeypatch)
    board = Screen(terminal)
    board.show(line(1))
    between = sys.stdout
    assert between is not terminal
    assert between.encoding == "utf-8"
    between.writelines(["a\n", "b\n"])
    board.clear()
    assert (sys.stdout, sys.stderr) == (terminal, terminal)
    # Whoever kept the stream can go on writing to it.
    between.write("c\n")
    assert screen(terminal.getvalue()) == ["a", "b", "c", ""]


def test_a_stream_that_was_put_over_ours_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = attach(FakeTerminal(), monkeypatch)
    board = Screen(terminal)
    board.show(line(1))
    theirs = io.StringIO()
    monkeypatch.setattr(sys, "stdout", theirs)
    board.keep(line(2))
    assert sys.stdout is theirs


def test_errors_that_go_to_a_file_leave_the_line_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = attach(FakeTerminal(), monkeypatch)
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    board = Screen(terminal)
    board.show(line(1))
    print("x", file=sys.stderr)
    assert file.getvalue() == "x\n"
    assert screen(terminal.getvalue()) == [text(1)]


@pytest.mark.parametrize("columns", [20, 40, 60])
def test_nothing_wraps(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = attach(FakeTerminal(), monkeypatch)
    monkeypatch.setenv("COLUMNS", str(columns))
    board = Screen(terminal)
    for count in range(9):
        board.show(line(count, 損失=0.5, accuracy=0.25, f1=0.5))
    # The last column stays free: some terminals wrap once it is written.
    assert len(screen(terminal.getvalue(), columns - 1)) == 1


@pytest.mark.parametrize(("stream", "bar"), [(NotebookStream(), text), (io.StringIO(), plain_text)])
def test_a_notebook_and_a_file_have_no_last_column(
    stream: TextIO, bar: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    Screen(stream).keep(line(1, loss=0.5))
    written = stream.getvalue()  # type: ignore[attr-defined]
    assert screen(written) == [bar(1, " - loss: 0.5000"), ""]


def test_a_file_gets_neither_returns_nor_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(keras_screen, "monotonic", lambda: now[0])
    file = io.StringIO()
    board = Screen(file)
    for second in range(70):
        now[0] = float(second)
        board.update(partial(line, second // 10))
    board.keep(line(9))
    board.clear()
    assert file.getvalue() == "".join(f"{plain_text(count)}\n" for count in (3, 6, 9))


def test_a_terminal_gets_20_updates_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = attach(FakeTerminal(), monkeypatch)
    now = [0.0]
    monkeypatch.setattr(keras_screen, "monotonic", lambda: now[0])
    board = Screen(terminal)
    for step in range(1000):
        now[0] = step / 1000
        board.update(lambda: line(1))
    assert terminal.getvalue().count("\r") == 20


def test_names_that_the_encoding_lacks_are_written_as_question_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = attach(FakeTerminal("ascii"), monkeypatch)
    Screen(terminal).keep(line(1, 損失=0.5))
    assert terminal.getvalue() == "\r1/9 >........ 1s 1s/step - ??: 0.5000\n"
