"""Every module's checkpoint, exported and loaded: averaged weights and computed ones, and the same predictions."""

import json
import math
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.utils import parametrize

import datamodules
import run
from callbacks.ema import load_averaged_weights
from lit_modules.parts.networks import PointGenerator
from runner.errors import UserError
from runner.export import export
from runner.exported import CONFIG, DATA, WEIGHTS, load
from runner.plugins import Plugin
from tests.runner.command_line import ROOT, run_to_end
from tests.runner.exporting import POINTS, fit, fit_points, last, untrained
from tests.test_every_module import MODULES, config_of
from weight_norms import bake_in


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def as_trained(cls: Any, checkpoint: Path, averages: bool) -> Any:
    """The module as Lightning has it back from a checkpoint, with averaged weights if there are any."""
    module = cls.load_from_checkpoint(checkpoint, weights_only=True)
    if averages:
        load_averaged_weights(module, checkpoint)
    return module.eval()


def predictions(module: LightningModule, config: dict[str, Any]) -> list[Any]:
    """Of one batch."""
    arguments = config["data"].get("init_args", {})
    if "batch_size" in arguments:
        arguments["batch_size"] = 2
    data = getattr(datamodules, config["data"]["class_path"])(**arguments)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    torch.manual_seed(0)
    found = Trainer(accelerator="cpu", limit_predict_batches=1, **quiet).predict(module, datamodule=data)
    assert found
    return found


def assert_close(one: Any, other: Any) -> None:
    """Nested values are equal to 1e-6."""
    assert type(one) is type(other)
    if isinstance(one, Tensor):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)
    elif isinstance(one, dict):
        assert_close(list(one.items()), list(other.items()))
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for x, y in zip(one, other, strict=True):
            assert_close(x, y)
    else:
        assert math.isclose(one, other, abs_tol=1e-6) if isinstance(one, float) else one == other


@pytest.mark.parametrize("plugin", MODULES, ids=lambda plugin: plugin.name)
def test_every_module_comes_back(plugin: Plugin, tmp_path: Path) -> None:
    config = config_of(plugin)
    checkpoint = last(fit(tmp_path, config))
    loaded = load(export(checkpoint, tmp_path / "out"))
    averaged = [c for c in config["trainer"]["callbacks"] if c["class_path"] == "ExponentialMovingAverage"]
    trained = as_trained(plugin.load(), checkpoint, bool(averaged))
    assert not loaded.training
    assert dict(loaded.hparams) == dict(trained.hparams)
    assert_close(predictions(loaded, config), predictions(trained, config))
    weights = bake_in(trained).state_dict()
    assert weights.keys() == loaded.state_dict().keys()
    for name, weight in loaded.state_dict().items():
        assert torch.equal(weight, weights[name]), name


def test_averaged_weights_and_normalizations_are_in_it(tmp_path: Path) -> None:
    checkpoint = last(fit_points(tmp_path))
    out = export(checkpoint, tmp_path / "out")
    gan = load(out)
    assert not any(parametrize.is_parametrized(part) for part in gan.modules())
    trained, raw = (as_trained(type(gan), checkpoint, averages) for averages in (True, False))
    z, x = torch.randn(5, 4), torch.randn(5, 2)
    torch.testing.assert_close(gan(z), trained(z), atol=1e-6, rtol=0)
    torch.testing.assert_close(gan.discriminator(x), trained.discriminator(x), atol=1e-6, rtol=0)
    assert not torch.allclose(gan(z), raw(z), atol=1e-6)
    torch.manual_seed(0)
    samples = gan.sample(3)
    torch.manual_seed(0)
    torch.testing.assert_close(samples, trained.sample(3), atol=1e-6, rtol=0)


def test_what_a_callback_normalizes_is_in_it(tmp_path: Path) -> None:
    normalized = '{"class_path": "WeightNormalization", "init_args": {"kind": "l2", "names": ["generator.*"]}}'
    folder = fit_points(tmp_path, f"--trainer.callbacks+={normalized}", model={"spectral_norm": False})
    gan = load(export(folder, tmp_path / "out"))
    layers = [layer for layer in gan.generator.layers if isinstance(layer, nn.Linear)]
    assert layers
    for layer in layers:
        norms = torch.linalg.vector_norm(layer.weight, dim=1)
        torch.testing.assert_close(norms, torch.ones_like(norms))


def test_a_folder_stands_for_its_best_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fit_points(tmp_path)
    assert run.main(["export", f"--ckpt={folder}", "--out=one"]) == 0
    assert "last.ckpt" in capsys.readouterr().out
    (folder / "checkpoints" / "best-step=1.ckpt").write_bytes(last(folder).read_bytes())
    assert run.main(["export", f"--ckpt={folder}", "--out=two"]) == 0
    printed = capsys.readouterr().out
    assert "best-step=1.ckpt" in printed
    assert "averaged  generator" in printed
    assert sorted(path.name for path in Path("two").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "training.yaml",
    ]


def test_a_window_that_waits_for_its_step_stays_behind(tmp_path: Path) -> None:
    checkpoint = last(fit_points(tmp_path))
    saved = torch.load(checkpoint, weights_only=True) | {"gathered_batches": [torch.zeros(4, 2)]}
    torch.save(saved, checkpoint)
    out = export(checkpoint, tmp_path / "out")
    assert json.loads((out / "config.json").read_text())["state"] == {}


