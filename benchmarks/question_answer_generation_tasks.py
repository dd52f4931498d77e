"""What benchmarks.question_answer_generation trains for its quality, on what, and how."""

from __future__ import annotations

import functools
import json
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from benchmarks.question_answer_generation_speed import SIZES
from benchmarks.reporting import append_rows
from benchmarks.runs import Advance, Results, Table, Task, bare_trainer, device_name
from datamodules import PassageDataModule
from datamodules.text_files import read_lines
from lit_modules.question_answer_generator import QuestionAnswerGenerator

Options = dict[str, Any]
SCORES = {
    "perplexity": "perplexity",
    "answer_exact_match": "answer EM",
    "answer_f1": "answer F1",
    "question_rouge_l": "ROUGE-L",
    "question_bleu": "BLEU",
    "answer_in_passage": "in passage",
    "distinct_2": "distinct-2",
}
# Of ten documents so many are tested on, and so many tell the best epoch.
TESTED, VALIDATED = 2, 1
EXAMPLES, EXAMPLE_LENGTH = 6, 120


@dataclass(frozen=True)
class Setting:
    """How a network is trained.

    Attributes:
        epochs: at most; the best one on the validation part is taken.
        pretrained: whether it begins with the pretrained network.
        model: arguments of QuestionAnswerGenerator.
    """

    epochs: int
    pretrained: bool
    model: Options = field(default_factory=dict)


_SETTINGS = {
    "pretrained": Setting(15, True, {"learning_rate": 1e-4, "warmup_steps": 100}),
    "from scratch": Setting(60, False, SIZES | {"learning_rate": 3e-4, "warmup_steps": 500}),
}
_ORDERS = {"answer first": True, "question first": False}
METHODS: dict[str, Setting] = {
    f"{name}, {order}": Setting(setting.epochs, setting.pretrained, setting.model | {"answer_first": first})
    for name, setting in _SETTINGS.items()
    for order, first in _ORDERS.items()
}


def source_name(source: str) -> str:
    """A file's, for tables."""
    return Path(source).name.split(".")[0]


def split_files(sources: Sequence[str], folder: Path) -> dict[str, str]:
    """Paths of files into which the lines of some files are divided by document: "train", "validation", and of each
    source, under its name, those to test on.
    """
    parts: dict[str, list[str]] = {"train": [], "validation": []}
    for source, line in ((file, line) for file in sources for line in read_lines(Path(file))):
        record = json.loads(line)
        document = record.get("title") or record.get("passage") or record["context"]
        tenth = zlib.crc32(document.encode()) % 10
        part = source_name(source) if tenth < TESTED else "validation" if tenth < TESTED + VALIDATED else "train"
        parts.setdefault(part, []).append(line.rstrip("\n") + "\n")
    folder.mkdir(parents=True, exist_ok=True)
    for part, lines in parts.items():
        (folder / f"{part}.jsonl").write_text("".join(lines), encoding="utf-8")
    return {part: str(folder / f"{part}.jsonl") for part in parts}


@dataclass(frozen=True, kw_only=True)
class QuestionTask(Task):
    """A row's training; ``steps`` are epochs.

    Attributes:
        name: of the data.
        tests: files to test on, by name.
        device: "cpu" or "gpu".
        examples: a CSV for what is generated, made larger.
    """

    name: str
    tests: Mapping[str, str]
    device: str
    examples: Path


@dataclass(frozen=True)
class QuestionTable(Table[QuestionTask]):
    """The runs of a row."""

    def key(self, method: str, seed: int) -> dict[str, str]:
        """What makes a run the same as an earlier one."""
        return run_key(self.task, method, seed)


def run_key(task: QuestionTask, method: str, seed: int) -> dict[str, str]:
    """What tells a run from others."""
    return {"data": task.name, "method": method, "epochs": str(task.steps), "seed": str(seed)}


