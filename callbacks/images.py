"""What callbacks take for images: which part of a batch they are, and the range of their values."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def batch_images(batch: Any, asked_by: object) -> Tensor:
    """The images (B, C, H, W) of a batch that is (images, ...) or the images themselves.

    Raises:
        ValueError: it is neither; the message names the class of `asked_by`.
    """
    images = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    if not isinstance(images, Tensor):
        raise ValueError(f"{type(asked_by).__name__} takes batches (images, ...) or images, got {type(batch).__name__}")
    return images


def batch_labels(batch: Any) -> Tensor | None:
    """The classes (B,), integers, of a batch that is (images, labels, ...); None of any other."""
    labels = batch[1] if isinstance(batch, (tuple, list)) and len(batch) > 1 else None
    if not isinstance(labels, Tensor) or labels.ndim != 1 or labels.is_floating_point():
        return None
    return labels


def check_value_range(value_range: tuple[float, float]) -> None:
    """Refuse a range of pixel values that is not (low, high).

    Raises:
        ValueError: low is not below high.
    """
    if not value_range[0] < value_range[1]:
        raise ValueError(f"value_range must be (low, high) with low < high, got {tuple(value_range)}")
