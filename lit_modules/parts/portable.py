"""Networks that make sense outside of Python, each with an example of what it takes."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

Portable = tuple[nn.Module, Tensor]


class FirstHalf(nn.Module):
    """The first half of the columns: of a VAE's (B, 2 d) the means (B, d)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2 d) to (B, d)."""
        return x.chunk(2, dim=1)[0]


def images_like(hparams: Mapping[str, Any]) -> Tensor:
    """Two black images (2, C, S, S) of the size that these hyper-parameters say."""
    return torch.zeros(2, hparams["channels"], hparams["image_size"], hparams["image_size"])


@torch.no_grad()
def portable_chain(x: Tensor, **networks: nn.Module) -> dict[str, Portable]:
    """By name, networks of which each takes what the one before gives, the first one ``x`` (B, ...)."""
    chain = {}
    for name, network in networks.items():
        chain[name] = network, x
        x = network(x)
    return chain
