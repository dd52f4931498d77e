"""The report of benchmarks.relativistic_gan: both tables as Markdown, and FID against step as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.gan_quality_report import fid_section
from benchmarks.reporting import Row, markdown_table, origin, plus_minus, seconds


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
        parts += fid_section(out / "relativistic_gan_fid.png", digits[1], methods, digits[0])
    if modes[1]:
        parts += ["## 25 Gaussians", modes_table(modes[1], methods), modes[0], origin(modes[1])]
    text = "\n\n".join(parts) + "\n"
    (out / "relativistic_gan.md").write_text(text)
    return text


def modes_table(rows: Sequence[Row], methods: Sequence[str]) -> str:
    """Modes found and share of good samples, mean ± spread over seeds; CPU seconds of a run."""
    lines = []
    for method in methods:
        own = [row for row in rows if row["method"] == method]
        found = plus_minus([float(row["modes"]) for row in own])
        lines.append([method, found, plus_minus([100 * float(row["good"]) for row in own]), seconds(own)])
    return markdown_table(["method", "modes found (of 25)", "good samples (%)", "CPU s a run"], lines)
