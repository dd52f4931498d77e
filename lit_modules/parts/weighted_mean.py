"""A mean over batches and processes of values that count differently much."""

import torch
from torch import Tensor
from torchmetrics import Metric


class WeightedMean(Metric):
    """sum w x / sum w over all updates; NaN if any x is. Float32.

    torchmetrics' MeanMetric either drops NaN, or, with nan_strategy="disable", the weights (1.9).
    """

    total: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "weight"):
            self.add_state(name, torch.zeros(()), dist_reduce_fx="sum")

    def update(self, values: Tensor, weights: Tensor) -> None:
        """Add values of any shape, with weights of the same one."""
        # Not in place: the states may be of a run in inference mode.
        self.total = self.total + (values * weights).sum()
        self.weight = self.weight + weights.sum()

    def compute(self) -> Tensor:
        """The mean (scalar); 0 where nothing weighed anything."""
        return self.total / self.weight.clamp(min=1e-30)