def test_networks_that_the_configuration_describes(tmp_path: Path) -> None:
    own = {"class_path": "lit_modules.parts.networks.PointGenerator", "init_args": {"latent_dim": 4, "width": 5}}
    folder = fit_points(tmp_path, model={"generator": own})
    out = export(folder, tmp_path / "out")
    with pytest.raises(UserError, match=r"generator is lit_modules\.parts\.networks\.PointGenerator.*into=module"):
        load(out)
    gan = load(out, into=untrained(generator=PointGenerator(latent_dim=4, width=5)))
    z = torch.randn(3, 4)
    torch.testing.assert_close(gan(z), as_trained(type(gan), last(folder), True)(z), atol=1e-6, rtol=0)
    # A checkpoint that comes without its run names code that is not run.
    alone = tmp_path / "alone.ckpt"
    alone.write_bytes(last(folder).read_bytes())
    with pytest.raises(UserError, match="generator is"):
        export(alone, tmp_path / "other")


def test_from_code_of_ones_own(tmp_path: Path) -> None:
    """Its checkpoints don't say of which class they are."""
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(max_steps=1, accelerator="cpu", limit_val_batches=0, **quiet)
    trainer.fit(untrained(), datamodule=datamodules.PointsDataModule(num_points=64, num_val_points=8, batch_size=32))
    trainer.save_checkpoint(tmp_path / "own.ckpt", weights_only=False)
    with pytest.raises(UserError, match=r"does not say of which class it is.*into=module"):
        export(tmp_path / "own.ckpt", tmp_path / "out")
    gan = load(export(tmp_path / "own.ckpt", tmp_path / "out", into=untrained()), into=untrained())
    z = torch.randn(3, 4)
    torch.testing.assert_close(gan(z), trainer.lightning_module.generator.eval()(z), atol=1e-6, rtol=0)


# ---- Mistakes ----


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command says when it refuses, after exit code 2."""
    assert run.main(["export", *arguments]) == 2
    return capsys.readouterr().err


def test_mistakes_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("full").mkdir()
    Path("full/file").touch()
    assert "--out" in refused(capsys, "--ckpt=x")
    assert "no option --ouf. Did you mean '--out'?" in refused(capsys, "--ckpt=x", "--out=y", "--ouf=z")
    assert "there is no checkpoint lost.ckpt" in refused(capsys, "--ckpt=lost.ckpt", "--out=out")
    assert "there is no checkpoint in full" in refused(capsys, "--ckpt=full", "--out=out")
    Path("broken.ckpt").write_text("no checkpoint")
    assert "broken.ckpt is not a checkpoint" in refused(capsys, "--ckpt=broken.ckpt", "--out=out")
    assert run.main(["export", "--ckpt=lost.ckpt", "--out=out", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err
    assert not Path("out").exists()


def test_errors_from_deeper_down(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(_: Path) -> None:
        raise ValueError("broken")

    monkeypatch.setattr("runner.export.find_checkpoint", broken)
    assert refused(capsys, "--ckpt=x", "--out=y") == "error: broken (--debug shows where)\n"


def test_out_has_to_be_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = last(fit_points(tmp_path))
    for name in ("full", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "file").touch()
    assert "--out full is not empty" in refused(capsys, f"--ckpt={checkpoint}", "--out=full")
    assert "--out driven.yaml is a file" in refused(capsys, f"--ckpt={checkpoint}", "--out=driven.yaml")
    assert run.main(["export", f"--ckpt={checkpoint}", "--out=empty"]) == 0
    assert "--out empty is not empty" in refused(capsys, f"--ckpt={checkpoint}", "--out=empty")


def test_nothing_is_left_of_an_export_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = last(fit_points(tmp_path))
    before = set(tmp_path.iterdir())
    monkeypatch.setattr("runner.export.model_card", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(checkpoint, tmp_path / "out")
    assert set(tmp_path.iterdir()) == before


def test_a_class_that_nobody_registers(tmp_path: Path) -> None:
    checkpoint = last(fit_points(tmp_path))
    saved = torch.load(checkpoint, weights_only=True)
    saved["litspaces"]["model_class"] = "lit_modules.relativistic_gan.RelativisticGun"
    torch.save(saved, checkpoint)
    with pytest.raises(UserError, match=r"no registered module .*RelativisticGun\. Did you mean 'RelativisticGAN'"):
        export(checkpoint, tmp_path / "out")


def test_state_that_json_cannot_hold(tmp_path: Path) -> None:
    checkpoint = last(fit_points(tmp_path))
    saved = torch.load(checkpoint, weights_only=True)
    saved["hyper_parameters"]["optimizer_args"] = {"dtype": torch.float32}
    torch.save(saved, checkpoint)
    with pytest.raises(UserError, match=r"arguments\.optimizer_args\.dtype is a dtype, which JSON cannot hold"):
        export(checkpoint, tmp_path / "out", into=untrained())


@pytest.mark.slow
def test_in_processes_of_their_own(tmp_path: Path) -> None:
    folder = fit_points(tmp_path)
    printed = run_to_end(tmp_path, "export", f"--ckpt={folder}", "--out=out", "--onnx")
    assert "ONNX      generator.onnx, discriminator.onnx" in printed
    assert "torchvision" not in printed
    assert (tmp_path / "out" / "generator.onnx").is_file()
    assert "usage: run.py export" in run_to_end(tmp_path, "export", "--help")


def test_arguments_are_those_of_the_run(tmp_path: Path) -> None:
    config = json.loads((export(fit_points(tmp_path), tmp_path / "out") / "config.json").read_text())
    assert config["class"] == "lit_modules.relativistic_gan.RelativisticGAN"
    assert config["arguments"].items() >= POINTS.items()


def test_the_pages_commands_are_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "export.md").read_text()
    commands = re.findall(r"python run\.py (export [^\n`]*)", text)
    assert commands
    for command in commands:
        assert "there is no checkpoint" in refused(capsys, *shlex.split(command)[1:])
    about = (ROOT / "runner" / "exported.py").read_text()
    assert all(name in text and name in about for name in (CONFIG, DATA, WEIGHTS, "training.yaml"))
