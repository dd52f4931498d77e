"""Whether a checkpoint fits the module that the config builds, said in the user's terms."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule

from runner.errors import UserError
from runner.exact_resume import KEY, class_path


def check_checkpoint(path: Path, model: LightningModule) -> None:
    """Compares class, names and shapes, except of those submodules that the module builds from the checkpoint itself.

    It names them in its attribute `rebuilt_on_load`, if it has any.

    Args:
        path: a checkpoint.
        model: the module that is going to load it.

    Raises:
        UserError: the file is damaged, of another class, or of other sizes; the message names the arguments
            that differ.
    """
    checkpoint = read_checkpoint(path)
    saved_class = checkpoint.get(KEY, {}).get("model_class")
    if saved_class and saved_class != class_path(model):
        raise UserError(
            f"checkpoint {path} holds a {saved_class.split('.')[-1]}, but the config builds a {type(model).__name__}."
        )
    rebuilt = tuple(f"{name}." for name in getattr(model, "rebuilt_on_load", ()))
    saved, built = (
        {name: tensor for name, tensor in state.items() if not name.startswith(rebuilt)}
        for state in (checkpoint["state_dict"], model.state_dict())
    )
    wrong = _mismatch(saved, built)
    if wrong:
        raise UserError(f"checkpoint {path} does not fit the model: {wrong}.{_differences(checkpoint, model)}")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's contents, on the CPU, its tensors read when they are used.

    Raises:
        UserError: the file is damaged, or no checkpoint of Lightning.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"{path} is not a checkpoint that can be read: {str(error).splitlines()[0]}") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UserError(f"{path} is not a checkpoint of Lightning: it has no state_dict.")
    return checkpoint


def _mismatch(saved: dict[str, torch.Tensor], built: dict[str, torch.Tensor]) -> str:
    for name, tensor in saved.items():
        if name not in built:
            return f"it has {name}, which the model does not have"
        if not _fits(tensor, built[name]):
            return f"{name} is {tuple(tensor.shape)} there and {tuple(built[name].shape)} here"
    missing = sorted(built.keys() - saved.keys())
    return f"it lacks {missing[0]}" if missing else ""


def _fits(saved: torch.Tensor, built: torch.Tensor) -> bool:
    # A dimension is empty where only the data or the checkpoint tell its size, as the number of words.
    return saved.dim() == built.dim() and all(
        here in (there, 0) for there, here in zip(saved.shape, built.shape, strict=True)
    )


def _differences(checkpoint: dict[str, Any], model: LightningModule) -> str:
    saved, built = checkpoint.get("hyper_parameters", {}), dict(model.hparams)
    differing = [
        f"{name}={saved[name]!r} there, {built[name]!r} here"
        for name in sorted(saved.keys() & built.keys())
        if saved[name] != built[name] and not name.startswith("_")
    ]
    return f" Arguments that differ: {'; '.join(differing)}." if differing else ""
