"""What benchmarks.entity_linking trains, and on what: tasks, rows of its tables, and settings that are tried."""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.reporting import Row
from benchmarks.runs import Table, Task
from datamodules.linking_parts import EMBEDDED
from datamodules.text_files import read_lines
from lit_modules import EntityLinker

Options = dict[str, Any]
SOURCE = "../shared/data/el"
CHINESE = "../shared/models/roformer-sim-small"
# Of the training texts one in so many is held out to choose settings.
HELD_OUT = 5
TUNING_SEED = 100


@dataclass(frozen=True)
class Setting:
    """How networks are trained; which one and for how long is chosen on held-out training texts.

    Attributes:
        epochs: that are tried, and taken where nothing was chosen.
        decay: of the averaged weights.
        model: arguments of EntityLinker.
        data: arguments of EntityLinkingDataModule.
    """

    epochs: int
    decay: float
    model: Options = field(default_factory=dict)
    data: Options = field(default_factory=dict)


@dataclass(frozen=True)
class Variant:
    """A row of a table.

    Attributes:
        task: on what it is trained.
        family: of the settings that it is trained with; one is chosen for all rows of a family.
        model: arguments of EntityLinker that are its own.
        data: arguments of EntityLinkingDataModule that are its own.
        averaged: whether averaged weights are evaluated.
        needs: "vectors", "chinese" or "english": the file or folder that it takes; "" for none.
    """

    task: str
    family: str
    model: Options = field(default_factory=dict)
    data: Options = field(default_factory=dict)
    averaged: bool = True
    needs: str = ""


# ---- Tasks, rows and settings ----

# By task, arguments of the datamodule and of the module.
TASKS: dict[str, tuple[Options, Options]] = {
    "ckbqa": ({}, {}),
    "ccks2019": ({}, {}),
    # Its parts have no entity in common: what training texts link a name to is never right.
    "wordnet": ({"segmenter": "whitespace", "whole_words": True}, {"restrict_candidates": False}),
}
# Tasks whose texts are held out by entity, as their develop parts are.
BY_ENTITY = ("wordnet",)
FULL = "full model"
VECTORS = "with word vectors"
WIDER = "wider, with word vectors"
PRETRAINED = "pretrained encoder"
VARIANTS: dict[str, dict[str, Variant]] = {
    "ckbqa": {
        FULL: Variant("ckbqa", "ckbqa"),
        "no behavior statistics": Variant("ckbqa", "ckbqa", data={"behavior": False}),
        "no character feature": Variant("ckbqa", "ckbqa", {"features": ["word", "object"]}),
        "no word feature": Variant("ckbqa", "ckbqa", {"features": ["character", "object"]}),
        "no object feature": Variant("ckbqa", "ckbqa", {"features": ["character", "word"]}),
        "no features": Variant("ckbqa", "ckbqa", {"features": []}),
        "no averaged weights": Variant("ckbqa", "ckbqa", averaged=False),
        VECTORS: Variant("ckbqa", "ckbqa", needs="vectors"),
        "wider": Variant("ckbqa", "ckbqa, wider", {"hidden": 128}),
        WIDER: Variant("ckbqa", "ckbqa, wider, vectors", {"hidden": 128}, needs="vectors"),
        PRETRAINED: Variant("ckbqa", "ckbqa, encoder", needs="chinese"),
    },
    "ccks2019": {
        FULL: Variant("ccks2019", "ccks2019"),
        VECTORS: Variant("ccks2019", "ccks2019, vectors", needs="vectors"),
        PRETRAINED: Variant("ccks2019", "ccks2019, encoder", needs="chinese"),
    },
    "wordnet": {PRETRAINED: Variant("wordnet", "wordnet, encoder", needs="english")},
}
_ENCODER = {"warmup_steps": 100}
# By family and name; the first one is taken where nothing was chosen. The article's decay, 0.9999, is for 90,000 texts.
TRIED: dict[str, dict[str, Setting]] = {
    "ckbqa": {
        f"candidates {candidates}, dropout {dropout}": Setting(
            16, 0.98, {"dropout": dropout}, {"candidates": candidates}
        )
        for candidates in (1, 4)
        for dropout in (0.2, 0.4)
    },
    **{
        family: {
            f"candidates 1, dropout {dropout}": Setting(20, 0.98, {"dropout": dropout}, {"candidates": 1})
            for dropout in (0.4, 0.5)
        }
        for family in ("ckbqa, wider", "ckbqa, wider, vectors")
    },
    "ckbqa, encoder": {
        f"encoder's rate {rate:g}": Setting(12, 0.98, _ENCODER | {"encoder_learning_rate": rate}, {"candidates": 4})
        for rate in (1e-4, 3e-5)
    },
    **{
        family: {f"dropout {dropout}": Setting(10, 0.99, {"dropout": dropout}) for dropout in tried}
        for family, tried in (("ccks2019", (0.2, 0.4)), ("ccks2019, vectors", (0.4, 0.5)))
    },
    "ccks2019, encoder": {
        f"encoder's rate 0.0001{word}": Setting(5, 0.99, _ENCODER | {"encoder_learning_rate": 1e-4} | schedule)
        for word, schedule in (("", {}), (", falling", {"lr_schedule": "linear"}))
    },
    "wordnet, encoder": {
        f"encoder's rate {rate:g}": Setting(
            3,
            0.995,
            _ENCODER | {"encoder_learning_rate": rate, "hidden": 128, "lr_schedule": "linear"},
            {"candidates": 8, "batch_size": 128},
        )
        for rate in (5e-5, 1e-4)
    },
}
# What a family's setting is chosen by.
MEASURE = dict.fromkeys(TRIED, "f1") | {"wordnet, encoder": "linking_accuracy"}


