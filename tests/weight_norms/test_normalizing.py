"""normalize and bake_in on every kind of layer, alone and stacked."""

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from weight_norms import KINDS, Selection, bake_in, check_kind, constrain, normalize, settle, spectral_norm, unit_norms

LAYERS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "Linear": (lambda: nn.Linear(4, 6), torch.randn(2, 4)),
    "Conv1d": (lambda: nn.Conv1d(4, 6, 3), torch.randn(2, 4, 5)),
    "Conv2d": (lambda: nn.Conv2d(4, 6, 3, groups=2), torch.randn(2, 4, 5, 5)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 6, 3), torch.randn(2, 4, 5, 5)),
    "Embedding": (lambda: nn.Embedding(7, 4, padding_idx=0), torch.tensor([[0, 3, 6]])),
    "LSTM": (lambda: nn.LSTM(4, 3, num_layers=2, bidirectional=True), torch.randn(5, 2, 4)),
    "GRU": (lambda: nn.GRU(4, 3), torch.randn(5, 2, 4)),
    "LSTMCell": (lambda: nn.LSTMCell(4, 3), torch.randn(2, 4)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(4), torch.randn(3, 4, 5, 5)),
    "MultiheadAttention": (lambda: Attention(4, 2), torch.randn(2, 3, 4)),
}
WEIGHTS = {"LSTM": "weight_*", "GRU": "weight_*", "LSTMCell": "weight_*", "MultiheadAttention": "*_weight"}


class Attention(nn.MultiheadAttention):
    """Self-attention as a layer of one argument."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(L, B, E) to (L, B, E)."""
        return super().forward(x, x, x, need_weights=False)[0]


