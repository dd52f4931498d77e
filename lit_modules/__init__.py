"""Lightning modules for articles of the blog Scientific Spaces, one file an article."""

from lit_modules.entity_linker import EntityLinker, LinkedMention
from lit_modules.entropic_autoencoder import EntropicAutoencoder
from lit_modules.freeform import FreeformAutoencoder, FreeformClassifier, FreeLosses, add_loss, add_metric, collect
from lit_modules.library_embedding import LibraryEmbedding
from lit_modules.optimization_flow import OptimizationFlow
from lit_modules.question_answer_generator import GeneratedPair, QuestionAnswerGenerator
from lit_modules.relativistic_gan import RelativisticGAN
from lit_modules.single_loss_gan import SingleLossGAN

__all__ = [
    "EntityLinker",
    "EntropicAutoencoder",
    "FreeLosses",
    "FreeformAutoencoder",
    "FreeformClassifier",
    "GeneratedPair",
    "LibraryEmbedding",
    "LinkedMention",
    "OptimizationFlow",
    "QuestionAnswerGenerator",
    "RelativisticGAN",
    "SingleLossGAN",
    "add_loss",
    "add_metric",
    "collect",
]