def question_task(
    name: str, method: str, setting: Setting, data: Mapping[str, Any], encoder: str | None, tested: int, **where: Any
) -> QuestionTask:
    """A row's training.

    Args:
        name: of the data.
        method: its name.
        setting: how it is trained.
        data: arguments of PassageDataModule for training.
        encoder: folder of the pretrained network, whose tokenizer all networks have; None for a vocabulary made here.
        tested: how many of the test part's passages are written about.
        where: tests, device and examples.
    """
    own = {"encoder": encoder} if setting.pretrained else {}
    model = functools.partial(QuestionAnswerGenerator, **setting.model, **own, evaluated_passages=0)
    return QuestionTask(
        name=name,
        steps=setting.epochs,
        methods={method: model},
        shared={},
        data={**data, "tokenizer": encoder},
        samples=tested,
        **where,
    )


class Epochs(Callback):
    """Advances a progress bar, and keeps the perplexity after each epoch."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self.perplexities: list[float] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep it."""
        self.perplexities.append(float(trainer.callback_metrics["val/perplexity"]))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count."""
        self._advance(1)


def train(task: QuestionTask, method: str, seed: int, advance: Advance) -> Results:
    """The scores on each test part of the weights that were best on the validation part: a row for free answers, and
    one for answers that have to be spans of the passage.
    """
    seed_everything(seed, verbose=False)
    model, data, epochs = task.model(method), PassageDataModule(**task.data, seed=seed), Epochs(advance)
    if task.device == "gpu":
        torch.set_float32_matmul_precision("high")
    where = {"accelerator": task.device, "devices": 1}
    with tempfile.TemporaryDirectory() as folder:
        best = ModelCheckpoint(folder, monitor="val/perplexity", save_weights_only=True)
        trainer = bare_trainer([epochs, best], enable_checkpointing=True, max_epochs=task.steps, **where)
        trainer.fit(model, datamodule=data)
        steps = trainer.global_step
        if epochs.perplexities[-1] > min(epochs.perplexities):
            state = torch.load(best.best_model_path, weights_only=True)["state_dict"]
            model.load_state_dict(state)
    done = {"best": 1 + epochs.perplexities.index(min(epochs.perplexities)), "steps": steps}
    done["device"] = device_name(task.device)
    parts = {name: PassageDataModule(**task.data, test=path, seed=seed) for name, path in task.tests.items()}
    rows = [
        {"tested": name, "answers": kind, **_tested(trainer, model, parts[name], task.samples, kind), **done}
        for name in parts
        for kind in ("free", "spans")
    ]
    for name in task.tests:
        _keep_examples(task, name, method, seed, model)
    return rows


def _tested(
    trainer: Trainer, model: QuestionAnswerGenerator, data: PassageDataModule, passages: int, kind: str
) -> dict[str, object]:
    model.hparams.update(evaluated_passages=passages, answer_in_passage=kind == "spans")
    trainer.test(model, datamodule=data, verbose=False)
    return {name: round(float(trainer.callback_metrics[f"test/{name}"]), 4) for name in SCORES}


def _keep_examples(task: QuestionTask, name: str, method: str, seed: int, model: QuestionAnswerGenerator) -> None:
    """Write down what is asked about the first short passages of a test part, answers being free."""
    records = [json.loads(line) for line in read_lines(Path(task.tests[name]))]
    texts = dict.fromkeys(record.get("passage") or record["context"] for record in records)
    passages = [text for text in texts if len(text) <= EXAMPLE_LENGTH][:EXAMPLES]
    model.hparams.update(answer_in_passage=False)
    key = run_key(task, method, seed) | {"tested": name}
    rows = [
        {**key, "passage": passage, "question": pair.question, "answer": pair.answer, "score": round(pair.score, 2)}
        for passage, pairs in zip(passages, model.ask(passages, n=4), strict=True)
        for pair in pairs
    ]
    if rows:
        append_rows(task.examples, rows)
