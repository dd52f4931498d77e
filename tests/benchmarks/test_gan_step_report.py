"""The report from made-up times: ratios, overhead, verdicts both ways, files."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.gan_step_report import (
    ARTICLE,
    BARE_ONE_PASS,
    ONE_PASS,
    TUTORIAL,
    Result,
    overhead_line,
    table,
    verdicts,
    write_report,
)
from benchmarks.reporting import read_rows


def _result(tutorial: list[float], article: list[float], single: list[float], bare: list[float], **of: Any) -> Result:
    seconds = {TUTORIAL: tutorial, ARTICLE: article, ONE_PASS: single, BARE_ONE_PASS: bare}
    memory = {TUTORIAL: 1234.5, ARTICLE: 10.0, ONE_PASS: None, BARE_ONE_PASS: 9.6}
    costs = {name: [(taken, 1000.0 * taken) for taken in times] for name, times in seconds.items()}
    return Result(**{"size": 64, "channels": 3, "loss": "sgan", "costs": costs, "memory": memory} | of)


def test_ratios_are_medians_over_rounds() -> None:
    # The ratio of the medians, 2 / 2, would be another.
    result = _result([2.0, 1.0, 9.0], [1.0, 1.0, 1.0], [0.5, 2.0, 3.0], [0.4, 1.6, 3.0])
    assert result.times_the_tutorial(ONE_PASS) == 3.0
    assert result.overhead() == pytest.approx(25.0)
    assert table(result).splitlines()[2:] == [
        "| tutorial | 2.0000 | 32.0 | 1.00 | 1,234 | 2,000 |",
        "| SingleLossGAN, article | 1.0000 | 64.0 | 2.00 | 10 | 1,000 |",
        "| SingleLossGAN, one_pass | 2.0000 | 32.0 | 3.00 | - | 2,000 |",
        "| one pass, bare loop | 1.6000 | 40.0 | 3.00 | 10 | 1,600 |",
    ]
    assert (
        overhead_line(result) == "Lightning's overhead (SingleLossGAN, one_pass, against one pass, bare loop): 25.00 %."
    )


@pytest.mark.parametrize(("loss", "least"), [("sgan", 1.25), ("rsgan", 1.5)])
def test_targets_are_judged_both_ways(loss: str, least: float) -> None:
    def words(factor: float, article: float, overhead: float) -> list[str]:
        own = 10 / (least * factor)
        lines = verdicts(_result([10.0], [10 / article], [own], [own / (1 + overhead / 100)], loss=loss))
        return [line.rsplit(", ", 1)[1] for line in lines]

    assert words(1.001, 0.996, 4.9) == ["reached."] * 3
    assert words(0.999, 0.994, 5.1) == ["not reached."] * 3
    assert words(1.001, 0.994, 4.9) == ["reached.", "not reached.", "reached."]


def test_other_sizes_and_settings_are_not_judged(tmp_path: Path) -> None:
    times = [1.0], [1.0], [1.0], [1.0]
    assert verdicts(_result(*times, size=28, channels=1)) == []
    assert "reached" not in write_report(tmp_path, "gan_step", [_result(*times)], [], judge=False)


def test_the_report_replaces_an_earlier_one(tmp_path: Path) -> None:
    for tutorial_seconds in (5.0, 2.0):
        results = [_result([tutorial_seconds], [2.0], [1.0], [1.0], loss=loss) for loss in ("sgan", "rsgan")]
        text = write_report(tmp_path / "new", "gan_step", results, ["On a machine."], judge=True)
    assert (tmp_path / "new" / "gan_step.md").read_text() == text
    assert "On a machine." in text
    assert "## 64x64, 3 channels, rsgan" in text
    assert "- SingleLossGAN, one_pass, target at least 1.5 times the tutorial: 2.000, reached." in text
    rows = read_rows(tmp_path / "new" / "gan_step.csv")
    assert [(row["loss"], row["contestant"]) for row in rows[3:5]] == [("sgan", BARE_ONE_PASS), ("rsgan", TUTORIAL)]
    assert [row["seconds_per_step"] for row in rows[:2]] == ["2.0", "2.0"]
    assert [row["page_faults_per_step"] for row in rows[:2]] == ["2000", "2000"]
    assert len(rows) == 8
