"""The benchmark of progress bars draws on what it says, and reports the differences that it finds."""

from pathlib import Path

import pytest

from benchmarks import progress_bar as benchmark
from benchmarks.progress_bar import BARS, PLACES, STEPS, Cost

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
]


def test_a_terminal_is_one_and_a_file_is_none() -> None:
    with benchmark.terminal() as stream:
        assert stream.isatty()
    with benchmark.file() as stream:
        assert not stream.isatty()


@pytest.mark.parametrize("bar", BARS)
def test_a_bar_writes_and_the_steps_are_timed(bar: str) -> None:
    cost = benchmark.cost("file", bar, 0.002, 5)
    assert cost.seconds >= 0.002
    assert cost.processor > 0
    assert (cost.written > 0) == (bar != "none")


def test_the_report_shows_what_a_bar_adds() -> None:
    costs: benchmark.Costs = {}
    for place in PLACES:
        for number, bar in enumerate(BARS):
            for sleep in STEPS:
                rounds = [Cost(k + number * 1e-5, 2 * k + number * 2e-5, number) for k in (1, 2, 5)]
                costs[place, bar, sleep] = rounds
    lines = benchmark.report(costs, ["origin"]).splitlines()
    assert "| terminal | KerasProgressBar | 10 | 20 | 10 | 20 | - |" in lines
    assert "| file | RichProgressBar | 30 | 60 | 30 | 60 | 3.0 |" in lines
    assert not any("| none |" in line for line in lines)


@pytest.mark.slow
def test_quick_does_all_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.main(["--quick", "--out", str(tmp_path)])
    text = (tmp_path / "quick" / "progress_bar.md").read_text(encoding="utf-8")
    assert "these numbers mean nothing" in text
    assert text.count("KerasProgressBar") == len(PLACES)
    assert "KerasProgressBar" in capsys.readouterr().out


def test_rounds_are_at_least_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        benchmark.main(["--rounds", "0"])
    assert "--rounds: 0 must be at least 1" in capsys.readouterr().err
