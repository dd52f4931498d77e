"""What reports on trained GANs share: FID at each step as a table and as a picture, CPU seconds, origin of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.reporting import Row, markdown_table, origin, plot_curves, plus_minus, seconds

Curves = dict[str, dict[int, list[float]]]


def fid_section(picture: Path, rows: Sequence[Row], methods: Sequence[str], settings: str) -> list[str]:
    """The report's paragraphs on FID: table, picture (which is drawn), settings and origin.

    Args:
        picture: a path in the report's folder.
        rows: with "method", "seed", "step" and "fid".
        methods: in the order of the table.
        settings: in words.
    """
    labels = {"x_label": "step", "y_label": "FID (digit features)", "title": "MNIST: mean and spread over seeds"}
    plot_curves(picture, fid_curves(rows, methods), **labels)
    image = f"![FID against step]({picture.name})"
    return ["## FID on MNIST", fid_table(rows, methods), image, settings, origin(rows)]


def fid_curves(rows: Sequence[Row], methods: Sequence[str]) -> Curves:
    """For each method that has rows: step to the FIDs of all seeds."""
    curves: Curves = {}
    for method in methods:
        for row in rows:
            if row["method"] == method:
                curves.setdefault(method, {}).setdefault(int(row["step"]), []).append(float(row["fid"]))
    return curves


def fid_table(rows: Sequence[Row], methods: Sequence[str]) -> str:
    """FID, mean ± spread over seeds, at each evaluated step, and each seed's best; CPU seconds of a run."""
    curves = fid_curves(rows, methods)
    steps = sorted({int(row["step"]) for row in rows})
    lines = []
    for method, curve in curves.items():
        own = [row for row in rows if row["method"] == method]
        at_steps = [plus_minus(curve.get(step, []), 0 if step < steps[-1] / 3 else 1) for step in steps]
        lines.append([method, *at_steps, plus_minus(best_of_each_seed(own)), seconds(own)])
    return markdown_table(["method", *(f"step {step:,}" for step in steps), "best", "CPU s a run"], lines)


def best_of_each_seed(rows: Sequence[Row]) -> list[float]:
    """The lowest FID among the steps of each seed."""
    seeds = sorted({row["seed"] for row in rows})
    return [min(float(row["fid"]) for row in rows if row["seed"] == seed) for seed in seeds]
