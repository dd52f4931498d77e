"""The report of benchmarks.question_answer_generation, made of its CSVs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from statistics import mean, median

from benchmarks.question_answer_generation_speed import OURS, RECOMPUTED, TRANSFORMERS
from benchmarks.question_answer_generation_tasks import METHODS, SCORES
from benchmarks.reporting import Row, markdown_table, origin, plus_minus, read_rows, when_and_where

NAME = "question_answer_generation"
# What "ours" is to reach, as a multiple of the others.
TARGETS = {"pairs": {RECOMPUTED: 20.0, TRANSFORMERS: 1.0}, "training": {"plain loop": 0.95}}
EXPLAINED = {
    "pairs": (
        "Pairs/s, one pair a passage: 8 tokens of an answer are sampled, then 24 of a question found with beam 3."
        " The network has 6 layers of 384, 12,000 tokens and random weights. `recomputed` takes one passage at a time"
        " and computes all of the sequence for each token; its pairs are the same as ours. `transformers` is `generate`"
        " of an encoder-decoder of two such networks, on as many passages at once as ours."
    ),
    "training": (
        "Tokens/s of training the same network on the same batches, padding not counted. `plain loop` is the bare loop"
        " in PyTorch."
    ),
}


def write_report(out: Path, *, judge: bool) -> str:
    """Write question_answer_generation.md, and return it.

    Args:
        out: folder of the CSVs and the report.
        judge: whether the numbers mean something and are held against what is to be reached.
    """
    speed, quality, examples = (read_rows(out / f"{NAME}{part}.csv") for part in ("_speed", "", "_examples"))
    sections = ["# QuestionAnswerGenerator: measured", f"Written by `python -m benchmarks.{NAME}`; edits get lost."]
    for what, rows in groupby(speed, lambda row: row["what"]):
        own = list(rows)
        sections += [f"## Speed: {what}", EXPLAINED[_kind(what)], speed_table(own)]
        sections += verdicts(what, own) if judge else []
    if speed:
        sections.append(f"Measured {when_and_where(speed)}; device {speed[0]['device']}.")
    for (data, tested), rows in groupby(sorted(quality, key=_data), _data):
        own = list(rows)
        sections += [f"## Quality: test part of {tested}", quality_table(own), f"Trained on {data}. {_trained(own)}"]
    sections += example_sections(examples)
    text = "\n\n".join(sections) + "\n"
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{NAME}.md").write_text(text, encoding="utf-8")
    return text


# ---- Speed ----


def speed_table(rows: Sequence[Row]) -> str:
    """A line for each contestant: the median of the rounds, and that of ours over it."""
    lines = [
        [name, f"{median(rates(rows, name)):,.4g}", f"{ratio(rows, name):.2f}"]
        for name in dict.fromkeys(row["contestant"] for row in rows)
    ]
    return markdown_table(["contestant", "a second", "ours, times that"], lines)


def rates(rows: Sequence[Row], contestant: str) -> list[float]:
    """What it did a second, by round."""
    return [float(row["per_second"]) for row in rows if row["contestant"] == contestant]


def ratio(rows: Sequence[Row], contestant: str) -> float:
    """How many times as fast ours is: the median of the rounds' ratios."""
    return median(ours / other for ours, other in zip(rates(rows, OURS), rates(rows, contestant), strict=True))


def verdicts(what: str, rows: Sequence[Row]) -> list[str]:
    """A line for each contestant that ours is held against."""
    lines = []
    for name, target in TARGETS[_kind(what)].items():
        times = ratio(rows, name)
        lines.append(f"- {target:g} times {name}: {'reached' if times >= target else 'missed'}, {times:.2f}")
    return ["\n".join(lines)]


def _kind(what: str) -> str:
    return what.split(",")[0]


# ---- Quality ----


def quality_table(rows: Sequence[Row]) -> str:
    """A line for each method, each way in which it was trained, and each kind of answers."""
    lines = []
    for (_, epochs, answers), of_way in groupby(sorted(rows, key=_way), _way):
        runs = list(of_way)
        scores = [plus_minus([float(run[name]) for run in runs], 2 if name == "perplexity" else 3) for name in SCORES]
        steps = f"{mean(float(run['steps']) for run in runs):,.0f}"
        best = plus_minus([float(run["best"]) for run in runs], 0)
        lines.append([runs[0]["method"], answers, str(epochs), steps, best, str(len(runs)), *scores])
    return markdown_table(["network", "answers", "epochs", "steps", "best epoch", "seeds", *SCORES.values()], lines)


def _data(row: Row) -> tuple[str, str]:
    return row["data"], row["tested"]


def _way(row: Row) -> tuple[int, int, str]:
    return list(METHODS).index(row["method"]), int(row["epochs"]), row["answers"]


def _trained(rows: Sequence[Row]) -> str:
    devices = " and ".join(sorted({row["device"] for row in rows}))
    return (
        "Split by document: seven tenths to train on, one to choose the epoch by, two for these scores. Perplexity is"
        " that of the tokens of the answers and questions that are there; the others judge generated pairs, 4 a"
        f" passage. Answers are free or have to be spans of the passage. {origin(rows)} Device: {devices}."
    )


def example_sections(rows: Sequence[Row]) -> list[str]:
    """What each method asked, with its first seed."""
    sections = []
    ways = dict.fromkeys((row["tested"], row["method"], row["epochs"]) for row in rows)
    for tested, method, epochs in ways:
        own = [row for row in rows if (row["tested"], row["method"], row["epochs"]) == (tested, method, epochs)]
        own = [row for row in own if row["seed"] == own[0]["seed"]]
        sections.append(f"## Examples from {tested}: {method}, {epochs} epoch(s) at most")
        for passage, pairs in groupby(own, lambda row: row["passage"]):
            asked = [[row["question"], row["answer"], row["score"]] for row in pairs]
            cells = [[cell.replace("|", "\\|") for cell in row] for row in asked]
            sections += [f"> {passage}", markdown_table(["question", "answer", "score"], cells)]
    return sections
