"""A mean by weight."""

import pytest
import torch
from torchmetrics import MeanMetric

from lit_modules.parts.weighted_mean import WeightedMean


def test_batches_count_by_weight() -> None:
    mean = WeightedMean()
    mean.update(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 1.0]))
    mean.update(torch.tensor(10.0), torch.tensor(4.0))
    assert mean.compute().item() == pytest.approx((3 + 2 + 40) / 8)
    mean.reset()
    mean.update(torch.zeros(0), torch.zeros(0))
    assert mean.compute() == 0
    mean.update(torch.tensor([1.0, torch.nan]), torch.ones(2))
    assert mean.compute().isnan()


def test_after_inference_mode() -> None:
    mean = WeightedMean()
    with torch.inference_mode():
        mean.update(torch.ones(2), torch.ones(2))
        mean.reset()
    mean.update(torch.tensor([3.0]), torch.tensor([2.0]))
    assert mean.compute() == 3


def test_torchmetrics_own_forgets_the_weights() -> None:
    """Canary: if this fails, MeanMetric(nan_strategy="disable") may do."""
    mean = MeanMetric(nan_strategy="disable")
    mean.update(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 1.0]))
    assert mean.compute() == 1.5
