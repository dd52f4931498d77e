"""Networks that mix samples or change their minds are found out, and their layer is named."""

import copy

import pytest
import torch
from torch import Tensor, nn

from lit_modules.parts.networks import ConvDiscriminator, PointDiscriminator, apply_spectral_norm
from lit_modules.parts.probing import mixing_layer, unrepeatable_layer


class MinibatchStddev(nn.Module):
    """Adds the mean standard deviation over groups of 4 samples as a channel, as in StyleGAN2's discriminator."""

    def forward(self, x: Tensor) -> Tensor:
        groups = min(4, len(x))
        std = x.reshape(groups, -1, *x.shape[1:]).std(dim=0).mean(dim=[1, 2, 3])
        return torch.cat([x, std.repeat(groups).reshape(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])], dim=1)


class Attention(nn.Module):
    """Attends over the samples of the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (x @ x.T).softmax(dim=1) @ x


class Neighbor(nn.Module):
    """Mixes sample i with sample i + 1 alone (the first sample matters to no other), and not in a layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.score(x).squeeze(1)
        return torch.cat([scores[:-1] + 0.01 * scores[1:].square(), scores[-1:]])


def points(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 8), *layers, nn.LeakyReLU(0.2), nn.Linear(8, 1))


IMAGES, POINTS = torch.rand(6, 1, 8, 8), torch.randn(6, 2)
MIXING = {
    "1 (BatchNorm1d)": (points(nn.BatchNorm1d(8)), POINTS),
    "1 (MinibatchStddev)": (
        nn.Sequential(nn.Conv2d(1, 4, 3, 2), MinibatchStddev(), nn.Flatten(), nn.Linear(45, 1)),
        IMAGES,
    ),
    "1.0 (Attention)": (points(nn.Sequential(Attention())), POINTS),
    "the forward of Neighbor": (Neighbor(), POINTS),
}
ALONE = {
    "convolutional": (ConvDiscriminator(8, 1, 4), IMAGES),
    "points": (PointDiscriminator(), POINTS),
    "spectral_norm": (apply_spectral_norm(ConvDiscriminator(8, 1, 4), 2), IMAGES),
    "layer_norm": (points(nn.LayerNorm(8)), POINTS),
    "group_norm": (nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(144, 1)), IMAGES),
    "instance_norm": (nn.Sequential(nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4), nn.Flatten(), nn.Linear(144, 1)), IMAGES),
    "dropout": (points(nn.Dropout(0.5)), POINTS),
    "batch_norm_evaluated": (points(nn.BatchNorm1d(8)).eval(), POINTS),
    "old_spectral_norm": (nn.Sequential(nn.utils.spectral_norm(nn.Linear(2, 1))), POINTS),
}


@pytest.mark.parametrize("name", MIXING)
@pytest.mark.parametrize("batch", [1, 2, 3, 6])
def test_mixing_is_found(name: str, batch: int) -> None:
    network, samples = MIXING[name]
    assert mixing_layer(network, samples[:batch]) == name


@pytest.mark.parametrize("name", ALONE)
@pytest.mark.parametrize("batch", [1, 6])
def test_samples_alone(name: str, batch: int) -> None:
    network, samples = ALONE[name]
    assert mixing_layer(network, samples[:batch]) is None


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (points(nn.Dropout(0.1)), "1 (Dropout)"),
        (points(nn.Dropout(0.1)).eval(), None),
        (points(nn.BatchNorm1d(8)), None),
        (apply_spectral_norm(points()), None),
        (nn.Sequential(nn.utils.spectral_norm(nn.Linear(2, 8)), nn.Linear(8, 1)), "0 (Linear)"),
    ],
)
def test_repeats(network: nn.Module, expected: str | None) -> None:
    assert unrepeatable_layer(network, POINTS) == expected


@pytest.mark.parametrize("name", [*MIXING, *ALONE])
def test_leaves_no_trace(name: str) -> None:
    network, samples = (MIXING | ALONE)[name]
    before, training = copy.deepcopy(network.state_dict()), network.training
    state = torch.get_rng_state()
    mixing_layer(network, samples)
    unrepeatable_layer(network, samples)
    assert torch.equal(torch.get_rng_state(), state)
    after = network.state_dict()
    # Cached weights may have been computed: the spectral norm's vectors too are as before.
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert network.training == training
    assert not any(module._forward_hooks for module in network.modules())
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize(
    "network", [nn.LSTM(2, 2), nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (1, -1)), nn.Dropout())]
)
def test_odd_outputs(network: nn.Module) -> None:
    if isinstance(network, nn.LSTM):
        with pytest.raises(ValueError, match="LSTM gives tuple for 8 samples"):
            mixing_layer(network, POINTS)
    else:
        assert mixing_layer(network, POINTS) is None
