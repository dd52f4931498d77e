"""The report of benchmarks.relativistic_gan: both tables as Markdown, and FID against step as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.reporting import Row, markdown_table, plot_curves, plus_minus

Curves = dict[str, dict[int, list[float]]]


def write_report(
    out: Path, digits: tuple[str, Sequence[Row]], modes: tuple[str, Sequence[Row]], methods: Sequence[str]
) -> str:
    """Write relativistic_gan.md and relativistic_gan_fid.png into ``out``.

    Args:
        out: an existing folder.
        digits: settings in words, and rows with "method", "seed", "step" and "fid".
        modes: settings in words, and rows with "method", "modes" and "good".
        methods: in the order of the tables.

    Returns:
        The Markdown text.
    """
    parts = ["# RelativisticGAN: measured", "Written by `python -m benchmarks.relativistic_gan`; edits get lost."]
    if digits[1]:
        curves = fid_curves(digits[1], methods)
        labels = {"x_label": "step", "y_label": "FID (digit features)", "title": "MNIST: mean and spread over seeds"}
        plot_curves(out / "relativistic_gan_fid.png", curves, **labels)
        picture = "![FID against step](relativistic_gan_fid.png)"
        parts += ["## FID on MNIST", digits_table(digits[1], methods), picture, digits[0], _origin(digits[1])]
    if modes[1]:
        parts += ["## 25 Gaussians", modes_table(modes[1], methods), modes[0], _origin(modes[1])]
    text = "\n\n".join(parts) + "\n"
    (out / "relativistic_gan.md").write_text(text)
    return text


def fid_curves(rows: Sequence[Row], methods: Sequence[str]) -> Curves:
    """For each method that has rows: step to the FIDs of all seeds."""
    curves: Curves = {}
    for method in methods:
        for row in rows:
            if row["method"] == method:
                curves.setdefault(method, {}).setdefault(int(row["step"]), []).append(float(row["fid"]))
    return curves


def digits_table(rows: Sequence[Row], methods: Sequence[str]) -> str:
    """FID, mean ± spread over seeds, at each evaluated step, and each seed's best; CPU seconds of a run."""
    curves = fid_curves(rows, methods)
    steps = sorted({int(row["step"]) for row in rows})
    lines = []
    for method, curve in curves.items():
        own = [row for row in rows if row["method"] == method]
        at_steps = [plus_minus(curve.get(step, []), 0 if step < steps[-1] / 3 else 1) for step in steps]
        lines.append([method, *at_steps, plus_minus(best_of_each_seed(own)), _seconds(own)])
    return markdown_table(["method", *(f"step {step:,}" for step in steps), "best", "CPU s a run"], lines)


def best_of_each_seed(rows: Sequence[Row]) -> list[float]:
    """The lowest FID among the steps of each seed."""
    seeds = sorted({row["seed"] for row in rows})
    return [min(float(row["fid"]) for row in rows if row["seed"] == seed) for seed in seeds]


def modes_table(rows: Sequence[Row], methods: Sequence[str]) -> str:
    """Modes found and share of good samples, mean ± spread over seeds; CPU seconds of a run."""
    lines = []
    for method in methods:
        own = [row for row in rows if row["method"] == method]
        found = plus_minus([float(row["modes"]) for row in own])
        lines.append([method, found, plus_minus([100 * float(row["good"]) for row in own]), _seconds(own)])
    return markdown_table(["method", "modes found (of 25)", "good samples (%)", "CPU s a run"], lines)


def _seconds(rows: Sequence[Row]) -> str:
    by_seed = {row["seed"]: float(row["cpu_seconds"]) for row in rows}
    return f"{sum(by_seed.values()) / len(by_seed):.0f}" if by_seed else "-"


def _origin(rows: Sequence[Row]) -> str:
    seeds, dates, machines = (sorted({row[name] for row in rows}) for name in ("seed", "date", "machine"))
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return f"Seeds {', '.join(seeds)}, measured {when} on {' and on '.join(machines)}."
