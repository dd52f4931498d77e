"""Which weights are chosen, and what is said when a choice matches nothing."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from weight_norms import Selection, normalize


class Net(nn.Module):
    """A little of everything; no forward pass is needed."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Linear(4, 3))
        self.decoder = nn.Sequential(nn.Linear(3, 4), nn.ConvTranspose2d(4, 1, 3))
        self.words = nn.Embedding(5, 3)
        self.lstm = nn.LSTM(3, 2, num_layers=2)


def chosen(module: nn.Module, **arguments: Any) -> list[str]:
    return [f"{weight.path}.{weight.name}" for weight in Selection(**arguments).of(module)]


def wide(name: str, layer: nn.Module) -> bool:
    """A predicate that a config can name."""
    return getattr(layer, "out_features", 0) == 4


def test_kernels_by_default() -> None:
    kernels = ["encoder.0.weight", "encoder.3.weight", "decoder.0.weight", "decoder.1.weight"]
    assert chosen(Net()) == kernels
    assert chosen(nn.Linear(2, 2)) == [".weight"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"classes": ["Linear"]}, ["encoder.3.weight", "decoder.0.weight"]),
        ({"classes": ["torch.nn.Linear", "BatchNorm2d"]}, ["encoder.1.weight", "encoder.3.weight", "decoder.0.weight"]),
        # A base class's name counts too.
        ({"classes": ["_ConvNd"]}, ["encoder.0.weight", "decoder.1.weight"]),
        ({"names": ["decoder.*", "words"]}, ["decoder.0.weight", "decoder.1.weight", "words.weight"]),
        ({"names": ["encoder.*"], "classes": ["Linear"]}, ["encoder.3.weight"]),
        ({"predicate": "tests.weight_norms.test_selection.wide"}, ["decoder.0.weight"]),
        ({"predicate": wide, "parameter": "bias"}, ["decoder.0.bias"]),
        ({"predicate": lambda name, layer: name.endswith("er.0")}, ["encoder.0.weight", "decoder.0.weight"]),
        ({"names": ["lstm"], "parameter": "weight_hh*"}, ["lstm.weight_hh_l0", "lstm.weight_hh_l1"]),
    ],
)
def test_criteria(arguments: dict[str, Any], expected: Sequence[str]) -> None:
    assert chosen(Net(), **arguments) == expected


def test_output_dimension() -> None:
    dims = {weight.path: weight.dim for weight in Selection().of(Net())}
    assert dims == {"encoder.0": 0, "encoder.3": 0, "decoder.0": 0, "decoder.1": 1}


def test_normalized_and_compiled_layers_are_found_again() -> None:
    net = Net()
    normalize(net)
    assert chosen(net, classes=["Linear"]) == ["encoder.3.weight", "decoder.0.weight"]
    # Nothing of the parametrizations themselves.
    assert chosen(net, names=["encoder.3*"], parameter="*") == ["encoder.3.bias", "encoder.3.weight"]
    compiled = nn.ModuleDict({"net": torch.compile(Net().encoder, backend="eager")})  # type: ignore[dict-item]
    assert chosen(compiled, names=["net.*"], classes=["Linear"]) == ["net.3.weight"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": ["Conv2D"]}, "classes: 'Conv2D' matches no layer of Net; the nearest: Conv2d"),
        ({"names": ["encodr.*"]}, r"names: 'encodr.\*' matches no layer of Net; the nearest: encoder"),
        ({"names": ["encoder.*", "decodr.*"]}, r"names: 'decodr.\*' matches no layer of Net; the nearest: decoder"),
        ({"classes": ["LSTM"]}, "no parameter that matches 'weight'; the nearest: weight_"),
        ({"classes": ["Linear", "LSTM"]}, "classes: 'LSTM' adds nothing: its layers have no parameter that matches"),
        ({"names": ["encoder.2"]}, "its layers have no parameter that matches 'weight'"),
        (
            {"names": ["words", "encoder.*"], "classes": ["Linear"]},
            r"names: 'words' adds nothing: none satisfies classes=\['Linear'\].*\(there: Embedding\)",
        ),
        ({"names": ["words"], "classes": ["LSTM"]}, r"none satisfies classes=\['LSTM'\], names=\['words'\]"),
        ({"predicate": lambda name, layer: False}, "no layer of Net is chosen: none satisfies predicate="),
        ({"predicate": "tests.weight_norms.test_selection.wid"}, "predicate: .* cannot be imported"),
        ({"predicate": "wide"}, "predicate: 'wide' cannot be imported"),
        ({"classes": ["torch.nn.Lin"]}, "classes: 'torch.nn.Lin' cannot be imported"),
        ({"names": "encoder.*"}, r"names is a list: \[encoder.\*\]"),
    ],
)
def test_what_matches_nothing_is_an_error(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        chosen(Net(), **arguments)


def test_a_module_without_layers_yet() -> None:
    with pytest.raises(
        ValueError, match=r"Module has no kernel.*made in setup\(\) or configure_model\(\) come too late"
    ):
        chosen(nn.Module())
