"""From a checkpoint to the module that it would be exported as: averaged weights taken, normalizations baked in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.cli import instantiate_module

from callbacks.ema import ExponentialMovingAverage, load_averaged_weights
from callbacks.protocols import PreparesModule
from lit_modules.parts.data_state import from_state
from runner.compatibility import check_checkpoint, read_checkpoint
from runner.errors import UserError
from runner.exact_resume import KEY, class_path
from runner.exported import Description, build, registered_class
from runner.run_folder import LAST, best_checkpoint
from weight_norms import bake_in

# What Lightning and the run keep in a checkpoint; a module that asks for it gets it anew from the weights, or resumes.
_NO_STATE = {"state_dict", "hyper_parameters", "callbacks", "loops", "optimizer_states", "lr_schedulers", KEY}


@dataclass(frozen=True)
class Trained:
    """A module as it is exported, and where it comes from.

    Args:
        module: in evaluation mode, its normalizations baked in.
        description: what it takes to build it again.
        averaged: paths of the submodules whose weights are averages; "" is the whole module.
        checkpoint: the checkpoint's contents.
        path: of the checkpoint.
        run: the folder of the run, if the checkpoint lies in one.
    """

    module: LightningModule
    description: Description
    averaged: list[str]
    checkpoint: Mapping[str, Any]
    path: Path
    run: Path | None

    @property
    def config(self) -> dict[str, Any]:
        """The complete configuration of the run; empty where there is none."""
        return _config(self.run)


class _Watched(dict[str, Any]):
    """A checkpoint that remembers which of its entries were asked for."""

    def __init__(self, checkpoint: Mapping[str, Any]) -> None:
        super().__init__(checkpoint)
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.asked.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


def find_checkpoint(path: Path) -> Path:
    """The checkpoint that is meant: a file, or a run's best one, or its last.

    Raises:
        UserError: there is none.
    """
    if path.is_dir():
        found = best_checkpoint(path) or path / LAST
        if not found.is_file():
            raise UserError(f"there is no checkpoint in {path}: --ckpt takes a checkpoint or the folder of a run.")
        return found
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}.")
    return path


def restore(path: Path, into: LightningModule | None = None) -> Trained:
    """The module of a checkpoint, ready to be exported.

    Args:
        path: of a checkpoint.
        into: see `runner.export.export`.

    Raises:
        UserError: the file is no checkpoint, its class isn't registered, or the weights don't fit.
    """
    checkpoint, run = read_checkpoint(path), path.resolve().parent.parent
    folder = run if (run / "config.yaml").is_file() else None
    arguments = {k: v for k, v in checkpoint.get("hyper_parameters", {}).items() if not k.startswith("_")}
    module = into or _built(checkpoint, arguments, path, folder)
    for callback in _preparing(_config(folder)):
        callback.prepare_module(module)
    watched = _Watched(checkpoint)
    module.on_load_checkpoint(watched)
    check_checkpoint(path, module)
    module.load_state_dict(checkpoint["state_dict"])
    averaged = _averaged(checkpoint)
    if averaged:
        load_averaged_weights(module, path)
    resumes = getattr(module, "only_to_resume", ())
    state = {name: watched[name] for name in sorted(watched.asked & watched.keys() - _NO_STATE - {*resumes})}
    description = Description(class_path(module), arguments, state)
    bake_in(module.eval())
    return Trained(module, description, averaged, checkpoint, path, folder)


def _built(checkpoint: Mapping[str, Any], arguments: dict[str, Any], path: Path, run: Path | None) -> LightningModule:
    name = checkpoint.get(KEY, {}).get("model_class")
    if name is None:
        raise UserError(
            f"{path} does not say of which class it is, as checkpoints of run.py do: in Python,"
            " runner.export.export(checkpoint, folder, into=module)."
        )
    cls = registered_class(name)
    if run is None:
        return build(cls, arguments)
    # With the networks that the run's configuration describes. A checkpoint that comes alone is not to name code.
    with from_state():
        return instantiate_module(cls, arguments)


def _averaged(checkpoint: Mapping[str, Any]) -> list[str]:
    name = ExponentialMovingAverage.__qualname__
    states = [state for key, state in checkpoint.get("callbacks", {}).items() if key.startswith(name)]
    return [state["module"] for state in states if state["updates"]]


def _config(run: Path | None) -> dict[str, Any]:
    return {} if run is None else yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))


def _preparing(config: Mapping[str, Any]) -> Iterator[PreparesModule]:
    """The run's callbacks that gave the module other parameters, such as normalized weights."""
    callbacks = config.get("trainer", {}).get("callbacks") or []
    for described in callbacks if isinstance(callbacks, list) else [callbacks]:
        module, _, name = described["class_path"].rpartition(".")
        if issubclass(getattr(import_module(module), name), PreparesModule):
            parser = ArgumentParser(exit_on_error=False)
            parser.add_subclass_arguments(Callback, "callback")
            yield parser.instantiate_classes(parser.parse_object({"callback": described})).callback
