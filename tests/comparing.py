"""Equality to the last bit."""

import io
from typing import Any

import torch
from torch import Tensor


def assert_same(one: Any, other: Any, where: str = "checkpoint") -> None:
    """Nested states are equal to the last bit."""
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            # Paths of the run's own folder differ.
            if not str(key).endswith(("path", "dirpath", "best_k_models")):
                assert_same(one[key], other[key], f"{where}[{key!r}]")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for number, (x, y) in enumerate(zip(one, other, strict=True)):
            assert_same(x, y, f"{where}[{number}]")
    else:
        assert one == other, where


def same(one: Any, other: Any) -> bool:
    """Whether two batches are the same, bit by bit."""
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    return bool(one == other)


def through_a_file(state: dict[str, Any]) -> Any:
    """The state as a checkpoint gives it back."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)
