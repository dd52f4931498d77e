"""Sampling and batch checks of a GAN module."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lit_modules import RelativisticGAN
from lit_modules.parts.gan import default_networks

POINTS: dict[str, Any] = {"network": "points", "latent_dim": 2, "width": 8}


def test_samples() -> None:
    model = RelativisticGAN(image_size=32, channels=3, width=4)
    images = model.sample(5)
    assert images.shape == (5, 3, 32, 32)
    assert images.dtype == torch.float32
    assert images.abs().max() <= 1
    assert not images.requires_grad
    z = model.latents(3)
    assert torch.equal(model.decode(z), model.decode(z))
    assert model(model.latents(2)).shape == (2, 3, 32, 32)


def test_samples_are_reproducible_and_new() -> None:
    first, second = RelativisticGAN(**POINTS), RelativisticGAN(**POINTS)
    second.load_state_dict(first.state_dict())
    torch.manual_seed(1)
    drawn = [first.sample(4) for _ in range(3)]
    torch.manual_seed(1)
    assert all(torch.equal(second.sample(4), x) for x in drawn)
    assert not torch.equal(drawn[0], drawn[1])


def test_sampling_leaves_no_trace() -> None:
    model = RelativisticGAN(width=4)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.sample(4)
    assert model.generator.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("shape", "arguments", "expected"),
    [
        ((2, 3, 32, 32), {}, "model.image_size=32 and model.channels=3, or data.size=28 and data.channels=1"),
        ((2, 1, 28, 28), POINTS, "model.image_size=28 and model.channels=1 and model.network=convolutional"),
        ((2, 3), POINTS, "model.network=points and model.dimensions=3"),
        ((2, 1, 28, 30), {}, r"images must be \(channels, size, size\)"),
    ],
)
def test_misfit_batches(shape: tuple[int, ...], arguments: dict[str, Any], expected: str) -> None:
    model = RelativisticGAN(**arguments)
    with pytest.raises(ValueError, match=expected):
        model.real_samples((torch.zeros(shape), torch.zeros(2)))


def test_samples_alone_are_a_batch(points: Tensor) -> None:
    assert RelativisticGAN(**POINTS).real_samples(points) is points


def test_validate_test_predict(trainer: Any, batches: Any, points: Tensor) -> None:
    model, t = RelativisticGAN(**POINTS), trainer()
    model.eval()
    with torch.no_grad():
        expected = model.discriminator(points).mean().item()
    # Batches of 24, 24 and 16: the mean over samples, not over batches.
    (validated,) = t.validate(model, batches(points, 24), verbose=False)
    (tested,) = t.test(model, batches(points, 24), verbose=False)
    assert validated["val/d_real"] == pytest.approx(expected, abs=1e-6)
    assert tested["test/d_real"] == pytest.approx(expected, abs=1e-6)
    assert [len(part) for part in t.predict(model, batches(points, 24))] == [24, 24, 16]


def test_default_networks() -> None:
    with pytest.raises(ValueError, match="unknown network 'conv'"):
        default_networks("conv", image_size=28, channels=1, dimensions=2, latent_dim=4, width=None)
    g, d = default_networks("convolutional", image_size=28, channels=1, dimensions=2, latent_dim=4, width=None)
    assert isinstance(g, nn.Module)
    assert d(g(torch.randn(2, 4))).shape == (2,)
