"""What benchmarks share: a CSV that grows run by run, Markdown tables of mean ± spread, curves, the machine's kind."""

from __future__ import annotations

import csv
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure

Row = dict[str, str]


def read_rows(path: Path) -> list[Row]:
    """The rows of a CSV by column name; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append_rows(path: Path, new: Sequence[Mapping[str, object]]) -> None:
    """Add rows to a CSV in one piece: whoever is killed while writing leaves the old file or the new one.

    Raises:
        ValueError: the file has other columns than the new rows.
    """
    old = read_rows(path)
    columns = list(new[0])
    if old and list(old[0]) != columns:
        raise ValueError(f"{path!s} has the columns {', '.join(old[0])}, but the new rows {', '.join(columns)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*old, *new])
    os.replace(temporary, path)


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation over seeds; the latter is 0 for one value."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def plus_minus(values: Sequence[float], digits: int = 1) -> str:
    """ "mean ± spread", rounded; the mean alone for one value, a dash for none."""
    if not values:
        return "-"
    mean, spread = mean_and_spread(values)
    return f"{mean:.{digits}f} ± {spread:.{digits}f}" if len(values) > 1 else f"{mean:.{digits}f}"


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A GitHub table, the first column to the left and all others to the right."""
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def plot_curves(
    path: Path, curves: Mapping[str, Mapping[int, Sequence[float]]], *, x_label: str, y_label: str, title: str
) -> None:
    """Draw each curve's mean as a line on a logarithmic axis and its spread as a band.

    Args:
        path: of the picture.
        curves: by name, the values (one a seed) at each x.
        x_label: of the horizontal axis.
        y_label: of the vertical axis.
        title: above the picture.
    """
    figure = Figure(figsize=(7, 4.5))
    axes = figure.subplots()
    for number, (name, points) in enumerate(curves.items()):
        steps = sorted(points)
        spreads = [mean_and_spread(points[step]) for step in steps]
        means = [mean for mean, _ in spreads]
        # A band that reaches 0 would have no lower edge on this axis.
        low = [max(mean - spread, mean / 10) for mean, spread in spreads]
        high = [mean + spread for mean, spread in spreads]
        axes.plot(steps, means, color=f"C{number}", marker="o", markersize=3, label=name)
        axes.fill_between(steps, low, high, color=f"C{number}", alpha=0.2, linewidth=0)
    axes.set(xlabel=x_label, ylabel=y_label, title=title, yscale="log")
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})


def machine() -> str:
    """The processor's model, the number of cores, torch's threads and version."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    processor = models[0] if models else platform.processor() or platform.machine()
    return f"{processor}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s), torch {torch.__version__}"


def seconds(rows: Sequence[Row]) -> str:
    """CPU seconds of one run, the mean over seeds."""
    by_seed = {row["seed"]: float(row["cpu_seconds"]) for row in rows}
    return f"{sum(by_seed.values()) / len(by_seed):.0f}" if by_seed else "-"


def origin(rows: Sequence[Row]) -> str:
    """Seeds, when and on what the rows were measured."""
    return f"Seeds {', '.join(sorted({row['seed'] for row in rows}))}, measured {when_and_where(rows)}."


def when_and_where(rows: Sequence[Row]) -> str:
    """The dates and the machines of the rows."""
    dates, machines = (sorted({row[name] for row in rows}) for name in ("date", "machine"))
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return f"{when} on {' and on '.join(machines)}"
