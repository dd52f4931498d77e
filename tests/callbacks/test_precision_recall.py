import pytest
import torch
from torch import Tensor

import callbacks.precision_recall as code
from callbacks.precision_recall import NearestNeighborPrecisionRecall


def brute_force(real: Tensor, fake: Tensor, nearest_k: int) -> tuple[float, float]:
    """The definition, one distance at a time."""

    def distance(a: Tensor, b: Tensor) -> float:
        return (a - b).square().sum().sqrt().item()

    def coverage(points: Tensor, support: Tensor) -> float:
        radii = [
            sorted(distance(one, other) for j, other in enumerate(support) if j != i)[nearest_k - 1]
            for i, one in enumerate(support)
        ]
        inside = [any(distance(p, s) <= radius for s, radius in zip(support, radii, strict=True)) for p in points]
        return sum(inside) / len(inside)

    return coverage(fake, real), coverage(real, fake)


def evaluate(real: Tensor, fake: Tensor, nearest_k: int = 3) -> tuple[float, float]:
    metric = NearestNeighborPrecisionRecall(nearest_k)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    precision, recall = metric.compute()
    return precision.item(), recall.item()


@pytest.mark.parametrize("nearest_k", [1, 3])
@pytest.mark.parametrize("at_once", [1, 200, 2**24])
def test_equals_brute_force(nearest_k: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "_DISTANCES_AT_ONCE", at_once)
    generator = torch.Generator().manual_seed(nearest_k)
    real = torch.randn(60, 3, generator=generator, dtype=torch.float64)
    fake = torch.randn(45, 3, generator=generator, dtype=torch.float64) * 0.7 + 0.8
    expected = brute_force(real, fake, nearest_k)
    assert all(0 < value < 1 for value in expected)
    assert evaluate(real, fake, nearest_k) == pytest.approx(expected, abs=1e-12)


def test_known_answers() -> None:
    real = torch.randn(100, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert evaluate(real, real) == (1, 1)
    assert evaluate(real, real + 1000) == (0, 0)
    # One point of the data again and again: realistic, but no variety.
    precision, recall = evaluate(real, real[:1].expand(100, -1))
    assert precision == 1
    assert recall <= 0.01


def test_real_vectors_stay_over_reset() -> None:
    metric = NearestNeighborPrecisionRecall(1)
    points = torch.arange(10.0).view(-1, 1)
    metric.update(points, real=True)
    metric.update(points, real=False)
    assert metric.compute()[0] == 1
    metric.reset()
    metric.update(points + 100, real=False)
    assert metric.compute()[0] == 0


def test_too_few_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match="need more than 3 real and fake images, got 10 and 3"):
        evaluate(torch.randn(10, 2), torch.randn(3, 2))
    with pytest.raises(ValueError, match="nearest_k must be at least 1"):
        NearestNeighborPrecisionRecall(0)
