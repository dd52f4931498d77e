"""Equality to the last bit."""

from typing import Any

import torch


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
