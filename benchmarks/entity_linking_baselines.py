"""How far one gets in entity linking without a network; the first rows of benchmarks.entity_linking."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.entity_linking_tasks import TASKS
from datamodules.behavior import Behavior, frequency_baseline
from datamodules.knowledge_base import KnowledgeBase
from datamodules.linking_files import LinkingText, read_texts
from datamodules.problems import Problems
from lit_modules.parts.linking_metrics import LinkingF1, MentionF1

# By task and baseline the mention F1 and F1 that have to come out.
KNOWN = {
    ("ckbqa", "all names"): (0.719, 0.703),
    ("ckbqa", "behavior filter"): (0.845, 0.826),
    ("ccks2019", "all names"): (0.674, 0.653),
    ("ccks2019", "behavior filter"): (0.802, 0.779),
}
Scores = dict[str, float]
COLUMNS = ("mention_f1", "linking_accuracy", "ambiguous_accuracy", "ambiguous_share", "f1")


def baseline_rows(task: str, files: Mapping[str, str], cache: str) -> list[dict[str, object]]:
    """The rows of a task: name, and its scores on the develop part.

    Args:
        task: name of it.
        files: paths of "knowledge", "train" and "validation".
        cache: folder for the knowledge base's.
    """
    options = TASKS[task][0]
    kb = KnowledgeBase.open(files["knowledge"], cache, segmenter=options.get("segmenter", "chinese"))
    found = _linking(kb, files) if task == "wordnet" else _frequency(kb, files)
    empty = dict.fromkeys(COLUMNS, "")
    return [
        {"task": task, "method": name, **empty, **{score: f"{value:.6f}" for score, value in scores.items()}}
        for name, scores in found.items()
    ]


def _frequency(kb: KnowledgeBase, files: Mapping[str, str]) -> dict[str, Scores]:
    """Maximum matching, and of each name what the training texts link it to most often."""
    matcher, develop = kb.matcher(), _texts(files["validation"])
    behavior = Behavior.fit(_texts(files["train"]), matcher, kb)
    gold = [{mention for mention in text.mentions if mention.entity is not None} for text in develop]
    rows = {}
    for name, filtered in (("all names", False), ("behavior filter", True)):
        found = list(frequency_baseline((text.text for text in develop), matcher, behavior, filtered=filtered))
        rows[name] = {"mention_f1": _f1(MentionF1(), found, gold), "f1": _f1(LinkingF1(), found, gold)}
    return rows


def _f1(metric: Any, found: Any, gold: Any) -> float:
    metric.update(found, gold)
    return float(metric.compute()["f1"])


def _linking(kb: KnowledgeBase, files: Mapping[str, str]) -> dict[str, Scores]:
    """A mention's first entity in the order of the knowledge base, and on the average any of its name."""
    hits = []
    for text in _texts(files["validation"]):
        for start, end, entity in text.mentions:
            if entity is not None:
                name = kb.name_number(text.text[start:end])
                hits.append((kb.candidates(name) if name is not None else np.zeros(1, int) - 1) == kb.row(entity))
    return {
        "first of the name": _accuracies(hits, [float(hit[0]) for hit in hits]),
        "random of the name": _accuracies(hits, [float(hit.mean()) for hit in hits]),
    }


def _accuracies(hits: list[NDArray[np.bool_]], right: list[float]) -> Scores:
    """Of all mentions, and of those whose name several entities have."""
    several = [share for hit, share in zip(hits, right, strict=True) if len(hit) > 1]
    share = len(several) / len(hits)
    accuracies = {"linking_accuracy": float(np.mean(right)), "ambiguous_accuracy": float(np.mean(several))}
    return accuracies | {"ambiguous_share": share}


def _texts(path: str) -> list[LinkingText]:
    return list(read_texts(Path(path), Problems()))
