"""The reports of benchmarks.entity_linking, made of its CSVs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import mean

from benchmarks.entity_linking_baselines import KNOWN
from benchmarks.entity_linking_tasks import (
    FULL,
    MEASURE,
    PRETRAINED,
    TRIED,
    VARIANTS,
    VECTORS,
    WIDER,
    Setting,
    chosen_setting,
)
from benchmarks.reporting import Row, markdown_table, origin, plus_minus, read_rows, when_and_where

# By task and row, what is to be reached.
TARGETS = {
    ("ckbqa", FULL): {"mention_f1": 0.93, "f1": 0.91},
    ("ckbqa", VECTORS): {"mention_f1": 0.93, "f1": 0.91},
    ("ckbqa", WIDER): {"mention_f1": 0.93, "f1": 0.91},
    ("ckbqa", PRETRAINED): {"mention_f1": 0.93, "f1": 0.91},
    ("ccks2019", FULL): {"mention_f1": 0.87, "f1": 0.84},
    ("ccks2019", VECTORS): {"mention_f1": 0.87, "f1": 0.84},
    ("ccks2019", PRETRAINED): {"mention_f1": 0.87, "f1": 0.84},
    ("wordnet", PRETRAINED): {"linking_accuracy": 0.55},
}
# Of a knowledge base of 400,000 entities.
SCALE_TARGETS = {"open_seconds": 3.0, "open_mb": 1500.0, "matched_per_second": 20_000.0}
SHOWN = {"mention_f1": "mention F1", "linking_accuracy": "linking accuracy", "f1": "F1"}
# Accuracy where there is something to choose.
AMBIGUOUS = "of names with several entities"
SCALE_COLUMNS = {
    "names": "names",
    "file_mb": "file, MB",
    "build_seconds": "first opening, s",
    "build_peak_mb": "its peak memory, MB",
    "cache_mb": "cache, MB",
    "open_seconds": "later opening, s",
    "open_mb": "memory then, MB",
    "imports_mb": "of that imports, MB",
    "matched_mb": "after matching, MB",
    "matched_per_second": "texts matched/s",
    "learn_seconds": "learning from 2,000 texts, s",
    "predicted_per_second": "texts predicted/s",
    "mentions_per_text": "mentions a text",
    "predict_mb": "memory then, MB",
}


def write_quality(out: Path, tried: Mapping[str, Mapping[str, Setting]], *, judge: bool) -> str:
    """Write entity_linking.md, and return it.

    Args:
        out: folder of the CSVs and the report.
        tried: the settings by family and name.
        judge: whether the numbers mean something and are held against what is known or to be reached.
    """
    names = ("entity_linking", "entity_linking_tuning", "entity_linking_baselines")
    quality, tuning, baselines = (read_rows(out / f"{name}.csv") for name in names)
    sections = ["# EntityLinker: measured", "Written by `python -m benchmarks.entity_linking`; edits get lost."]
    if baselines:
        sections += ["## Without a network, develop parts", baseline_table(baselines, judge=judge)]
    for task in VARIANTS:
        if own := [row for row in quality if row["task"] == task]:
            shares = [row["ambiguous_share"] for row in baselines if row["task"] == task and row["ambiguous_share"]]
            sections += [f"## {task}, develop part", quality_table(own, *map(float, shares[:1])), origin(own)]
            sections += verdicts(task, own) if judge else []
    if tuning:
        sections += ["## What was chosen on held-out training texts", tuning_table(tuning, tried), origin(tuning)]
    return _written(out / "entity_linking.md", sections)


def baseline_table(rows: Sequence[Row], *, judge: bool) -> str:
    """The baselines' scores, and what has to come out."""
    lines, shown = [], SHOWN | {"ambiguous_accuracy": AMBIGUOUS}
    for row in rows:
        known = KNOWN.get((row["task"], row["method"]), ()) if judge else ()
        expected = " / ".join(f"{value:.3f}" for value in known) or "-"
        scores = [f"{float(row[name]):.3f}" if row[name] else "-" for name in shown]
        lines.append([f"{row['task']}: {row['method']}", *scores, expected])
    return markdown_table(["baseline", *shown.values(), "known"], lines)


