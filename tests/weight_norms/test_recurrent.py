"""Recurrent layers compute their normalized weights once a forward, and never else."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from weight_norms import Selection, bake_in, normalize

ALL = Selection(classes=["RNNBase"], parameter="weight_*")


class Counting(nn.Module):
    """Equal weights, not the same ones; counts its uses."""

    uses = 0

    def forward(self, weight: Tensor) -> Tensor:
        """The weight."""
        Counting.uses += 1
        return weight * 1


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_once_a_forward(kind: Any) -> None:
    layer = kind(3, 4)
    normalize(layer, Counting(), selection=ALL)
    Counting.uses = 0
    layer(torch.randn(5, 2, 3))
    assert Counting.uses == 2
    layer.flatten_parameters()
    layer.to(torch.float64).float()
    copy.deepcopy(layer)
    assert Counting.uses == 2


def test_moving_takes_no_power_iteration() -> None:
    """A resume loads the checkpoint and then moves the module: it must still be what was saved."""
    layer = nn.LSTM(3, 4)
    normalize(layer, selection=ALL)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    saved = copy.deepcopy(layer.state_dict())
    layer.to("cpu")
    assert all(torch.equal(value, saved[name]) for name, value in layer.state_dict().items())


def test_it_computes_what_a_plain_layer_with_these_weights_does() -> None:
    layer, plain, x = nn.LSTM(3, 4, num_layers=2), nn.LSTM(3, 4, num_layers=2), torch.randn(5, 2, 3)
    normalize(layer, "l2", selection=ALL)
    with torch.no_grad():
        for name in dict(plain.named_parameters()):
            getattr(plain, name).copy_(getattr(layer, name))
    torch.testing.assert_close(layer(x)[0], plain(x)[0])
    # Packed sequences go another way in torch.
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3]))
    torch.testing.assert_close(layer(packed)[0].data, plain(packed)[0].data)


def test_the_weights_change_with_the_parameters() -> None:
    layer, x = nn.GRU(3, 4), torch.randn(5, 2, 3)
    normalize(layer, "l2", selection=ALL)
    optimizer = torch.optim.SGD(layer.parameters(), 0.5)
    before = layer(x)[0]
    before.sum().backward()
    optimizer.step()
    assert not torch.equal(layer(x)[0], before)


def test_canary_torch_computes_several_times() -> None:
    """Should torch do better one day, weight_norms.recurrent can go."""
    layer = nn.LSTM(3, 4)
    parametrize.register_parametrization(layer, "weight_ih_l0", Counting())
    Counting.uses = 0
    layer(torch.randn(5, 2, 3))
    assert Counting.uses > 1
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(layer)


def test_baked_in_it_is_torchs_again() -> None:
    layer = nn.LSTM(3, 4)
    normalize(layer, "l2", selection=ALL)
    baked = bake_in(layer)
    assert type(baked) is nn.LSTM
    assert [id(weight) for weight in baked._flat_weights] == [id(parameter) for parameter in baked.all_weights[0]]
    # And can be normalized anew.
    normalize(baked, "max_norm", selection=ALL)
    baked(torch.randn(5, 2, 3))
