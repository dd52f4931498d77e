"""Networks of a module as ONNX, for batches of any size."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from runner.errors import UserError


@runtime_checkable
class HasPortableNetworks(Protocol):
    """A module with networks that make sense outside of Python."""

    def portable_networks(self) -> Mapping[str, tuple[nn.Module, Tensor]]:
        """By name, networks from a tensor (B, ...) to a tensor (B, ...), and an example of what each takes."""


def check_onnx() -> None:
    """
    Raises:
        UserError: a package that writes ONNX is missing.
    """
    if missing := [name for name in ("onnx", "onnxscript") if find_spec(name) is None]:
        raise UserError(f"--onnx needs {' and '.join(missing)}: pip install {' '.join(missing)}")


def write_onnx(module: LightningModule, folder: Path) -> list[str]:
    """Writes NAME.onnx for each network that the module has to offer, input "input" (batch, ...), output "output".

    Returns:
        The files' names.

    Raises:
        UserError: it has none.
    """
    networks = module.portable_networks() if isinstance(module, HasPortableNetworks) else {}
    if not networks:
        raise UserError(f"a {type(module).__name__} has no network to write as ONNX: leave --onnx out.")
    for name, (network, example) in networks.items():
        _write(network, example, folder / f"{name}.onnx")
    return [f"{name}.onnx" for name in networks]


def _write(network: nn.Module, example: Tensor, path: Path) -> None:
    # It says of each operation of torchvision that torchvision isn't there.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    program = torch.onnx.export(
        # Of a module in evaluation mode: this one may be made of its parts.
        network.eval(),
        (example,),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        input_names=["input"],
        output_names=["output"],
        verbose=False,
    )
    assert program is not None
    program.save(path)
