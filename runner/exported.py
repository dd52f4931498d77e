"""Exported models: the folder that `run.py export` writes, and `load`, which gives the module back.

    config.json         the module's class, its arguments, and what it learned from its data
    data.safetensors    the tensors of the latter, if there are any
    model.safetensors   weights by their names in the module's state dict
    training.yaml       the complete configuration of the run, if it has one
    README.md           a model card
    NAME.onnx           networks of the module, where they were asked for

Nothing of it is code. `load` imports the class that is named, and only if an installed package registers it.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor

from lit_modules.parts.data_state import from_state
from runner.errors import UserError, nearest
from runner.plugins import registered
from weight_norms import bake_in

CONFIG, WEIGHTS, DATA = "config.json", "model.safetensors", "data.safetensors"
FORMAT = 1
# In config.json: {"$tensor": NAME} stands for a tensor of data.safetensors, and {"$items": [[KEY, VALUE], ...]} for a
# dict whose keys are numbers.
_TENSOR, _ITEMS = "$tensor", "$items"


@dataclass(frozen=True)
class Description:
    """What it takes to build a module, apart from its weights.

    Args:
        class_path: the dotted path of its class.
        arguments: of the constructor.
        state: entries of a checkpoint that the module's `on_load_checkpoint` asks for, such as a vocabulary.
    """

    class_path: str
    arguments: Mapping[str, Any]
    state: Mapping[str, Any]


def write(folder: Path, module: LightningModule, description: Description) -> None:
    """Writes a module into a folder, its normalizations baked in already.

    Raises:
        UserError: an argument or a part of the state is neither plain nor a tensor; the message names it.
    """
    tensors: dict[str, Tensor] = {}
    plain = {"arguments": description.arguments, "state": description.state}
    entries = {name: _to_json(value, name, tensors) for name, value in plain.items()}
    text = json.dumps({"format": FORMAT, "class": description.class_path, **entries}, indent=2)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
    if tensors:
        save_file(tensors, folder / DATA, {"format": "pt"})
    # Of tensors that share their memory, such as tied weights, one is written.
    save_model(module, str(folder / WEIGHTS), {"format": "pt"})
    for path in folder.glob("*.safetensors"):
        # They would be for the user's eyes only.
        path.chmod((folder / CONFIG).stat().st_mode)


def load(folder: str | Path, into: LightningModule | None = None) -> LightningModule:
    """The exported module, in evaluation mode and on the CPU, its weight normalizations baked in.

    Args:
        folder: what `run.py export --out` wrote.
        into: a module to load into, which is changed in place: for a class that nobody registers, and for networks of
            your own, which are not built from JSON. By default the module is built anew.

    Raises:
        UserError: the folder holds no export, its class or one of its arguments isn't known here, or the weights don't
            fit. The message names what is wrong and the nearest right one.
    """
    folder = Path(folder)
    description = _read(folder)
    weights = _tensors(folder / WEIGHTS)
    module = into or build(registered_class(description.class_path), description.arguments)
    try:
        module.on_load_checkpoint({"state_dict": weights, **description.state})
    except KeyError as error:
        raise UserError(f"{folder / CONFIG} has no state {error}, which a {type(module).__name__} needs.") from error
    bake_in(module)
    _take_weights(folder / WEIGHTS, weights, module)
    return module.eval()


def _take_weights(path: Path, weights: Mapping[str, Tensor], module: LightningModule) -> None:
    """Takes the weights, if they are the module's."""
    name = type(module).__name__
    hint = " Networks of your own have to be built by you: load(folder, into=module)."
    for key, tensor in module.state_dict().items():
        if key in weights and weights[key].shape != tensor.shape:
            shapes = f"{tuple(weights[key].shape)}, in the {name} {tuple(tensor.shape)}"
            raise UserError(f"{key} has the shape {shapes} ({path}).{hint}")
    missing, unexpected = load_model(module, path, strict=False)
    if missing:
        key = min(missing)
        raise UserError(f"{path} has no {key}.{nearest(key, unexpected or weights)}{hint}")
    if unexpected:
        raise UserError(f"{path} has {min(unexpected)}, which the {name} doesn't have.{hint}")


# ---- Reading ----


