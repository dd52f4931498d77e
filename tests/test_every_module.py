"""One driver for every registered module: build, train, validate, checkpoint, reload, resume, two processes."""

import copy
import csv
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import LightningModule

import run
from runner.plugins import Plugin, registered
from runner.shipped import shipped
from tests.comparing import assert_same
from tests.runner.command_line import ROOT, only_run, run_to_end

MODULES = [plugin for plugin in registered("modules") if plugin.distribution == "litspaces"]
STEPS = 4


def config_of(plugin: Plugin) -> dict[str, Any]:
    """The shipped config of a module, with the module's own defaults and little to evaluate."""
    for path in sorted(shipped("configs").glob("*.yaml")):
        config = yaml.safe_load(path.read_text())
        if config["model"]["class_path"] == plugin.name:
            config["model"] = {"class_path": plugin.name}
            config["trainer"] |= {"max_steps": STEPS, "val_check_interval": 2, "limit_val_batches": 1}
            config["trainer"] |= {"log_every_n_steps": 1, "enable_progress_bar": False}
            for callback in config["trainer"]["callbacks"]:
                if callback["class_path"] == "GenerativeMetrics":
                    callback["init_args"]["num_samples"] = 200
            return config
    raise AssertionError(f"no config trains {plugin.name}")


def write(folder: Path, config: dict[str, Any]) -> str:
    path = folder / "driven.yaml"
    path.write_text(yaml.safe_dump(config))
    return str(path)


def load(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.fixture(params=MODULES, ids=lambda plugin: plugin.name)
def plugin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Plugin:
    monkeypatch.chdir(tmp_path)
    return request.param


def evaluation(command: str, config: str, folder: Path) -> list[str]:
    """The last row that evaluating a run's last checkpoint logs, under the columns of the run's metrics.csv."""
    before = set(folder.parent.iterdir())
    assert run.main([command, "--config", config, f"--ckpt_path={folder}"]) == 0
    (evaluated,) = set(folder.parent.iterdir()) - before
    columns = (folder / "metrics.csv").read_text().splitlines()[0].split(",")
    with (evaluated / "metrics.csv").open(newline="") as file:
        row = list(csv.DictReader(file))[-1]
    return [row.get(column, "") for column in columns]


def test_there_are_some() -> None:
    assert MODULES


def test_build_with_default_arguments(plugin: Plugin) -> None:
    module = plugin.load()()
    assert isinstance(module, LightningModule)
    assert module.training
    # Some are made when it is known what the items are.
    assert list(module.parameters())


def test_train_checkpoint_reload_resume(plugin: Plugin, tmp_path: Path) -> None:
    config = config_of(plugin)
    assert run.main(["fit", "--config", write(tmp_path, config)]) == 0
    whole = only_run(tmp_path)
    saved = load(whole)
    assert saved["global_step"] == STEPS
    rows = (whole / "metrics.csv").read_text()
    assert len(rows.splitlines()) >= 1 + STEPS + STEPS // 2

    reloaded = plugin.load().load_from_checkpoint(whole / "checkpoints" / "last.ckpt", weights_only=True)
    assert_same(dict(reloaded.state_dict()), {name: saved["state_dict"][name] for name in reloaded.state_dict()})
    assert_same(evaluation("validate", write(tmp_path, config), whole), rows.splitlines()[-1].split(","))

    assert_resumed_equals(whole, config, tmp_path / "cut")


def assert_resumed_equals(whole: Path, config: dict[str, Any], parent: Path) -> None:
    """A run that is cut off after half of its steps and resumed ends as the whole one did."""
    parent.mkdir()
    longer = copy.deepcopy(config)
    longer["trainer"]["default_root_dir"] = str(parent)
    shorter = copy.deepcopy(longer)
    shorter["trainer"]["max_steps"] = STEPS // 2
    assert run.main(["fit", "--config", write(parent, shorter)]) == 0
    assert run.main(["fit", "--config", write(parent, longer), "--ckpt_path=last"]) == 0
    (resumed,) = (parent / "driven").iterdir()
    assert (resumed / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    assert_same(load(resumed), load(whole))


@pytest.mark.slow
def test_resume_with_accumulated_gradients(plugin: Plugin, tmp_path: Path) -> None:
    config, accumulated = config_of(plugin), {"accumulate_grad_batches": 2}
    if "accumulate_grad_batches" in inspect.signature(plugin.load()).parameters:
        config["model"]["init_args"] = accumulated
    else:
        config["trainer"] |= accumulated
    assert run.main(["fit", "--config", write(tmp_path, config)]) == 0
    assert_resumed_equals(only_run(tmp_path), config, tmp_path / "cut")


def test_checkpoint_of_a_module_built_in_python(plugin: Plugin, tmp_path: Path) -> None:
    data = config_of(plugin)["data"]["class_path"]
    script = f"""
import datamodules
import lightning.pytorch as L
from importlib import import_module
module = getattr(import_module({plugin.entry_point.module!r}), {plugin.name!r})()
trainer = L.Trainer(max_steps=2, accelerator="cpu", logger=False, limit_val_batches=1, enable_progress_bar=False)
trainer.fit(module, datamodule=datamodules.{data}())
trainer.save_checkpoint("python.ckpt", weights_only=False)
again = type(module).load_from_checkpoint("python.ckpt", weights_only=True)
assert all((a == b).all() for a, b in zip(module.state_dict().values(), again.state_dict().values(), strict=True))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_two_processes_resume_exactly(plugin: Plugin, tmp_path: Path) -> None:
    """From the command line, with half batches: cut off after 2 steps of 4 and resumed, they end as if not cut."""
    config = config_of(plugin)
    data = config["data"].get("init_args", {})
    if "batch_size" in data:
        data["batch_size"] //= 2
    path, two = write(tmp_path, config), ["--trainer.devices=2", "--trainer.accelerator=cpu"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    run_to_end(whole, "fit", "--config", path, *two)
    run_to_end(cut, "fit", "--config", path, *two, "--trainer.max_steps=2")
    run_to_end(cut, "fit", "--config", path, *two, "--ckpt_path=last")
    folders = only_run(whole), only_run(cut)
    assert load(folders[0])["global_step"] == STEPS
    assert_same(load(folders[1]), load(folders[0]))
    pictures = [path.relative_to(folders[0]) for path in folders[0].glob("media/*.png")]
    # A config may draw none.
    assert {str(path)[-5] for path in pictures} in ({"2", "4"}, set())
    for name in (Path("metrics.csv"), *pictures):
        assert (folders[1] / name).read_bytes() == (folders[0] / name).read_bytes(), name