def quality_table(rows: Sequence[Row], ambiguous: float | None = None) -> str:
    """A line for each row of a task and each way in which it was trained, in the order of the tables.

    Args:
        rows: of a task.
        ambiguous: part of the mentions whose name several entities have, all others being linked right; None to leave
            their accuracy out.
    """
    by_row = sorted(rows, key=_way)
    lines = []
    for (_, setting, epochs, minutes), of_way in groupby(by_row, _way):
        runs = list(of_way)
        steps = mean(float(run["steps"]) for run in runs)
        length = f"{epochs}, cut off after {minutes} minutes" if minutes else epochs
        scores = [plus_minus([float(run[name]) for run in runs], 3) for name in (*SHOWN, "precision", "recall")]
        if ambiguous is not None:
            scores.append(plus_minus([1 - (1 - float(run["linking_accuracy"])) / ambiguous for run in runs], 3))
        lines.append([runs[0]["method"], setting, length, f"{steps:,.0f}", str(len(runs)), *scores])
    headings = ["row", "setting", "epochs", "steps", "seeds", *SHOWN.values(), "precision", "recall"]
    return markdown_table([*headings, *([] if ambiguous is None else [AMBIGUOUS])], lines)


def _way(row: Row) -> tuple[int, str, str, str]:
    return list(VARIANTS[row["task"]]).index(row["method"]), row["setting"], row["epochs"], row["minutes"]


def verdicts(task: str, rows: Sequence[Row]) -> list[str]:
    """A line for each score that a row is to reach: the mean over seeds, of the way that was trained last."""
    lines = []
    for (of_task, method), targets in TARGETS.items():
        runs = [row for row in rows if (of_task, method) == (task, row["method"])]
        runs = [run for run in runs if _way(run) == _way(runs[-1])]
        for name, target in targets.items() if runs else ():
            reached = mean(float(run[name]) for run in runs)
            verdict = "reached" if reached >= target else "missed"
            lines.append(f"- {method}, {SHOWN[name]} {target}: {verdict}, {reached:.3f}")
    return ["\n".join(lines)] if lines else []


def tuning_table(rows: Sequence[Row], tried: Mapping[str, Mapping[str, Setting]]) -> str:
    """Of each setting that was tried its best epoch; the chosen ones in bold."""
    lines = []
    for family in TRIED:
        chosen, _ = chosen_setting(family, rows, tried[family])
        for setting in tried[family]:
            runs = [row for row in rows if (row["method"], row["setting"]) == (family, setting)]
            if runs:
                best = max(runs, key=lambda row: float(row[MEASURE[family]]))
                name = f"**{setting}**" if setting == chosen else setting
                lines.append([family, name, best["epoch"], *(f"{float(best[score]):.3f}" for score in SHOWN)])
    return markdown_table(["rows", "setting", "best epoch", *SHOWN.values()], lines)


# ---- Scale ----


def write_scale(out: Path) -> str:
    """Write entity_linking_scale.md, and return it."""
    rows = sorted(read_rows(out / "entity_linking_scale.csv"), key=lambda row: int(row["entities"]))
    sizes = [f"{int(row['entities']):,}" for row in rows]
    lines = [[title, *(_number(row[name]) for row in rows)] for name, title in SCALE_COLUMNS.items()]
    explained = (
        "Made-up knowledge bases with descriptions of 500 characters, a fourth of whose names are shared, and texts of"
        " 22 characters. Memory is what is resident, mapped files too; MB are 10^6 bytes. Matching is on one core;"
        " prediction is from a file of texts to a file of mentions, by a network that was trained on 2,000 texts."
    )
    sections = [
        "# EntityLinker: scale",
        "Written by `python -m benchmarks.entity_linking --parts scale`; edits get lost.",
        explained,
        markdown_table(["entities", *sizes], lines),
        f"Measured {when_and_where(rows)}.",
    ]
    if largest := [row for row in rows if row["entities"] == "400000"]:
        sections.append(_scale_verdicts(largest[-1]))
    return _written(out / "entity_linking_scale.md", sections)


def _scale_verdicts(row: Row) -> str:
    lines = []
    for name, target in SCALE_TARGETS.items():
        measured = float(row[name])
        reached = measured >= target if name.endswith("_per_second") else measured <= target
        verdict = "reached" if reached else "missed"
        lines.append(f"- {SCALE_COLUMNS[name]}, {_number(str(target))}: {verdict}, {_number(row[name])}")
    return "\n".join(lines)


def _number(text: str) -> str:
    value = float(text)
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _written(path: Path, sections: Sequence[str]) -> str:
    text = "\n\n".join(sections) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return text
