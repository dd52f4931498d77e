"""Where predictions come from: the weights, the arguments and the input files, in a small file beside them."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from callbacks.ema import averaged_weights
from callbacks.tables import write_whole

# Arguments that only say how the work is done.
_FREE = ("batch_size", "cache_dir", "num_workers", "pin_memory", "rows_per_batch")


def origin_path(path: Path) -> Path:
    """The file beside the predictions `path`."""
    return path.with_name(f"{path.name}.origin.json")


def origin_of(trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
    """What the predictions of this run hang on, JSON-plain.

    The weights, averaged if they are; the class and the arguments of the module and of the datamodule. An argument
    that names a file stands for the file: its name, size and time of last change. Arguments that only say how the
    work is done, such as the batch size, are left out.
    """
    with averaged_weights(trainer, pl_module):
        weights = _digest(pl_module)
    datamodule = getattr(trainer, "datamodule", None)
    return {"weights": weights, "model": _arguments(pl_module), "data": _arguments(datamodule)}


def write_origin(path: Path, origin: Mapping[str, Any]) -> None:
    """Write it beside the predictions `path`."""

    def write(file: IO[bytes]) -> None:
        file.write(json.dumps(origin, ensure_ascii=True, indent=1).encode() + b"\n")

    write_whole(origin_path(path), write)


def check_origin(path: Path, origin: Mapping[str, Any]) -> None:
    """See that the predictions in `path` come from what this run's would come from.

    Raises:
        ValueError: they don't, and the message says in what; or there is no telling.
    """
    beside = origin_path(path)
    try:
        written = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ValueError(f"{path} has lines, but {beside.name} doesn't say of what: name another path") from None
    here = dict(_flat(json.loads(json.dumps(origin))))
    there = dict(_flat(written))
    differing = [name for name in sorted(here.keys() | there.keys()) if here.get(name) != there.get(name)]
    if differing:
        said = "; ".join(f"{name}={there.get(name)!r} there, {here.get(name)!r} here" for name in differing[:3])
        raise ValueError(f"{path} has lines from something else: {said}. Name another path, or go on with the same")


def _flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict):
        for name, branch in tree.items():
            yield from _flat(branch, f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix, tree


def _digest(pl_module: pl.LightningModule) -> str:
    """Of the module's state."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in pl_module.state_dict().items():
        digest.update(name.encode())
        if isinstance(value, Tensor):
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        else:
            digest.update(repr(value).encode())
    return digest.hexdigest()


def _arguments(built: Any) -> dict[str, Any]:
    """An object's class, and the arguments that it was built with, as its hyper-parameters or attributes tell them."""
    if built is None:
        return {}
    names = list(inspect.signature(type(built).__init__).parameters)[1:]
    known = dict(getattr(built, "hparams", {})) or {
        name: getattr(built, name) for name in names if hasattr(built, name)
    }
    kept = {name: _plain(value) for name, value in known.items() if name not in _FREE and not name.startswith("_")}
    return {"class": f"{type(built).__module__}.{type(built).__qualname__}"} | kept


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return _file(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    known = value is None or isinstance(value, bool | int | float)
    return value if known else f"{type(value).__module__}.{type(value).__qualname__}"


def _file(value: str) -> str:
    path = Path(value).expanduser()
    try:
        status = path.stat()
    except (OSError, ValueError):
        return value
    return f"{path.name}, {status.st_size} bytes, changed {status.st_mtime_ns}" if path.is_file() else value