def _read(folder: Path) -> Description:
    path = folder / CONFIG
    if not path.is_file():
        is_run = (folder / "config.yaml").is_file()
        hint = f" It is a run: python run.py export --ckpt {folder} --out FOLDER" if is_run else ""
        raise UserError(f"{folder} is not an exported model: it has no {CONFIG}.{hint}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        version, found = config["format"], Description(config["class"], {**config["arguments"]}, {**config["state"]})
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is not the {CONFIG} of an exported model: {error!r}") from error
    if version != FORMAT:
        raise UserError(f"{path} has format {version!r}, this version of litspaces reads {FORMAT}.")
    tensors = _tensors(folder / DATA) if (folder / DATA).is_file() else {}
    _refuse_kernels(path, found.state)
    return Description(found.class_path, found.arguments, _from_json(found.state, tensors, folder / DATA))


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _refuse_kernels(path: Path, value: Any) -> None:
    """transformers would fetch code for an attention that is named by its address."""
    for key, inner in _items(value):
        if str(key).endswith("_implementation"):
            raise UserError(f"{path} sets {key}, which can name code to run: exports have no such entry.")
        _refuse_kernels(path, inner)


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    return iter(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())


# ---- Building ----


def registered_class(path: str) -> type[LightningModule]:
    """The registered module of this dotted path.

    Raises:
        UserError: nobody registers it; the message has the nearest one that is.
    """
    name = path.rpartition(".")[2]
    known = registered("modules")
    for plugin in known:
        if plugin.name == name:
            found = plugin.load()
            if f"{found.__module__}.{found.__name__}" == path:
                return found
    near = nearest(name, (plugin.name for plugin in known))
    raise UserError(f"there is no registered module {path}.{near} In Python, into=module takes any other.")


def build(cls: type[LightningModule], arguments: Mapping[str, Any]) -> LightningModule:
    """A module of these arguments, without anything that they name being imported or downloaded.

    Raises:
        UserError: there is no such argument, or it names a class to be built.
    """
    parameters = inspect.signature(cls).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for name, value in arguments.items():
        if name not in parameters and not takes_all:
            raise UserError(f"{cls.__name__} has no argument {name!r}.{nearest(name, parameters)}")
        if own := next(_named_classes(name, value), None):
            raise UserError(
                f"{name} is {own}, which is not built from JSON: build a {cls.__name__} with it and pass into=module."
            )
    with from_state():
        return cls(**arguments)


def _named_classes(name: str, value: Any) -> Iterator[str]:
    """The dotted paths that an argument's value would have imported, apart from optimizers of torch and plugins."""
    if isinstance(value, dict) and "class_path" in value:
        yield str(value["class_path"])
    elif name == "optimizer" and isinstance(value, str) and "." in value:
        known = {plugin.class_path for plugin in registered("optimizers")}
        if not value.startswith("torch.optim.") and value not in known:
            yield value
    for _, inner in _items(value):
        yield from _named_classes("", inner)


# ---- JSON ----


def _to_json(value: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    """`value` with its tensors moved to `tensors`."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        tensors[where] = value.detach().cpu().contiguous().clone()
        return {_TENSOR: where}
    if isinstance(value, list | tuple):
        return [_to_json(inner, f"{where}.{number}", tensors) for number, inner in enumerate(value)]
    if isinstance(value, dict):
        plain = {key: _to_json(inner, f"{where}.{key}", tensors) for key, inner in value.items()}
        return plain if all(isinstance(key, str) for key in plain) else {_ITEMS: [list(item) for item in plain.items()]}
    raise UserError(f"{where} is a {type(value).__name__}, which JSON cannot hold: {value!r:.60}")


def _from_json(value: Any, tensors: Mapping[str, Tensor], path: Path) -> Any:
    if isinstance(value, dict) and value.keys() == {_TENSOR}:
        if value[_TENSOR] not in tensors:
            raise UserError(f"{path} has no {value[_TENSOR]}.{nearest(str(value[_TENSOR]), tensors)}")
        return tensors[value[_TENSOR]]
    if isinstance(value, dict) and value.keys() == {_ITEMS}:
        return {key: _from_json(inner, tensors, path) for key, inner in value[_ITEMS]}
    if isinstance(value, dict):
        return {key: _from_json(inner, tensors, path) for key, inner in value.items()}
    return [_from_json(inner, tensors, path) for inner in value] if isinstance(value, list) else value
