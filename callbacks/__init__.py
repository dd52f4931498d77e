"""Callbacks that work on anybody's LightningModule, through the small protocols of `callbacks.protocols`."""

from callbacks.ema import ExponentialMovingAverage, load_averaged_weights
from callbacks.generative_metrics import GenerativeMetrics
from callbacks.image_grid import ImageGrid

__all__ = ["ExponentialMovingAverage", "GenerativeMetrics", "ImageGrid", "load_averaged_weights"]
