"""constrain: what it chooses, and what it writes."""

from typing import Any

import pytest
import torch
from torch import nn

from weight_norms import CONSTRAINTS, Selection, check_constraint, constrain, spectral_norm


def test_enforced_in_place() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.ConvTranspose2d(4, 6, 3))
    parameters = [id(parameter) for parameter in net.parameters()]
    (linear, up) = constrain(net, "spectral", {"max_norm": 0.5})
    for one in (linear, up):
        nn.init.normal_(one.parameter)
        one.enforce()
        assert spectral_norm(one.parameter, one.weight.dim).item() == pytest.approx(0.5, rel=1e-5)
    assert [id(parameter) for parameter in net.parameters()] == parameters


@pytest.mark.parametrize("kind", CONSTRAINTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(kind: str, dtype: torch.dtype) -> None:
    layer, wide = nn.Linear(4, 6).to(dtype), nn.Linear(4, 6)
    nn.init.normal_(layer.weight)
    wide.load_state_dict(layer.state_dict())
    for module in (layer, wide):
        constrain(module, kind)[0].enforce()
    assert layer.weight.dtype == dtype
    torch.testing.assert_close(layer.weight.float(), wide.weight, rtol=0.01, atol=1e-3)


def test_the_selection_is_that_of_normalizations() -> None:
    lstm = nn.LSTM(3, 4)
    chosen = constrain(lstm, "clip", {"limit": 0.1}, Selection(classes=["LSTM"], parameter="weight_hh*"))
    assert [one.weight.name for one in chosen] == ["weight_hh_l0"]
    with pytest.raises(ValueError, match="LSTM has no kernel"):
        constrain(lstm, "clip")


@pytest.mark.parametrize(
    ("kind", "kind_args", "message"),
    [
        ("clp", None, "unknown kind 'clp'; the nearest: clip"),
        ("clip", {"limits": 0.1}, "no argument 'limits' in kind_args; it has limit"),
        ("clip", {"limit": 0.0}, "limit=0.0 must be positive"),
        ("spectral", {"max_norm": -1}, "max_norm=-1 must be positive"),
        ("non_negative", {"limit": 1.0}, "it has none"),
    ],
)
def test_bad_kinds(kind: str, kind_args: dict[str, Any] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_constraint(kind, kind_args)
