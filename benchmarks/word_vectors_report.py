"""The report of benchmarks.word_vectors, from its CSVs: words/s, quality, and time to the same quality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

from benchmarks.reporting import Row, markdown_table, origin, plus_minus, when_and_where
from benchmarks.word_vectors_contestants import (
    ADAGRAD,
    BATCH_SIZE,
    DIM,
    GENSIM,
    MIN_COUNT,
    NEGATIVES,
    OPTIMIZERS,
    OURS,
    SETTINGS,
    SGD,
    SUBSAMPLE,
    WINDOW,
)

PAIRS = {"english": "WordSim-353", "chinese": "CWE-240"}
LEAST_QUALITY = -0.01  # of ours beside gensim's
MOST_TIME, GOAL = 1.0, 0.5  # of gensim's, to its quality

NOTES = f"""\
- Both: skip-gram, dimension {DIM}, windows of {WINDOW}, {NEGATIVES} negatives, words that occur {MIN_COUNT} times,
  frequent ones thinned out at {SUBSAMPLE:g}, the same file of words with its punctuation, a sentence a line, and the
  same number of threads. gensim with its other defaults, from a list in memory; "corpus_file": its workers read the
  file.
- Ours: LibraryEmbedding on TextDataModule under a Trainer without logger and checkpoints, batches of {BATCH_SIZE:,}
  words, {SETTINGS["shared_negatives"]} noise words for each 32 centers that count as {NEGATIVES} a pair, and a rate
  that falls to 0: RowAdagrad from {OPTIMIZERS[ADAGRAD]["learning_rate"]:g}, for few epochs, or RowSGD from
  {OPTIMIZERS[SGD]["learning_rate"]:g}, with noise ~ count^{OPTIMIZERS[SGD]["noise_power"]:g} in place of count^0.75,
  for many. These settings were chosen on the English text; all runs have the same.
- Training is from the first step's start to the last's end; end to end begins before the file is read and its words
  are counted (ours writes its cache of the text, too)."""


@dataclass(frozen=True)
class Measured:
    """All rows that there are.

    Attributes:
        speed: with "contestant", "round", "training" and "end_to_end" in words/s.
        quality: with "language", "method", "epochs", "seed", "spearman", "unknown_pairs" and "seconds".
    """

    speed: Sequence[Row] = ()
    quality: Sequence[Row] = ()


def write_report(out: Path, measured: Measured, *, judge: bool) -> str:
    """Write word_vectors.md into ``out``; a part without rows is left out.

    Args:
        out: a folder, made if need be.
        measured: the rows.
        judge: whether to say if targets are reached.

    Returns:
        The Markdown text.
    """
    parts = ["# Word vectors beside gensim: measured"]
    parts.append("Written by `python -m benchmarks.word_vectors`; edits get lost.")
    if not judge:
        parts.append("Made with --quick: these numbers mean nothing.")
    parts += speed_section(measured.speed) if measured.speed else []
    for language in dict.fromkeys(row["language"] for row in measured.quality):
        rows = [row for row in measured.quality if row["language"] == language]
        parts += quality_section(language, rows, judge)
    text = "\n\n".join([*parts, "## How it was measured", NOTES]) + "\n"
    out.mkdir(parents=True, exist_ok=True)
    (out / "word_vectors.md").write_text(text)
    return text


# ---- Speed ----


def times_gensim(rows: Sequence[Row], contestant: str, column: str) -> float:
    """How many times gensim's words/s: the median over rounds."""
    own, theirs = (
        {row["round"]: float(row[column]) for row in rows if row["contestant"] == name} for name in (contestant, GENSIM)
    )
    return median(own[number] / theirs[number] for number in own)


