"""The text of progress lines, word for word."""

import pytest

from callbacks.keras_line import ASCII, COLORED, UNICODE, Line, clock, number, pace, visible

VALUES = {"loss": 0.1234, "accuracy": 0.9876}
RUNNING = Line(234, 1875, seconds=12.4, pace=0.003, values=VALUES)
OVER = Line(1875, 1875, seconds=5.6, pace=0.003, values=VALUES, over=True)


def test_a_running_line() -> None:
    expected = " 234/1875 ━━────────────────── 12s 3ms/step - loss: 0.1234 - accuracy: 0.9876"
    assert RUNNING.on_one_row(None, UNICODE) == expected
    assert RUNNING.on_one_row(len(expected), UNICODE) == expected
    assert RUNNING.on_rows(None, UNICODE) == [expected]


def test_a_finished_line() -> None:
    expected = "1875/1875 ━━━━━━━━━━━━━━━━━━━━ 6s 3ms/step - loss: 0.1234 - accuracy: 0.9876"
    assert OVER.on_rows(None, UNICODE) == [expected]


def test_plain_characters() -> None:
    assert RUNNING.on_one_row(None, ASCII).split()[1] == "=>.................."
    assert OVER.on_one_row(None, ASCII).split()[1] == "===================="
    assert Line(0, 9, 0, 0, {}).on_one_row(None, ASCII) == "0/9 .................... 0s 0s/step"


def test_colors_are_those_of_keras() -> None:
    text = Line(1, 2, 1, 1, {}, width=4).on_one_row(None, COLORED)
    assert text == "\x1b[1m1/2\x1b[0m \x1b[32m━━\x1b[0m\x1b[37m━━\x1b[0m \x1b[1m1s\x1b[0m 1s/step"
    assert visible(text) == len("1/2 ━━━━ 1s 1s/step")


def test_an_unknown_total_and_a_label() -> None:
    assert Line(12, None, 3, 0.25, {}).on_one_row(None, UNICODE) == "     12/Unknown 3s 250ms/step"
    assert Line(3, 3, 1, 1, {}, "Validation", True, 4).on_one_row(None, UNICODE) == "Validation 3/3 ━━━━ 1s 1s/step"


@pytest.mark.parametrize("style", [UNICODE, COLORED, ASCII])
@pytest.mark.parametrize("line", [RUNNING, OVER, Line(1, None, 1, 1, {"損失": 1.0, "値": "x"}, "評価")])
def test_one_row_never_takes_more_cells_than_there_are(line: Line, style: object) -> None:
    for columns in range(1, 120):
        assert visible(line.on_one_row(columns, style)) <= columns  # type: ignore[arg-type]


def test_the_bar_gives_way_first_and_then_the_last_values() -> None:
    assert RUNNING.on_one_row(70, UNICODE) == " 234/1875 ━──────────── 12s 3ms/step - loss: 0.1234 - accuracy: 0.9876"
    assert RUNNING.on_one_row(61, UNICODE) == " 234/1875 ───── 12s 3ms/step - loss: 0.1234 …"
    assert RUNNING.on_one_row(30, UNICODE) == " 234/1875 ───── 12s 3ms/step …"
    assert RUNNING.on_one_row(26, UNICODE) == " 234/1875 12s 3ms/step"
    assert RUNNING.on_one_row(8, UNICODE) == " 234/187"


def test_wide_characters_take_two_cells() -> None:
    line = Line(1, 1, 0, 0, {"損失": 1.0, "精度": 1.0}, width=5, over=True)
    assert line.on_one_row(37, UNICODE) == "1/1 ━━━━━ 0s 0s/step - 損失: 1.0000 …"
    assert line.on_one_row(36, UNICODE) == "1/1 ━━━━━ 0s 0s/step …"


def test_a_line_that_stays_loses_nothing_on_a_narrow_terminal() -> None:
    assert OVER.on_rows(60, UNICODE) == [
        "1875/1875 ━━━━━━━━━━━━━━━━━━━━ 6s 3ms/step - loss: 0.1234",
        "          - accuracy: 0.9876",
    ]
    assert OVER.on_rows(25, UNICODE) == [
        "1875/1875 6s 3ms/step",
        "          - loss: 0.1234",
        "          - accuracy: 0.9876",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.12345, "0.1235"),
        (-2.0, "-2.0000"),
        (0.001, "1.0000e-03"),
        (1.234e-4, "1.2340e-04"),
        (0.0, "0.0000e+00"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        ("abc", "abc"),
    ],
)
def test_numbers_are_written_as_in_keras(value: float | str, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.9, "59s"), (60, "60s"), (125, "2:05"), (3600, "60:00"), (3725, "1:02:05")]
)
def test_time_left(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s/step"), (2.4, "2s/step"), (0.0026, "3ms/step"), (4e-5, "40us/step")]
)
def test_time_a_step(seconds: float, text: str) -> None:
    assert pace(seconds) == text
