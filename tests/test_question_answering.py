"""PassageDataModule and QuestionAnswerGenerator together."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from callbacks import GeneratedPairs, PredictionLines
from datamodules import PassageDataModule
from lit_modules import QuestionAnswerGenerator

SMALL: dict[str, Any] = {"hidden": 16, "layers": 1, "heads": 2, "pairs": 2, "max_question": 8, "evaluated_passages": 2}
PASSAGES = ["黄河流经九个省区。", "The piano was invented in Italy by Bartolomeo Cristofori around the year 1700."]


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def trainer(*callbacks: Any, **arguments: Any) -> Trainer:
    warnings.filterwarnings("ignore", message="`isinstance.treespec, LeafSpec.` is deprecated")
    warnings.filterwarnings("ignore", message="The number of training batches .* is smaller than the logging interval")
    silent: dict[str, Any] = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    silent |= {"enable_checkpointing": False, "accelerator": "cpu", "devices": 1}
    return Trainer(callbacks=list(callbacks), **silent, **arguments)


def test_from_the_example_to_predictions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, data = QuestionAnswerGenerator(**SMALL), PassageDataModule(vocabulary_size=1000)
    fitted = trainer(GeneratedPairs(num_passages=1, n=1), max_steps=2, limit_val_batches=1)
    fitted.fit(module, datamodule=data)
    fitted.save_checkpoint(tmp_path / "fitted.ckpt", weights_only=False)
    assert module.tokenizer.tokens == data.tokens
    # What the module reads itself is what the datamodule made of the same text.
    (batch,) = data.val_dataloader()
    for record, tokens, mask in zip(batch["records"], batch["passage"], batch["passage_mask"], strict=True):
        assert tokens[mask].tolist() == [2, *module.tokenizer.encode(record.passage).numbers, 3]

    # Neither training files nor the module that was trained.
    (tmp_path / "passages.txt").write_text("\n".join(PASSAGES))
    again = QuestionAnswerGenerator.load_from_checkpoint(tmp_path / "fitted.ckpt", weights_only=True)
    new = PassageDataModule(train=None, predict=str(tmp_path / "passages.txt"))
    trainer(PredictionLines("pairs.jsonl")).predict(again, datamodule=new, return_predictions=False)
    lines = [json.loads(line) for line in Path("pairs.jsonl").read_text().splitlines()]
    asked = [(passage, pair) for n, passage in enumerate(PASSAGES) for pair in module.ask(passage, n=2, seed=n)]
    assert [(line["passage"], line["question"], line["answer"]) for line in lines] == [
        (passage, pair.question, pair.answer) for passage, pair in asked
    ]
    assert [line["score"] for line in lines] == pytest.approx([pair.score for _, pair in asked], rel=1e-4)


def test_other_training_files_than_the_checkpoint_s(tmp_path: Path) -> None:
    module, data = QuestionAnswerGenerator(**SMALL), PassageDataModule(vocabulary_size=1000)
    fitted = trainer(max_steps=1, limit_val_batches=0)
    fitted.fit(module, datamodule=data)
    fitted.save_checkpoint(tmp_path / "fitted.ckpt", weights_only=False)
    record = {"passage": PASSAGES[0], "question": "黄河流经多少个省区？", "answer": "九个"}
    (tmp_path / "other.jsonl").write_text(json.dumps(record))
    other = PassageDataModule(str(tmp_path / "other.jsonl"), vocabulary_size=1000)
    with pytest.raises(ValueError, match="the model has 16 tokens, the checkpoint has 843: take the training files"):
        trainer(max_steps=2, limit_val_batches=0).fit(
            QuestionAnswerGenerator(**SMALL), datamodule=other, ckpt_path=tmp_path / "fitted.ckpt", weights_only=True
        )