class OwnKind(nn.Module):
    """w -> scale * tanh(w): a normalization of a user's own."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        """The normalized weight."""
        return self.scale * weight.tanh()


def layer_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    layer = LAYERS[name][0]()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer


def selection_of(name: str) -> Selection:
    return Selection(names=[""], parameter=WEIGHTS.get(name, "weight"))


def output(layer: nn.Module, x: Tensor) -> Tensor:
    y = layer(x)
    return y[0] if isinstance(y, tuple) else y


def computed_weights(layer: nn.Module) -> dict[str, Tensor]:
    parts: Any = layer.parametrizations
    return {name: getattr(layer, name) for name in parts}


@pytest.mark.parametrize("kind", [*KINDS, OwnKind()], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_layers_train_and_bake_in(name: str, kind: str | nn.Module) -> None:
    if name == "BatchNorm2d" and kind == "centered":
        pytest.skip("refused: a unit of one entry has no variance")
    layer, x = layer_of(name), LAYERS[name][1]
    plain_names = set(layer.state_dict())
    before = {weight.name: getattr(layer, weight.name).detach().clone() for weight in selection_of(name).of(layer)}
    originals = set(map(id, layer.parameters()))
    weights = normalize(layer, kind, selection=selection_of(name))
    assert [weight.name for weight in weights] == list(before)
    # Optimizers made before keep their parameters.
    assert set(map(id, layer.parameters())) == originals
    loss = output(layer, x).square().sum()
    loss.backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())
    layer.eval()
    for weight, value in computed_weights(layer).items():
        norm: Any = layer.parametrizations[weight]  # type: ignore[index]
        torch.testing.assert_close(value, norm[0](before[weight]))
    expected = output(layer, x)

    baked = bake_in(copy.deepcopy(layer))
    assert set(baked.state_dict()) == plain_names
    assert type(baked) is type(LAYERS[name][0]())
    torch.testing.assert_close(output(baked, x), expected, rtol=1e-6, atol=1e-6)
    fresh = LAYERS[name][0]().eval()
    fresh.load_state_dict(baked.state_dict())
    torch.testing.assert_close(output(fresh, x), expected, rtol=1e-6, atol=1e-6)
    # The copy's original is untouched.
    assert torch.equal(output(layer, x), expected)
    output(layer, x).sum().backward()


@pytest.mark.parametrize("name", LAYERS)
def test_every_weight_has_spectral_norm_1(name: str) -> None:
    layer, x = layer_of(name), LAYERS[name][1]
    weights = normalize(layer, selection=selection_of(name))
    for _ in range(200):
        output(layer, x)
    layer.eval()
    for weight in weights:
        assert spectral_norm(getattr(layer, weight.name), weight.dim).item() == pytest.approx(1, abs=1e-3)


def test_doing_it_again_changes_nothing() -> None:
    layer = nn.Linear(4, 6)
    normalize(layer, "max_norm", {"max_norm": 1.0})
    normalize(layer)
    normalize(layer, OwnKind(2.0))
    names, random = list(layer.state_dict()), torch.get_rng_state()
    again: list[tuple[Any, ...]] = [("spectral", {"n_power_iterations": 1}), ("max_norm", {"max_norm": 1.0})]
    for arguments in [*again, (OwnKind(2.0),)]:
        normalize(layer, *arguments)
    assert list(layer.state_dict()) == names
    assert torch.equal(torch.get_rng_state(), random)
    for kind, kind_args in (("max_norm", {"max_norm": 2.0}), ("spectral", {"n_power_iterations": 2})):
        with pytest.raises(ValueError, match=r"weight \(Linear\): .* normalizes it already, with other arguments"):
            normalize(layer, kind, kind_args)
    with pytest.raises(ValueError, match="OwnKind normalizes it already"):
        normalize(layer, OwnKind(1.0))


def test_kinds_are_stacked_in_order() -> None:
    layer = nn.Linear(4, 6)
    weight = layer.weight.detach().clone()
    normalize(layer, "centered")
    normalize(layer, "l2")
    centered = KINDS["centered"](weight, 0)(weight)
    torch.testing.assert_close(layer.weight, centered / unit_norms(centered, 0))


def test_each_weight_has_a_module_of_its_own() -> None:
    kind = nn.Sequential(nn.Linear(3, 3))
    net: Any = nn.Sequential(nn.Linear(3, 2), nn.Linear(3, 2))
    normalize(net, kind)
    assert net[0].parametrizations.weight[0] is not net[1].parametrizations.weight[0]


def test_a_weight_that_two_layers_share() -> None:
    """Baked in, both keep their outputs: the one that is normalized and the one that is not."""
    net: Any = nn.ModuleDict({"words": nn.Embedding(5, 3), "scores": nn.Linear(3, 5, bias=False)})
    net.scores.weight = net.words.weight
    normalize(net, "l2", selection=Selection(classes=["Linear"]))
    words, scores = net.words.weight.detach().clone(), net.scores.weight.detach().clone()
    bake_in(net)
    assert torch.equal(net.words.weight, words)
    assert torch.equal(net.scores.weight, scores)


def test_other_parametrizations_are_baked_in_too() -> None:
    net = nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 4)), parametrizations.orthogonal(nn.Linear(4, 4)))
    x = torch.randn(2, 3)
    expected = net(x)
    assert set(bake_in(net).state_dict()) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    torch.testing.assert_close(net(x), expected)
    assert bake_in(net) is net


def test_settled_spectral_norms_are_exact() -> None:
    net = nn.Sequential(nn.ConvTranspose2d(4, 6, 3), parametrizations.weight_norm(nn.Linear(4, 6)), nn.BatchNorm1d(3))
    normalize(net, "max_norm", {"max_norm": 0.5})
    normalize(net)
    normalize(net, selection=Selection(classes=["BatchNorm1d"]))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_()
    layers: Any = [net[0], net[1]]
    net.eval()
    assert all((spectral_norm(layer.weight, 1 - i) - 1).abs() > 0.01 for i, layer in enumerate(layers))
    assert settle(net) is net
    for i, layer in enumerate(layers):
        torch.testing.assert_close(spectral_norm(layer.weight, 1 - i).item(), 1.0, rtol=1e-5, atol=0)
        assert not layer.parametrizations.training
    assert settle(net.train())[0].parametrizations.training  # type: ignore[index]


def test_baking_in_takes_no_more_power_iterations() -> None:
    """A module in training mode is baked in with the weights that it has in evaluation mode."""
    layer, x = nn.Linear(4, 6), torch.randn(2, 4)
    normalize(layer)
    with torch.no_grad():
        layer.parametrizations.weight.original.copy_(torch.randn(6, 4))  # type: ignore[union-attr]
    expected = copy.deepcopy(layer).eval()(x)
    assert layer.training
    assert torch.equal(bake_in(layer)(x), expected)


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:The .grad attribute of a Tensor:UserWarning"
)
@pytest.mark.parametrize("kind", KINDS)
def test_compiled(kind: str) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    normalize(plain, kind)
    compiled, x = copy.deepcopy(plain), torch.randn(5, 3)
    compiled.compile(backend="aot_eager", fullgraph=True)
    for net in (plain, compiled):
        net(x).square().sum().backward()
    for one, other in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize(
    ("kind", "kind_args", "message"),
    [
        ("spectrl", None, "unknown kind 'spectrl'; the nearest: spectral"),
        ("spectral", {"power_iterations": 2}, "no argument 'power_iterations' in kind_args; it has n_power_iterations"),
        ("l2", {"max_norm": 2}, "kind 'l2' has no argument 'max_norm' in kind_args; it has none"),
        ("spectral", {"n_power_iterations": 0}, "kind 'spectral': n_power_iterations=0 must be at least 1"),
        ("max_norm", {"max_norm": "two"}, "kind 'max_norm': '>' not supported"),
        (OwnKind(), {"scale": 2.0}, "kind_args={'scale': 2.0} are for a kind by name"),
    ],
)
def test_bad_kinds(kind: str | nn.Module, kind_args: dict[str, Any] | None, message: str) -> None:
    random = torch.get_rng_state()
    with pytest.raises(ValueError, match=re.escape(message)):
        check_kind(kind, kind_args)
    assert torch.equal(torch.get_rng_state(), random)


def test_a_weight_that_the_kind_cannot_take() -> None:
    layer = nn.Linear(4, 6)
    nn.init.zeros_(layer.weight)
    with pytest.raises(ValueError, match=r"0.weight \(Linear\): all zeros"):
        normalize(nn.Sequential(layer))
    with pytest.raises(ValueError, match=r"0.weight \(BatchNorm1d\): a unit of one entry"):
        normalize(nn.Sequential(nn.BatchNorm1d(3)), "centered", None, Selection(classes=["BatchNorm1d"]))
    with pytest.raises(ValueError, match=r"0.weight \(Linear\): .* may not change the shape"):
        normalize(nn.Sequential(nn.Linear(2, 3)), nn.Flatten(0))
    with pytest.raises(ValueError, match=r"0.weight \(LazyLinear\)"):
        normalize(nn.Sequential(nn.LazyLinear(3)))


def test_a_computed_weight_cannot_be_constrained() -> None:
    layer = nn.Sequential(nn.Linear(2, 3))
    normalize(layer, "l2")
    assert parametrize.is_parametrized(layer[0])
    with pytest.raises(ValueError, match=r"0.weight \(Linear\) is computed by UnitNorm: what a constraint writes"):
        constrain(layer, "clip")
