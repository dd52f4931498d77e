"""The model card says what was trained, on what, how well, and how to repeat it; Hugging Face's library reads it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

from lit_modules import RelativisticGAN
from runner.export_card import last_metrics, model_card
from runner.export_checkpoint import Trained
from runner.exported import Description
from tests.runner.exporting import POINTS

METRICS = "step,epoch,train/loss,val/fid,val/kid\n0,0,1.5,,\n1,0,,30.5,\n1,0,,,2.25\n2,0,1.25,,\n3,0,,20.0,1.0\n"


def trained(run: Path | None = None, config: str = "", **checkpoint: Any) -> Trained:
    saved = {"global_step": 2, "epoch": 0, "pytorch-lightning_version": "2.6.6"} | checkpoint
    if run is not None:
        (run / "config.yaml").write_text(config)
    description = Description("lit_modules.relativistic_gan.RelativisticGAN", POINTS, {})
    return Trained(RelativisticGAN(**POINTS), description, ["generator"], saved, Path("last.ckpt"), run)


def test_metrics_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(METRICS)
    at_step_2 = trained(tmp_path, litspaces={"num_rows": 3})
    assert last_metrics(at_step_2) == {"val/fid": 30.5, "val/kid": 2.25}
    at_the_end = trained(tmp_path, litspaces={"num_rows": 5})
    assert last_metrics(at_the_end) == {"val/fid": 20.0, "val/kid": 1.0}


def test_without_a_run_there_is_what_the_checkpoint_was_chosen_by(tmp_path: Path) -> None:
    score = {"monitor": "val/fid", "current_score": torch.tensor(30.5)}
    assert last_metrics(trained(callbacks={"ModelCheckpoint": score, "Other": 3})) == {"val/fid": 30.5}
    assert last_metrics(trained()) == {}


def test_the_card_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(METRICS)
    config = "data: {class_path: datamodules.ImageDataModule, init_args: {source: embedded, size: 28, split: null}}"
    text = model_card(trained(tmp_path, config, litspaces={"num_rows": 5}), {"model.safetensors": "a | b"})
    card = ModelCard(text)
    assert card.data.library_name == "litspaces"
    assert card.data.model_name == "RelativisticGAN"
    assert {result.metric_type: result.metric_value for result in card.data.eval_results} == {
        "val/fid": 20.0,
        "val/kid": 1.0,
    }
    assert "\n# RelativisticGAN\n\nArticle 1: RSGAN" in text
    assert "MNIST" in text
    assert "License: CC BY-SA 3.0." in text
    assert "| `size` | `28` |" in text
    assert "`split`" not in text
    assert "| `val/kid` | 1 |" in text
    assert "exponential moving average, of: generator." in text
    assert "python run.py fit --config training.yaml" in text
    assert f"| torch | {torch.__version__} |" in text
    assert r"| model.safetensors | a \| b |" in text


def test_the_card_of_code_of_ones_own() -> None:
    text = model_card(trained(datamodule_hyper_parameters={"source": "embedded"}), {})
    assert ModelCard(text).data.eval_results is None
    assert "a datamodule of the user's own. litspaces does not know the license" in text
    assert "| `source` | `'embedded'` |" in text
    assert "None were logged." in text
    assert "run.py fit" not in text


@pytest.mark.parametrize(
    ("name", "argument", "value", "wanted"),
    [
        ("EntityLinkingDataModule", "knowledge", "embedded", "License: Apache-2.0."),
        ("EntityLinkingDataModule", "knowledge", "kb.jsonl", "does not know the license"),
        ("NeighborsDataModule", "source", "digits", "License: CC BY 4.0."),
        ("TextDataModule", "source", ["a.txt"], "does not know the license"),
    ],
)
def test_licenses_of_data(name: str, argument: str, value: Any, wanted: str, tmp_path: Path) -> None:
    saved = {"_class_path": f"datamodules.{name}", argument: value}
    assert wanted in model_card(trained(datamodule_hyper_parameters=saved), {})
