"""Sizes and ranges of the networks, and spectral norm against the SVD."""

from typing import Any

import pytest
import torch
from torch import nn

from lit_modules.parts.networks import (
    ConvDiscriminator,
    ConvGenerator,
    PointDiscriminator,
    PointGenerator,
    apply_spectral_norm,
    cached_weights,
    halvings,
)


@pytest.mark.parametrize("size", [8, 12, 28, 32, 48, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_image_shapes(size: int, channels: int) -> None:
    generator = ConvGenerator(size, channels, latent_dim=5, width=4)
    images = generator(torch.randn(3, 5))
    assert images.shape == (3, channels, size, size) == (3, *generator.output_shape)
    assert images.abs().max() <= 1
    assert ConvDiscriminator(size, channels, width=4)(images).shape == (3,)


def test_reference_architecture_of_the_article() -> None:
    """64x64: dense to 4x4x512 in G; D's widths 64-128-256-512; 5x5 kernels with stride 2."""
    assert halvings(64) == (4, 4)
    g: Any = ConvGenerator(64, 3, 100, width=64)
    d = ConvDiscriminator(64, 3, width=64)
    assert g.layers.dense.out_features == 4 * 4 * 512
    convolutions = [m for m in d.modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [64, 128, 256, 512]
    ups = [m for m in g.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert {(m.kernel_size, m.stride) for m in convolutions + ups} == {((5, 5), (2, 2))}


def test_normalization() -> None:
    def norms(network: nn.Module) -> int:
        return sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())

    assert norms(ConvGenerator()) == 2
    assert norms(ConvGenerator(normalization="none")) == 0
    assert norms(ConvDiscriminator()) == 0
    # Without normalization the signal still reaches the output.
    assert ConvGenerator(normalization="none")(torch.randn(8, 100)).std() > 0.01


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="image_size=30 must be a multiple of 4, at least 8; the nearest is 32"):
        ConvGenerator(30)
    with pytest.raises(ValueError, match="unknown normalization 'layer'"):
        ConvGenerator(normalization="layer")
    with pytest.raises(ValueError, match="power_iterations=0"):
        apply_spectral_norm(ConvDiscriminator(), 0)
    with pytest.raises(ValueError, match="no kernel"):
        apply_spectral_norm(nn.ReLU())


def test_point_networks() -> None:
    points = PointGenerator(dimensions=3, latent_dim=4)(torch.randn(5, 4))
    assert points.shape == (5, 3)
    assert PointDiscriminator(dimensions=3)(points).shape == (5,)


@pytest.mark.parametrize("network", [ConvDiscriminator(width=4), ConvGenerator(width=4), PointDiscriminator()])
def test_spectral_norm_against_svd(network: Any) -> None:
    kernels = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))]
    before = [m.weight.detach().clone() for m in kernels]
    apply_spectral_norm(network, n_power_iterations=5)
    x = torch.randn(4, 100) if isinstance(network, ConvGenerator) else torch.rand(4, *network.input_shape)
    for _ in range(60):
        network(x)
    for m, w in zip(kernels, before, strict=True):
        rows = w.transpose(0, 1) if isinstance(m, nn.ConvTranspose2d) else w
        largest = torch.linalg.svdvals(rows.flatten(1))[0]
        assert torch.allclose(m.weight, w / largest, rtol=1e-3, atol=1e-5)


def test_cached_weights_are_computed_once_in_float32() -> None:
    network: Any = apply_spectral_norm(ConvDiscriminator(width=4))
    layer: Any = network.layers.down1
    with torch.autocast("cpu", torch.bfloat16), cached_weights(network):
        u = layer.parametrizations.weight[0]._u.clone()
        first = layer.weight
        network(torch.randn(2, 1, 28, 28))
        assert layer.weight is first
        assert torch.equal(layer.parametrizations.weight[0]._u, u)
    sigma = (layer.parametrizations.weight.original.flatten()[0] / first.flatten()[0]).item()
    estimate = layer.parametrizations.weight[0]
    exact = estimate._u @ layer.parametrizations.weight.original.flatten(1) @ estimate._v
    assert sigma == pytest.approx(exact.item(), rel=1e-6)