# ---- Files ----


def task_files(task: str, source: str) -> dict[str, str]:
    """Paths of a task's knowledge base, training texts and develop part; "embedded" has the example for all tasks."""
    if source == "embedded":
        return {part: EMBEDDED[part] for part in ("knowledge", "train", "validation")}
    names = {"knowledge": "kb_data.gz", "train": "train.json.gz", "validation": "develop.json.gz"}
    return {part: str(Path(source, task, name)) for part, name in names.items()}


def held_out_files(task: str, files: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The task's files with one in five of its training texts, or of their entities, in place of the develop part."""
    parts: dict[bool, list[str]] = {False: [], True: []}
    for line in read_lines(Path(files["train"])):
        text = json.loads(line)
        mentions = text["mention_data"]
        # Not by the number of the text, which a file may count up in steps.
        key = mentions[0]["kb_id"] if mentions and task in BY_ENTITY else text["text"]
        parts[zlib.crc32(key.encode()) % HELD_OUT == 0].append(line)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {"train": folder / "train.json", "validation": folder / "held_out.json"}
    for name, lines in zip(paths, parts.values(), strict=True):
        paths[name].write_text("".join(line.rstrip("\n") + "\n" for line in lines), encoding="utf-8")
    return {**files, **{name: str(path) for name, path in paths.items()}}


# ---- Runs ----


@dataclass(frozen=True, kw_only=True)
class LinkingTask(Task):
    """A row's training; ``steps`` are epochs.

    Attributes:
        name: of the task.
        setting: what the row is trained with, by name.
        decay: of the averaged weights; None for none.
        device: "cpu" or "gpu".
        minutes: that training may take; None for no limit.
    """

    name: str
    setting: str
    decay: float | None
    device: str = "cpu"
    minutes: float | None = None


@dataclass(frozen=True)
class LinkingTable(Table[LinkingTask]):
    """The runs of a row."""

    def key(self, method: str, seed: int) -> dict[str, str]:
        """What makes a run the same as an earlier one."""
        task = self.task
        limit = "" if task.minutes is None else f"{task.minutes:g}"
        length = {"epochs": str(task.steps), "minutes": limit}
        return {"task": task.name, "method": method, "setting": task.setting, **length, "seed": str(seed)}


def linking_task(
    row: str, variant: Variant, chosen: tuple[str, Setting], data: Options, model: Options, **where: Any
) -> LinkingTask:
    """A row's training.

    Args:
        row: its name.
        variant: what is its own.
        chosen: the setting, with its name.
        data: arguments of the datamodule: files, cache, word vectors, tokenizer.
        model: arguments of the module: the encoder.
        where: device and minutes.
    """
    name, setting = chosen
    common_data, common_model = TASKS[variant.task]
    arguments = common_model | setting.model | variant.model | model
    return LinkingTask(
        name=variant.task,
        setting=name,
        decay=setting.decay if variant.averaged else None,
        steps=setting.epochs,
        methods={row: functools.partial(EntityLinker, **arguments)},
        shared={},
        data=common_data | setting.data | variant.data | data,
        samples=0,
        **where,
    )


def chosen_setting(family: str, rows: Sequence[Row], tried: Mapping[str, Setting]) -> tuple[str, Setting]:
    """The setting and the number of epochs with the highest score on held-out texts; the first where there is none.

    Args:
        family: of the settings.
        rows: of all trainings that tried them, one for each epoch.
        tried: the family's settings.
    """
    own = [row for row in rows if row["method"] == family and row["setting"] in tried]
    if not own:
        return next(iter(tried.items()))
    best = max(own, key=lambda row: float(row[MEASURE[family]]))
    return best["setting"], replace(tried[best["setting"]], epochs=int(best["epoch"]))
