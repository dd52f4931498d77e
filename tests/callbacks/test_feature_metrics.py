import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from callbacks.feature_metrics import METRICS, FeatureMetrics


def metrics(num_samples: int, num_features: int, names: tuple[str, ...] = METRICS) -> FeatureMetrics:
    return FeatureMetrics(names, num_samples, num_features, nearest_k=3, device=torch.device("cpu"))


def frechet(real: Tensor, fake: Tensor) -> float:
    """FID by its definition with scipy's matrix square root."""
    a, b = real.numpy(), fake.numpy()
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    difference = a.mean(0) - b.mean(0)
    return float(difference @ difference + np.trace(cov_a + cov_b - 2 * root))


def kernel_distance(real: Tensor, fake: Tensor) -> float:
    """KID by its definition: the unbiased estimate of the squared MMD with the kernel (x.y / F + 1)^3."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def off_diagonal_mean(matrix: Tensor) -> Tensor:
        n = len(matrix)
        return (matrix.sum() - matrix.trace()) / (n * (n - 1))

    return float(
        off_diagonal_mean(kernel(real, real)) + off_diagonal_mean(kernel(fake, fake)) - 2 * kernel(real, fake).mean()
    )


def test_fid_and_kid_equal_their_definitions_in_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(500, 16, generator=generator, dtype=torch.float64)
    fake = torch.randn(500, 16, generator=generator, dtype=torch.float64) * 1.3 + 0.5
    bundle = metrics(500, 16)
    for part in real.split(64):
        bundle.add_real(part)
    bundle.finish_real()
    bundle.add_fake(fake)
    values = bundle.compute()
    assert values["fid"].item() == pytest.approx(frechet(real, fake), rel=1e-9)
    assert values["kid"].item() == pytest.approx(kernel_distance(real, fake), rel=1e-9)


def test_fid_of_two_shifted_gaussians_is_the_squared_shift() -> None:
    # Equal sample covariances: the closed form is the distance of the means alone.
    real = torch.randn(300, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    bundle = metrics(300, 8, ("fid",))
    bundle.add_real(real)
    bundle.finish_real()
    bundle.add_fake(real + 2)
    assert bundle.compute()["fid"].item() == pytest.approx(8 * 4, rel=1e-9)
    bundle.add_fake(2 * real)
    covariance = np.trace(np.cov(real.numpy(), rowvar=False))
    mean = real.mean(0).square().sum().item()
    assert bundle.compute()["fid"].item() == pytest.approx(mean + covariance, rel=1e-9)


def test_real_side_is_kept_and_fake_side_forgotten() -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(50, 4, generator=generator)
    bundle = metrics(50, 4)
    bundle.add_real(real)
    bundle.finish_real()
    first = []
    for shift in (0.0, 3.0, 0.0):
        bundle.add_fake(real.flip(0) + shift)
        first.append({name: value.item() for name, value in bundle.compute().items()})
    assert first[0] == pytest.approx(first[2], rel=1e-9)
    assert first[0] != pytest.approx(first[1], rel=1e-9)
    assert first[0]["fid"] == pytest.approx(0, abs=1e-6)
    assert first[0]["precision"] == first[0]["recall"] == 1


def test_kept_vectors_are_evenly_spaced_over_the_real_ones() -> None:
    bundle = metrics(5, 1)
    bundle.add_real(torch.arange(100.0).view(-1, 1))
    bundle.finish_real()
    assert torch.cat(bundle._neighbors.real).flatten().tolist() == [0, 20, 40, 60, 80]


def test_many_samples_are_compared_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callbacks.feature_metrics._KID_BLOCK", 100)
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(1000, 4, generator=generator, dtype=torch.float64)
    fake = torch.randn(1000, 4, generator=generator, dtype=torch.float64) + 1
    bundle = metrics(1000, 4, ("kid",))
    bundle.add_real(real)
    bundle.finish_real()
    bundle.add_fake(fake)
    assert bundle.compute()["kid"].item() == pytest.approx(kernel_distance(real, fake), rel=0.15)


def test_only_what_is_asked_for_is_computed() -> None:
    bundle = metrics(10, 2, ("fid",))
    bundle.add_real(torch.randn(10, 2))
    bundle.finish_real()
    bundle.add_fake(torch.randn(10, 2))
    assert bundle._vectors == bundle._kid.real_features == bundle._neighbors.real == []
    assert list(bundle.compute()) == ["fid"]


def test_a_reference_without_images_is_refused() -> None:
    with pytest.raises(ValueError, match="0 real images to compare with"):
        metrics(10, 2).finish_real()


def test_collapsed_samples_give_plain_values() -> None:
    bundle = metrics(50, 4)
    bundle.add_real(torch.randn(50, 4, generator=torch.Generator().manual_seed(0)))
    bundle.finish_real()
    bundle.add_fake(torch.zeros(50, 4))
    values = bundle.compute()
    assert all(value.isfinite() for value in values.values())
    assert values["recall"] == 0
