"""Entry-point plugins: a third-party package, built and put on the path, is as good as the project's own classes.

The package is that of docs/plugins.md, with two entry points that are wrong.
"""

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest

import run
from runner import plugins
from tests.plugin_recipe import write_files
from tests.runner.command_line import TOY, only_run

CALLBACKS = '[project.entry-points."litspaces.callbacks"]\n'
WRONG = 'Broken = "shapes.broken:Broken"\nMisnamed = "shapes.worst:WorstReconstruction"\n'


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the package, built by its own pyproject.toml and unpacked as pip would."""
    source, site = tmp_path_factory.mktemp("shapes-source"), tmp_path_factory.mktemp("site")
    write_files(source)
    project = source / "pyproject.toml"
    project.write_text(project.read_text().replace(CALLBACKS, CALLBACKS + WRONG))
    (source / "shapes" / "broken.py").write_text("import a_module_that_is_not_there\n")
    build = "import setuptools.build_meta as b; print(b.build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(source / done.stdout.splitlines()[-1]) as wheel:
        wheel.extractall(site)
    return site


@pytest.fixture
def with_shapes(shapes: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(shapes))
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    plugins.registered.cache_clear()
    yield
    # What was imported stays so: its classes live on, and jsonargparse looks for the modules of all there are.
    plugins.registered.cache_clear()


def test_the_projects_own_classes_are_registered_by_entry_points() -> None:
    groups = {point.group for point in distribution("litspaces").entry_points}
    assert {"litspaces.lit_modules", "litspaces.datamodules", "litspaces.callbacks"} <= groups
    assert "RelativisticGAN" in [plugin.name for plugin in plugins.registered("modules")]


@pytest.mark.usefixtures("with_shapes")
def test_list_shows_it_and_names_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["list", "callbacks"]) == 0
    out = capsys.readouterr().out
    assert "WorstReconstruction" in out
    assert "Logs val/worst_error" in out
    assert "ImageGrid" in out
    assert "shapes.broken.Broken" in out
    assert "a_module_that_is_not_there" in out
    assert "Misnamed (shapes.worst.WorstReconstruction, from litspaces-shapes) is not a class of that name" in out


@pytest.mark.usefixtures("with_shapes")
@pytest.mark.filterwarnings("ignore:`ShapeAutoencoder.configure_optimizers` will be overridden")
def test_its_short_names_work_in_a_config(tmp_path: Path) -> None:
    short = ["--trainer.max_steps=2", "--trainer.val_check_interval=2", "--trainer.enable_progress_bar=false"]
    assert run.main(["fit", "--config", "shapes.yaml", *short]) == 0
    header = (only_run(tmp_path) / "metrics.csv").read_text().splitlines()[0]
    assert {"val/loss", "val/worst_error"} <= set(header.split(","))
    assert list(only_run(tmp_path).glob("media/reconstructions-*.png"))


@pytest.mark.usefixtures("with_shapes")
def test_nothing_is_imported_or_joins_a_trainer_without_being_named(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    monkeypatch.setattr(plugins.Plugin, "load", lambda plugin: loaded.append(plugin.name))
    # The callback would refuse this module, which reconstructs nothing.
    assert run.main(["fit", *TOY, "--trainer.max_steps=1"]) == 0
    assert not loaded


@pytest.mark.usefixtures("with_shapes")
@pytest.mark.parametrize(("name", "reason"), [("Broken", "cannot be imported"), ("Misnamed", "is not a class of")])
def test_a_wrong_plugin_is_named_when_it_is_used(name: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["fit", *TOY, f"--trainer.callbacks+={name}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {name} (shapes.")
    assert f"from litspaces-shapes) {reason}" in said


def test_list_of_an_unknown_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["list", "module"]) == 2
    assert "Did you mean 'modules'?" in capsys.readouterr().err


def test_list_configs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["list", "configs"]) == 0
    out = capsys.readouterr().out
    assert "configs/relativistic_gan.yaml" in out
    assert "Article 1" in out