def speed_section(rows: Sequence[Row]) -> list[str]:
    """Paragraphs: a table with a line for each contestant, and what was done."""
    headings = ["contestant", "training, words/s", "times gensim", "end to end, words/s", "times gensim"]
    lines = []
    for name in dict.fromkeys(row["contestant"] for row in rows):
        numbers = []
        for column in ("training", "end_to_end"):
            own = [float(row[column]) for row in rows if row["contestant"] == name]
            numbers += [f"{median(own):,.0f}", f"{times_gensim(rows, name, column):.2f}"]
        lines.append([name, *numbers])
    what = (
        f"{int(rows[0]['words']):,} words of {rows[0]['language'].capitalize()}, {rows[0]['epochs']} epoch(s),"
        f" {rows[0]['workers']} thread(s) each. Ratios are taken within a round; medians of"
        f" {max(int(row['round']) for row in rows)} round(s) after one that warms up. Measured {when_and_where(rows)}."
    )
    return ["## Words/s", markdown_table(headings, lines), what]


# ---- Quality, and time to the same quality ----


def values_of(rows: Sequence[Row], method: str, epochs: int, column: str) -> list[float]:
    """A column of the runs of a method with so many epochs, one a seed."""
    return [float(row[column]) for row in rows if (row["method"], row["epochs"]) == (method, str(epochs))]


def epochs_of(rows: Sequence[Row], method: str) -> list[int]:
    """The numbers of epochs that were tried, ascending."""
    return sorted({int(row["epochs"]) for row in rows if row["method"] == method})


def fastest(rows: Sequence[Row], quality: float) -> tuple[str, int] | None:
    """Which of ours, after how many epochs, is as good on average in the least time; None if none is."""
    tried = [(method, epochs) for method in OURS for epochs in epochs_of(rows, method)]
    enough = [each for each in tried if mean(values_of(rows, *each, "spearman")) >= quality]
    return min(enough, key=lambda each: mean(values_of(rows, *each, "seconds")), default=None)


def quality_section(language: str, rows: Sequence[Row], judge: bool) -> list[str]:
    """Paragraphs: a table with a line for each method and number of epochs, verdicts, and where it was measured."""
    headings = ["method", "epochs", f"Spearman, {PAIRS[language]}", "seconds", "seconds end to end"]
    lines = [
        [
            method,
            str(epochs),
            plus_minus(values_of(rows, method, epochs, "spearman"), 3),
            *(f"{mean(values_of(rows, method, epochs, name)):.1f}" for name in ("seconds", "seconds_end_to_end")),
        ]
        for method in dict.fromkeys(row["method"] for row in rows)
        for epochs in epochs_of(rows, method)
    ]
    verdicts = [verdict for epochs in epochs_of(rows, GENSIM) for verdict in judged(rows, epochs)] if judge else []
    unknown = max(int(row["unknown_pairs"]) for row in rows)
    what = f"{int(rows[0]['words']):,} words; {unknown} pairs have an unknown word. {origin(rows)}"
    title = f"## Quality: {language.capitalize()}"
    return [title, markdown_table(headings, lines), *(["\n".join(verdicts)] if verdicts else []), what]


def judged(rows: Sequence[Row], epochs: int) -> list[str]:
    """Lines: quality after as many epochs as gensim, and time to gensim's quality."""
    quality = mean(values_of(rows, GENSIM, epochs, "spearman"))
    seconds = mean(values_of(rows, GENSIM, epochs, "seconds"))
    lines = []
    for method in OURS:
        if own := values_of(rows, method, epochs, "spearman"):
            word = "reached" if mean(own) - quality >= LEAST_QUALITY else "not reached"
            target = f"target at least gensim's {quality:.3f} {LEAST_QUALITY:+g}"
            lines.append(f"- {epochs} epochs, {target}: {method} {mean(own):.3f}, {word}.")
    enough = fastest(rows, quality)
    target = f"- Time to gensim's quality after {epochs} epochs, target at most {MOST_TIME:g} times gensim's"
    if enough is None:
        return [*lines, f"{target}, goal {GOAL:g}: not reached, with no number of epochs tried."]
    own_seconds = mean(values_of(rows, *enough, "seconds"))
    ratio = own_seconds / seconds
    word = "goal reached" if ratio <= GOAL else "target reached, goal not" if ratio <= MOST_TIME else "not reached"
    took = f"{enough[0]}, {enough[1]} epoch(s) in {own_seconds:.1f} s against {seconds:.1f} s"
    return [*lines, f"{target}, goal {GOAL:g}: {ratio:.2f} ({took}), {word}."]
