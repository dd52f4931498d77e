"""Small trainings whose checkpoints are exported."""

from pathlib import Path
from typing import Any

import yaml

import run
from lit_modules import RelativisticGAN
from tests.runner.command_line import only_run

POINTS = {"network": "points", "latent_dim": 4, "width": 8, "spectral_norm": True}


def fit(folder: Path, config: dict[str, Any], *arguments: str) -> Path:
    """Trains two steps without validation and returns the run's folder."""
    config["trainer"] |= {"max_steps": 2, "limit_val_batches": 0}
    path = folder / "driven.yaml"
    path.write_text(yaml.safe_dump(config))
    assert run.main(["fit", "--config", str(path), *arguments]) == 0
    return only_run(folder)


def fit_points(folder: Path, *arguments: str, model: dict[str, Any] | None = None) -> Path:
    """The same of a GAN of points, whose discriminator has spectral norm and whose generator is averaged."""
    average = {"class_path": "ExponentialMovingAverage", "init_args": {"module": "generator", "decay": 0.5}}
    trainer = {"accelerator": "cpu", "enable_progress_bar": False, "callbacks": [average]}
    trainer["strategy"] = "ddp_find_unused_parameters_true"
    data = {"class_path": "PointsDataModule", "init_args": {"num_points": 256, "num_val_points": 32, "batch_size": 32}}
    described = {"class_path": "RelativisticGAN", "init_args": POINTS | (model or {})}
    return fit(folder, {"model": described, "data": data, "trainer": trainer}, *arguments)


def last(run_folder: Path) -> Path:
    """A run's last checkpoint."""
    return run_folder / "checkpoints" / "last.ckpt"


def untrained(**arguments: Any) -> RelativisticGAN:
    """A GAN of points as it comes."""
    return RelativisticGAN(**POINTS | arguments)
