"""The report of benchmarks.freeform: the cost of free losses, and both networks beside their twins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.reporting import Row, markdown_table, mean_and_spread, origin, plus_minus, seconds

FREE = "with FreeLosses"
WITHOUT = "written without it"
WITHOUT_CHEAP = "written without it, with log_step"
PLAIN = "plain PyTorch"
MOST_COST = 2.0  # percent of a step
LEAST_ACCURACY = 97.5  # percent


def write_report(
    out: Path, settings: str, cost: Sequence[Row], classifiers: Sequence[Row], autoencoders: Sequence[Row]
) -> str:
    """Write freeform.md into ``out``.

    Args:
        out: an existing folder.
        settings: what all runs share, in words.
        cost: with "contestant" and "seconds_per_step", the contestants' rounds in the same order.
        classifiers: with "method", "accuracy" in percent, "cpu_seconds" and the origin.
        autoencoders: the same with "error".

    Returns:
        The Markdown text.
    """
    parts = [
        "# Free losses: measured",
        "Written by `python -m benchmarks.freeform`; edits get lost.",
        "## Cost",
        cost_table(cost),
        f"Batches of 128, {len(_times(cost, FREE))} rounds. {cost_verdict(cost)} Measured {cost[0]['date']}"
        f" on {cost[0]['machine']}.",
        "## Quality on MNIST",
        quality_table(classifiers, "accuracy", "accuracy, %", 2),
        quality_table(autoencoders, "error", "squared error of a pixel", 5),
        f"Mean ± standard deviation over seeds, of 10,000 held-out digits. {accuracy_verdict(classifiers)}"
        f" {twins_verdict(autoencoders)}",
        f"All runs: {settings} {origin([*classifiers, *autoencoders])}",
    ]
    text = "\n\n".join(parts) + "\n"
    (out / "freeform.md").write_text(text)
    return text


def _times(rows: Sequence[Row], contestant: str) -> list[float]:
    return [float(row["seconds_per_step"]) for row in rows if row["contestant"] == contestant]


def cost_in_percent(rows: Sequence[Row], against: str) -> float:
    """What free losses add to a step: the median over rounds."""
    pairs = zip(_times(rows, FREE), _times(rows, against), strict=True)
    return 100 * (median(free / other for free, other in pairs) - 1)


def cost_table(rows: Sequence[Row]) -> str:
    """Milliseconds a step, and how much longer or shorter FreeLosses' is, in percent: medians over rounds."""
    lines = []
    for name in (FREE, WITHOUT_CHEAP, WITHOUT):
        cost = "" if name == FREE else f"{cost_in_percent(rows, name):+.2f}"
        lines.append([name, f"{1000 * median(_times(rows, name)):.3f}", cost])
    return markdown_table(["training step of a classifier", "ms a step", "cost of FreeLosses, %"], lines)


def cost_verdict(rows: Sequence[Row]) -> str:
    """The cost beside the same way of logging, against its target."""
    percent = cost_in_percent(rows, WITHOUT_CHEAP)
    target = f"target at most {MOST_COST:g} %: {_reached(percent <= MOST_COST)}"
    return f"Cost beside the same way of logging: {percent:.2f} %, {target}"


def quality_table(rows: Sequence[Row], column: str, title: str, digits: int) -> str:
    """A line for each method, in the order of the rows."""
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        lines.append([method, plus_minus([float(row[column]) for row in own], digits), seconds(own)])
    return markdown_table(["method", title, "CPU s a run"], lines)


def accuracy_verdict(rows: Sequence[Row]) -> str:
    """FreeformClassifier's accuracy against its target."""
    mean, _ = mean_and_spread([float(row["accuracy"]) for row in rows if row["method"] != PLAIN])
    target = f"target at least {LEAST_ACCURACY:g} %: {_reached(mean >= LEAST_ACCURACY)}"
    return f"Accuracy of FreeformClassifier: {mean:.2f} %, {target}"


def twins_verdict(rows: Sequence[Row]) -> str:
    """FreeformAutoencoder's error against its twin's: whether they differ by less than seeds do."""
    free, plain = (
        [float(row["error"]) for row in rows if (row["method"] == PLAIN) == is_plain] for is_plain in (False, True)
    )
    (mean, spread), (other, other_spread) = mean_and_spread(free), mean_and_spread(plain)
    difference, seeds = abs(mean - other), max(spread, other_spread)
    found = f"differ by {difference:.6f}, seeds by {seeds:.6f}: {_reached(difference <= seeds)}"
    return f"Errors of FreeformAutoencoder and its twin {found}"


def _reached(is_reached: bool) -> str:
    return "reached." if is_reached else "not reached."
