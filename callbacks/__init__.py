"""Callbacks that work on anybody's LightningModule, through the small protocols of `callbacks.protocols`."""

from callbacks.analogies import WordAnalogies
from callbacks.cluster_agreement import ClusterAgreement
from callbacks.code_scatter import CodeScatter
from callbacks.ema import ExponentialMovingAverage, load_averaged_weights
from callbacks.floor_plan import FloorPlan
from callbacks.flow_picture import FlowPicture
from callbacks.generated_pairs import GeneratedPairs
from callbacks.generative_metrics import GenerativeMetrics
from callbacks.image_grid import ImageGrid
from callbacks.item_scatter import ItemScatter
from callbacks.keras_progress_bar import KerasProgressBar
from callbacks.nearest_items import NearestItems
from callbacks.non_finite_guard import NonFiniteError, NonFiniteGuard
from callbacks.prediction_lines import PredictionLines
from callbacks.reconstruction_grid import ReconstructionGrid
from callbacks.run_summary import RunSummary
from callbacks.trustworthiness import Trustworthiness
from callbacks.weight_constraint import WeightConstraint
from callbacks.weight_normalization import WeightNormalization
from callbacks.word2vec_export import Word2VecExport, write_word2vec
from callbacks.word_similarity import WordSimilarity

__all__ = [
    "ClusterAgreement",
    "CodeScatter",
    "ExponentialMovingAverage",
    "FloorPlan",
    "FlowPicture",
    "GeneratedPairs",
    "GenerativeMetrics",
    "ImageGrid",
    "ItemScatter",
    "KerasProgressBar",
    "NearestItems",
    "NonFiniteError",
    "NonFiniteGuard",
    "PredictionLines",
    "ReconstructionGrid",
    "RunSummary",
    "Trustworthiness",
    "WeightConstraint",
    "WeightNormalization",
    "Word2VecExport",
    "WordAnalogies",
    "WordSimilarity",
    "load_averaged_weights",
    "write_word2vec",
]
