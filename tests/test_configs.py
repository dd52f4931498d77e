"""Every shipped config and sweep works as it is."""

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

import run

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def test_there_are_some() -> None:
    assert CONFIGS
    assert SWEEPS


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_runs_two_steps_and_a_validation(path: Path, tmp_path: Path) -> None:
    steps = ["--trainer.max_steps=2", "--trainer.val_check_interval=2", "--trainer.limit_val_batches=1"]
    assert run.main(["fit", "--config", f"configs/{path.name}", *steps]) == 0
    (folder,) = (tmp_path / "runs" / path.stem).iterdir()
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    columns = (folder / "metrics.csv").read_text().splitlines()[0].split(",")
    monitor = yaml.safe_load(path.read_text())["checkpoint"].get("monitor")
    assert monitor in columns or monitor is None
    complete = yaml.safe_load((folder / "config.yaml").read_text())
    assert complete["trainer"]["max_steps"] == 2
    # Complete: what the config leaves at its default is there too.
    module = _imported(complete["model"]["class_path"])
    arguments = set(inspect.signature(module.__init__).parameters) - {"self"}
    assert set(complete["model"]["init_args"]) == arguments


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_says_in_its_first_line_what_it_is(path: Path) -> None:
    assert path.read_text().startswith("# Article ")


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_sweep_names_arguments_that_exist(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = yaml.safe_load(path.read_text())
    arguments = []
    for name, values in space["parameters"].items():
        value = values["values"][0] if "values" in values else values["min"]
        arguments.append(f"--{name}={str(value).lower()}")
    config = space["command"][space["command"].index("--config") + 1]
    with pytest.raises(SystemExit) as ended:
        run.main(["fit", "--config", config, *arguments, "--print_config"])
    assert ended.value.code == 0
    assert space["metric"]["name"] in (ROOT / config).read_text()
