"""docs/plugins.md is true, word by word: its files make a package, its commands run and print what it shows."""

import ast
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
import yaml

from callbacks import protocols
from runner.plugins import registered
from tests.plugin_recipe import PAGE, Command, commands, files, missing, write_files

PARENT = sysconfig.get_path("purelib")
# What a reader's shell finds: no network, and the setuptools that is there.
PROGRAMS = {
    "pip": '-m pip "$1" --quiet --no-index --no-build-isolation "${@:2}"',
    "pytest": '-m pytest -p no:cacheprovider "$@"',
    "litspaces": '-m run "$@"',
}


def entry_points() -> dict[str, str]:
    """The page's short names, by kind, and where their classes are."""
    groups = tomllib.loads(files()["pyproject.toml"])["project"]["entry-points"]
    assert set(groups) == {f"litspaces.{kind}" for kind in ("lit_modules", "datamodules", "callbacks", "optimizers")}
    return {name: value for group in groups.values() for name, value in group.items()}


def constructor(path: str, name: str) -> list[str]:
    """The arguments of a class's constructor in one of the page's files."""
    classes = {node.name: node for node in ast.parse(files()[path]).body if isinstance(node, ast.ClassDef)}
    functions = {node.name: node for node in classes[name].body if isinstance(node, ast.FunctionDef)}
    return [argument.arg for argument in functions["__init__"].args.args]


def test_short_names_are_those_of_classes_on_the_page() -> None:
    for name, value in entry_points().items():
        module, _, attribute = value.partition(":")
        assert attribute == name
        tree = ast.parse(files()[module.replace(".", "/") + ".py"])
        assert name in [node.name for node in tree.body if isinstance(node, ast.ClassDef)]


def test_config_and_search_space_name_what_there_is() -> None:
    config, space = yaml.safe_load(files()["shapes.yaml"]), yaml.safe_load(files()["search.yaml"])
    places = {"model": "ShapeAutoencoder", "data": "ShapeDataModule", "optimizer": "Tiger"}
    for key, name in places.items():
        assert config[key]["class_path"] == name
        path = entry_points()[name].partition(":")[0].replace(".", "/") + ".py"
        known = constructor(path, name)
        assert set(config[key]["init_args"]) <= set(known)
        prefix = f"{key}.init_args."
        assert {full.removeprefix(prefix) for full in space["parameters"] if full.startswith(prefix)} <= set(known)
    assert all(full.split(".")[0] in places for full in space["parameters"])
    assert space["metric"]["name"] == config["checkpoint"]["monitor"]
    assert "shapes.yaml" in space["command"]


def test_the_table_names_methods_of_protocols_and_callbacks() -> None:
    rows = [row.split("|")[1:3] for row in PAGE.read_text().splitlines() if row.startswith("| `")]
    methods = {name for row in rows for name in re.findall(r"`(\w+)\(", row[0])}
    asking = {name for row in rows for name in re.findall(r"`(\w+)`", row[1])}
    defined = {name for value in vars(protocols).values() if isinstance(value, type) for name in vars(value)}
    assert methods
    assert methods <= defined
    assert asking
    assert asking <= {plugin.name for plugin in registered("callbacks")}


def test_commands_are_found() -> None:
    lines = [command.line for command in commands()]
    assert lines[0].startswith("pip install")
    assert any(line.startswith("litspaces fit --config shapes.yaml") for line in lines)
    assert any(command.shown for command in commands())


def test_what_is_shown_is_compared() -> None:
    command = Command("litspaces fit", ["best  val/loss 0.100", "checkpoint  runs/.../last.ckpt"])
    assert not missing(command, "noise\nbest   val/loss 0.119\ncheckpoint runs/a/last.ckpt\n")
    assert missing(command, "best val/loss 0.121\ncheckpoint runs/a/last.ckpt\n") == command.shown[:1]
    assert missing(command, "checkpoint runs/a/last.ckpt\nbest val/loss 0.1\n") == command.shown[1:]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The variables of a shell in an empty virtual environment on top of this one."""
    folder = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    paths = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", vars=paths))
    # addsitedir and not a bare path, so that the parent's own .pth files count: litspaces itself may be one.
    (site / "parent.pth").write_text(f"import site; site.addsitedir({PARENT!r})\n")
    programs = Path(sysconfig.get_path("scripts", vars=paths))
    for name, arguments in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/bash\nexec {programs}/python {arguments}\n")
        (programs / name).chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
@pytest.mark.timeout(1800)  # Some fifteen processes, each of which imports torch.
def test_the_page_word_by_word(environment: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "litspaces-shapes"
    write_files(folder)
    for command in commands():
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {command.line}"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        print(f"$ {command.line}\n{done.stdout}")
        lacking = missing(command, done.stdout)
        assert not lacking, f"$ {command.line}\n{done.stdout}\ndid not print {lacking}"
        assert done.returncode == 0, f"$ {command.line}\n{done.stdout}"
