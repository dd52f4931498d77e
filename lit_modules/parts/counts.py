"""Metrics that are made of counts."""

import torch
from torch import Tensor
from torchmetrics import Metric


class Counts(Metric):
    """Counts that are added up over updates and processes.

    They are int64: float32 would stand still at 2^24, and floating-point states are rounded to bfloat16 with a module
    that is.
    """

    def __init__(self, *names: str) -> None:
        super().__init__()
        for name in names:
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def count(self, **counts: int) -> None:
        """Add to the counts of these names."""
        for name, count in counts.items():
            # Not in place: the states may be of a run in inference mode.
            setattr(self, name, getattr(self, name) + count)


def ratio(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole in float32, 0 where the whole is; the whole is a count."""
    return (part.double() / whole.clamp(min=1)).float()
