"""Mixtures of Gaussians."""

import inspect
import math
from typing import Any

import pytest
import torch

from datamodules import PointsDataModule


@pytest.mark.parametrize(
    ("distribution", "modes", "std"), [("grid25", 25, 0.05), ("ring8", 8, 0.01), ("gaussian", 1, 1.0)]
)
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_points_lie_around_their_modes(distribution: Any, modes: int, std: float, scale: float) -> None:
    module = PointsDataModule(distribution, num_points=20_000, scale=scale)
    module.setup("fit")
    assert module.centers.shape == (modes, 2)
    assert module.std == std * scale
    points, labels = map(torch.cat, zip(*module.train_dataloader(), strict=True))
    assert points.dtype == torch.float32
    assert points.shape == (20_000 // 256 * 256, 2)
    assert torch.bincount(labels, minlength=modes).min() > 0.8 * len(points) / modes
    offsets = (points - module.centers[labels]) / module.std
    assert offsets.mean().abs() < 0.02
    assert offsets.std().item() == pytest.approx(1, abs=0.02)
    within = (offsets.norm(dim=1) < 3).float().mean().item()
    assert within == pytest.approx(1 - math.exp(-4.5), abs=0.003)  # Rayleigh


def test_centers() -> None:
    grid = PointsDataModule("grid25").centers
    assert sorted(set(grid.flatten().tolist())) == [-4, -2, 0, 2, 4]
    assert len(grid.unique(dim=0)) == 25
    assert torch.allclose(PointsDataModule("ring8", scale=2).centers.norm(dim=1), torch.tensor(2.0))


def test_parts_and_seeds_are_drawn_apart() -> None:
    def first(seed: int, loader: str) -> torch.Tensor:
        module = PointsDataModule(seed=seed, num_points=512, num_val_points=300)
        return torch.cat([points for points, _ in getattr(module, loader)()])

    assert torch.equal(first(0, "train_dataloader"), first(0, "train_dataloader"))
    assert first(0, "val_dataloader").shape == (300, 2)
    assert torch.equal(first(0, "val_dataloader"), first(0, "test_dataloader"))
    for other in (first(1, "train_dataloader"), first(0, "val_dataloader")):
        assert not torch.isin(other, first(0, "train_dataloader")).all(dim=1).any()


def test_unknown_distribution() -> None:
    with pytest.raises(ValueError, match="distribution is 'grid', but has to be grid25 or ring8 or gaussian"):
        PointsDataModule("grid")  # type: ignore[arg-type]


def test_all_arguments_are_documented() -> None:
    documented = inspect.getdoc(PointsDataModule) or ""
    missing = [name for name in inspect.signature(PointsDataModule).parameters if f"    {name}:" not in documented]
    assert missing == []
