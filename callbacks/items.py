"""What callbacks read from modules with a vector for each item, and from the datamodule that knows the items."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from callbacks.non_finite_guard import NonFiniteError
from callbacks.protocols import SupportsItemVectors, require
from callbacks.sampling import evaluating, forked_rng, run_seed

Metric = Literal["cosine", "distance"]
_METRICS = ("cosine", "distance")


def check_metric(metric: str) -> None:
    """Refuse an unknown metric.

    Raises:
        ValueError: it is neither "cosine" nor "distance".
    """
    if metric not in _METRICS:
        raise ValueError(f"metric must be 'cosine' or 'distance', got {metric!r}")


def similarity(metric: Metric, left: Tensor, right: Tensor) -> Tensor:
    """How similar rows are, (..., d) and (..., d) to (...): their cosine, or minus their Euclidean distance."""
    if metric == "cosine":
        return F.cosine_similarity(left, right, dim=-1)
    return -torch.linalg.vector_norm(left - right, dim=-1)


def all_similarities(metric: Metric, some: Tensor, vectors: Tensor) -> Tensor:
    """How similar each of some rows, (B, d), is to each of the vectors, (N, d): (B, N); see `similarity`."""
    if metric == "cosine":
        return F.normalize(some, dim=1) @ F.normalize(vectors, dim=1).T
    return -torch.cdist(some, vectors)


def read_vectors(pl_module: pl.LightningModule, asked_by: object) -> tuple[list[str], Tensor]:
    """The items and their vectors, (N, d) float32 on the module's device; call it on rank 0.

    Raises:
        TypeError: the module has no vectors.
        ValueError: there isn't one row for each item.
        NonFiniteError: a vector holds NaN or infinity.
    """
    module: SupportsItemVectors = require(pl_module, SupportsItemVectors, asked_by)
    with evaluating(pl_module), forked_rng(pl_module.device, run_seed()):
        items, vectors = module.item_vectors()
    if vectors.ndim != 2 or len(vectors) != len(items):
        raise ValueError(
            f"{type(pl_module).__name__}.item_vectors() must give a row for each of its {len(items)} items,"
            f" got a tensor of shape {tuple(vectors.shape)}"
        )
    bad = (~vectors.isfinite()).any(dim=1)
    if bad.any():
        first = items[int(bad.nonzero()[0])]
        raise NonFiniteError(
            f"vectors of {type(pl_module).__name__} hold NaN or infinity ({int(bad.sum())} of {len(items)} items,"
            f" {first!r} for one): the training has diverged"
        )
    return items, vectors.detach().float()


def numbered(items: Sequence[str], ignore_case: bool) -> dict[str, int]:
    """The number of each item; of several that differ in case only, the first one's, where case is ignored."""
    return {folded(items[i], ignore_case): i for i in reversed(range(len(items)))}


def folded(word: str, ignore_case: bool) -> str:
    """The form in which words are compared."""
    return word.casefold() if ignore_case else word


def nearest_name(word: str, names: Sequence[str]) -> str:
    """Which name was probably meant, as the end of an error message; empty where none is near."""
    near = difflib.get_close_matches(word, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def most_frequent(trainer: pl.Trainer, num_items: int, number: int) -> list[int]:
    """The numbers of the most frequent items, by the datamodule's `counts`; the first ones if it has none.

    Raises:
        ValueError: there isn't one count for each item.
    """
    counts = getattr(_datamodule(trainer), "counts", None)
    if counts is None:
        return list(range(min(number, num_items)))
    _check_length("counts", counts, num_items)
    order: list[int] = torch.as_tensor(counts).argsort(descending=True, stable=True)[:number].tolist()
    return order


def item_labels(trainer: pl.Trainer, num_items: int) -> tuple[NDArray[np.int64], list[str]] | None:
    """The datamodule's `labels`, (N,), of its items and their `label_names`; None if the items have none.

    Raises:
        ValueError: there isn't one label for each item, or one is no number of a name.
    """
    datamodule = _datamodule(trainer)
    labels = getattr(datamodule, "labels", None)
    if labels is None:
        return None
    _check_length("labels", labels, num_items)
    numbers = np.asarray(labels, dtype=np.int64)
    names = list(getattr(datamodule, "label_names", ()))
    if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(names):
        raise ValueError(
            f"the datamodule's labels go from {numbers.min()} to {numbers.max()}, its label_names are {len(names)}"
        )
    return numbers, names


def required(trainer: pl.Trainer, name: str, asked_by: object) -> Any:
    """What the datamodule holds under `name`.

    Raises:
        ValueError: it has no such thing; the message names the callback and the datamodule.
    """
    datamodule = _datamodule(trainer)
    value = getattr(datamodule, name, None)
    if value is None:
        who = "no datamodule has" if datamodule is None else f"{type(datamodule).__name__} doesn't have"
        raise ValueError(f"{type(asked_by).__name__} needs a datamodule with `{name}`, which {who}")
    return value


def subset(num_items: int, size: int, seed: int) -> NDArray[np.int64]:
    """`size` of the items at random, in order; all of them if there are no more. Always the same for a seed."""
    if num_items <= size:
        return np.arange(num_items)
    return np.sort(np.random.default_rng(seed).choice(num_items, size, replace=False))


def _check_length(name: str, values: Any, num_items: int) -> None:
    if len(values) != num_items:
        raise ValueError(f"the datamodule's {name} are {len(values)}, the module's items {num_items}")


def _datamodule(trainer: pl.Trainer) -> Any:
    return getattr(trainer, "datamodule", None)
