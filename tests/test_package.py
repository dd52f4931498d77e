"""An installed copy is whole: built as pip would, unpacked, run from a folder that has no checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The contents of the wheel."""
    source, site = tmp_path_factory.mktemp("source") / "litspaces", tmp_path_factory.mktemp("site")
    unwanted = shutil.ignore_patterns(".git", ".*_cache", "runs", "build", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, source, ignore=unwanted)
    build = "import setuptools.build_meta as b; print(b.build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(source / done.stdout.splitlines()[-1]) as wheel:
        wheel.extractall(site)
    return site


def litspaces(site: Path, folder: Path, *arguments: str) -> str:
    """What the installed command prints."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys, run; sys.exit(run.main())", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(site), "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_what_is_needed(site: Path) -> None:
    for name in ("run.py", "runner/configs/relativistic_gan.yaml", "runner/sweeps/relativistic_gan.yaml"):
        assert (site / name).is_file()
    assert (site / "callbacks/mnist_features.safetensors").is_file()
    assert (site / "lit_modules/py.typed").is_file()
    assert not (site / "tests").exists()
    assert not (site / "benchmarks").exists()


def test_the_licenses_are_there(site: Path) -> None:
    assert list(site.glob("litspaces-*.dist-info/licenses/LICENSE"))


@pytest.mark.slow
def test_it_finds_its_configs_and_trains(site: Path, tmp_path: Path) -> None:
    script = "import runner.shipped as s; print(s.shipped('configs'))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == str(site / "runner" / "configs")
    assert "configs/relativistic_gan.yaml" in litspaces(site, tmp_path, "list", "configs")
    short = ["--trainer.max_steps=2", "--trainer.val_check_interval=2", "--trainer.limit_val_batches=1"]
    litspaces(site, tmp_path, "fit", "--config", "configs/relativistic_gan.yaml", *short)
    assert list(tmp_path.glob("runs/relativistic_gan/*/checkpoints/last.ckpt"))
