"""Callbacks that work on anybody's LightningModule, through the small protocols of `callbacks.protocols`."""

from callbacks.code_scatter import CodeScatter
from callbacks.ema import ExponentialMovingAverage, load_averaged_weights
from callbacks.flow_picture import FlowPicture
from callbacks.generative_metrics import GenerativeMetrics
from callbacks.image_grid import ImageGrid
from callbacks.keras_progress_bar import KerasProgressBar
from callbacks.non_finite_guard import NonFiniteError, NonFiniteGuard
from callbacks.reconstruction_grid import ReconstructionGrid
from callbacks.run_summary import RunSummary
from callbacks.weight_constraint import WeightConstraint
from callbacks.weight_normalization import WeightNormalization

__all__ = [
    "CodeScatter",
    "ExponentialMovingAverage",
    "FlowPicture",
    "GenerativeMetrics",
    "ImageGrid",
    "KerasProgressBar",
    "NonFiniteError",
    "NonFiniteGuard",
    "ReconstructionGrid",
    "RunSummary",
    "WeightConstraint",
    "WeightNormalization",
    "load_averaged_weights",
]
