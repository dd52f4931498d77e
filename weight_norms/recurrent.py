"""Recurrent layers whose weights are computed at use: what torch's own lack for it.

`nn.RNN`, `nn.LSTM` and `nn.GRU` keep a list of their weights beside the parameters. With a parametrized weight it is
computed four times a forward and whenever the layer moves to a device (so that a power iteration would go on at a
resume), and it holds a graph, which `copy.deepcopy` refuses. Private names of torch's `RNNBase` stand in this file
alone; tests/weight_norms/test_recurrent.py watches them.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize


def compute_at_use(layer: nn.RNNBase) -> None:
    """Let a recurrent layer compute its weights once a forward and never else; in place, before parametrizing it."""
    if getattr(layer, "computes_at_use", False):
        return
    cls = type(layer)

    def weights_now(self: Any) -> list[Tensor]:
        return [getattr(self, name) for name in self._flat_weights_names]

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        with parametrize.cached():
            return cls.forward(self, *args, **kwargs)

    def nothing(self: Any) -> None:
        """There is no list to bring up to date."""

    own = dict.fromkeys(("_init_flat_weights", "_update_flat_weights", "flatten_parameters"), nothing)
    members = {"forward": forward, "_flat_weights": property(weights_now), "computes_at_use": True} | own
    layer.__dict__.pop("_flat_weights")
    layer._flat_weight_refs = []
    layer.__class__ = type(cls.__name__, (cls,), members)


def compute_beforehand(layer: nn.RNNBase) -> None:
    """Undo `compute_at_use`, after the parametrizations are gone."""
    if getattr(layer, "computes_at_use", False):
        layer.__class__ = type(layer).__bases__[0]
        layer._init_flat_weights()
