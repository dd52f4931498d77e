"""What the origin of predictions says of arguments."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn

from callbacks.prediction_origin import check_origin, origin_of, origin_path, write_origin
from tests.callbacks.modules import quiet_trainer


class Plain(LightningModule):
    """With arguments of all kinds, as hyper-parameters."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self.save_hyperparameters(arguments)
        self.layer = nn.Linear(1, 1)

    def get_extra_state(self) -> Any:
        return {"words": ["a"]}


class Data(LightningDataModule):
    """With arguments as attributes."""

    def __init__(self, source: object = None, batch_size: int = 1, hidden: int = 3) -> None:
        super().__init__()
        self.source = source
        self.batch_size = batch_size
        self._hidden = hidden


def origin(data: LightningDataModule | None = None, **arguments: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    trainer = quiet_trainer()
    trainer.datamodule = data  # type: ignore[attr-defined]
    return origin_of(trainer, Plain(**arguments))


def test_arguments_are_plain() -> None:
    assert origin(a=1, b=[0.5, (True, None)], c={"d": "e"}, f=len, _class_path="x")["model"] == {
        "class": "tests.callbacks.test_prediction_origin.Plain",
        "a": 1,
        "b": [0.5, [True, None]],
        "c": {"d": "e"},
        "f": "builtins.builtin_function_or_method",
    }


def test_attributes_serve_where_there_are_no_hyperparameters() -> None:
    name = "tests.callbacks.test_prediction_origin.Data"
    assert origin(Data("hf:text", batch_size=3))["data"] == {"class": name, "source": "hf:text"}
    assert origin(None)["data"] == {}


def test_files_are_told_by_size_and_change(tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("abc")
    os.utime(file, ns=(5, 7))
    found = origin(Data([str(file), str(tmp_path), "x" * 10_000, "a\0b"]))["data"]["source"]
    assert found == ["texts.txt, 3 bytes, changed 7", str(tmp_path), "x" * 10_000, "a\0b"]


def test_weights_count() -> None:
    model = Plain()
    before = origin_of(quiet_trainer(), model)
    assert origin_of(quiet_trainer(), model) == before
    model.to(torch.bfloat16)
    assert origin_of(quiet_trainer(), model)["weights"] != before["weights"]


def test_at_most_three_differences_are_said(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    write_origin(path, origin(a=1, b=2, c=3, d=4, e=(5,)))
    assert json.loads(origin_path(path).read_text())["model"]["e"] == [5]
    check_origin(path, origin(a=1, b=2, c=3, d=4, e=(5,)))
    with pytest.raises(ValueError, match=r"else: model.b=2 there, 3 here; model.c=3 there, None here; model.d=4 .*, 5"):
        check_origin(path, origin(a=1, b=3, d=5, e=(5,), f=1))
