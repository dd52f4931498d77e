"""Entry-point plugins: a third-party package, built and put on the path, is as good as the project's own classes."""

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest

import run
from runner import plugins

PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "party"
version = "1.0"
[project.entry-points."litspaces.callbacks"]
Confetti = "party:Confetti"
Broken = "party.broken:Broken"
[project.entry-points."litspaces.lit_modules"]
PartyModule = "party:PartyModule"
[tool.setuptools]
packages = ["party"]
"""
CODE = '''
from lightning.pytorch.callbacks import Callback
from tests.toys import ToyModule

class Confetti(Callback):
    """Celebrates."""
    def __init__(self, pieces: int = 3) -> None:
        self.pieces = pieces
    def on_fit_end(self, trainer, pl_module) -> None:
        print(f"confetti: {self.pieces} pieces")

class PartyModule(ToyModule):
    """Dances."""
'''


@pytest.fixture(scope="module")
def party(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of a tiny package, built by its own pyproject.toml and unpacked as pip would."""
    source, site = tmp_path_factory.mktemp("party-source"), tmp_path_factory.mktemp("site")
    (source / "party").mkdir()
    (source / "pyproject.toml").write_text(PYPROJECT)
    (source / "party" / "__init__.py").write_text(CODE)
    (source / "party" / "broken.py").write_text("import a_module_that_is_not_there\n")
    build = "import setuptools.build_meta as b; print(b.build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(source / done.stdout.splitlines()[-1]) as wheel:
        wheel.extractall(site)
    return site


@pytest.fixture
def with_party(party: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(party))
    monkeypatch.chdir(tmp_path)
    plugins.registered.cache_clear()
    yield
    plugins.registered.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "party"]:
        del sys.modules[name]


def test_the_projects_own_classes_are_registered_by_entry_points() -> None:
    groups = {point.group for point in distribution("litspaces").entry_points}
    assert {"litspaces.lit_modules", "litspaces.datamodules", "litspaces.callbacks"} <= groups
    assert "RelativisticGAN" in [plugin.name for plugin in plugins.registered("modules")]


@pytest.mark.usefixtures("with_party")
def test_list_shows_it_and_names_what_is_broken(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["list", "callbacks"]) == 0
    out = capsys.readouterr().out
    assert "Confetti" in out
    assert "Celebrates." in out
    assert "ImageGrid" in out
    assert "party.broken.Broken" in out
    assert "a_module_that_is_not_there" in out


@pytest.mark.usefixtures("with_party")
def test_its_short_names_work_in_a_config(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = tmp_path / "party.yaml"
    config.write_text(
        "model: PartyModule\ndata: tests.toys.ToyData\n"
        "trainer:\n  max_steps: 1\n  enable_progress_bar: false\n"
        "  callbacks:\n    - class_path: Confetti\n      init_args: {pieces: 5}\n"
    )
    assert run.main(["fit", "--config", str(config)]) == 0
    assert "confetti: 5 pieces" in capsys.readouterr().out


@pytest.mark.usefixtures("with_party")
def test_nothing_joins_a_trainer_without_being_named(capsys: pytest.CaptureFixture[str]) -> None:
    toy = ["--model=tests.toys.ToyModule", "--data=tests.toys.ToyData", "--trainer.enable_progress_bar=false"]
    assert run.main(["fit", *toy, "--trainer.max_steps=1"]) == 0
    assert "confetti" not in capsys.readouterr().out
    assert "party" not in sys.modules


@pytest.mark.usefixtures("with_party")
def test_a_broken_plugin_is_named_when_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    toy = ["--model=tests.toys.ToyModule", "--data=tests.toys.ToyData"]
    assert run.main(["fit", *toy, "--trainer.callbacks+=Broken"]) == 2
    assert "Broken (party.broken.Broken, from party) cannot be imported" in capsys.readouterr().err


def test_list_of_an_unknown_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["list", "module"]) == 2
    assert "Did you mean 'modules'?" in capsys.readouterr().err


def test_list_configs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["list", "configs"]) == 0
    out = capsys.readouterr().out
    assert "configs/relativistic_gan.yaml" in out
    assert "Article 1" in out
