"""The report of benchmarks.entropic_autoencoder: all qualities of all methods, and how their weights were chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.autoencoder_quality import EXPLAINED, QUALITIES
from benchmarks.reporting import Row, markdown_table, origin, plus_minus, seconds

TITLES = {
    "reconstruction": "reconstruction error",
    "fid_reconstructions": "FID of reconstructions",
    "fid_samples": "of N(0, I) samples",
    "fid_mixture": "of mixture samples",
    "fid_interpolations": "of interpolations",
    "normality": "normality",
}


def write_report(
    out: Path,
    settings: str,
    rows: Sequence[Row],
    tuning: Sequence[Row],
    weights: Mapping[str, Sequence[float]],
) -> str:
    """Write entropic_autoencoder.md into ``out``.

    Args:
        out: an existing folder.
        settings: what all methods share, in words.
        rows: with "method", "seed", all QUALITIES, "cpu_seconds" and the origin.
        tuning: with "method" ("EAE, 0.3") and "fid_training".
        weights: those tried for each method.

    Returns:
        The Markdown text.
    """
    parts = [
        "# EntropicAutoencoder: measured",
        "Written by `python -m benchmarks.entropic_autoencoder`; edits get lost.",
        "## Quality on MNIST",
        quality_table(rows),
        f"Mean ± standard deviation over seeds; the number after a name is its weight. {EXPLAINED}",
        f"All methods: {settings} {origin(rows)}",
        "## How the weights were chosen",
        tuning_table(tuning, weights),
        "FID of N(0, I) samples to the training images after half as many steps, with one seed that is not used above."
        f" The lowest of a row was taken. {origin(tuning)}",
    ]
    text = "\n\n".join(parts) + "\n"
    (out / "entropic_autoencoder.md").write_text(text)
    return text


def quality_table(rows: Sequence[Row]) -> str:
    """A line for each method, in the order of the rows; CPU seconds are of training and evaluation."""
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        values = [plus_minus([float(row[name]) for row in own], 3 if name == "normality" else 1) for name in QUALITIES]
        lines.append([method, *values, seconds(own)])
    return markdown_table(["method", *(TITLES[name] for name in QUALITIES), "CPU s a run"], lines)


def tuning_table(rows: Sequence[Row], weights: Mapping[str, Sequence[float]]) -> str:
    """A line for each method with the FID for each weight; the lowest is bold."""
    fid = {row["method"]: float(row["fid_training"]) for row in rows}
    lines = []
    for name, tried in weights.items():
        values = [fid[f"{name}, {weight:g}"] for weight in tried]
        shown = [f"**{value:.1f}**" if value == min(values) else f"{value:.1f}" for value in values]
        lines.append([name, *(f"{weight:g}: {value}" for weight, value in zip(tried, shown, strict=True))])
    columns = range(1, 1 + max(map(len, weights.values())))
    return markdown_table(["method", *(f"weight {number}" for number in columns)], lines)
