"""pythae's autoencoders with this project's networks, trained by pythae's own pipeline as its documentation does it.

Needs pythae: see autoencoder_requirements.txt. Images are one tensor in memory, there is no evaluation set and nothing
is saved but the final model, which the pipeline always does (into a folder that is thrown away).
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch import seed_everything
from pythae.models import RAE_L2, VAE, WAE_MMD, BaseAE, BetaVAE, BetaVAEConfig, RAE_L2_Config, VAEConfig, WAE_MMD_Config
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.pipelines import TrainingPipeline
from pythae.trainers import BaseTrainerConfig, CoupledOptimizerTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import Tensor, nn

from benchmarks.autoencoder_quality import Autoencoder, Judge, evaluate
from benchmarks.autoencoder_report import BATCH_SIZE, LATENT_DIM, LEARNING_RATE, PYTHAE, PYTHAE_FUSED
from benchmarks.autoencoder_speed import Contestant, Setting, Tell, silent
from benchmarks.entropic_autoencoder import AutoencoderTask
from benchmarks.runs import Advance, Results
from lit_modules.parts.coders import default_coders

WIDTH = 24  # of convolutional networks


class Encoder(BaseEncoder):
    """One of ours as pythae wants it; ``variational``: its second half is the log variance."""

    def __init__(self, network: nn.Module, variational: bool) -> None:
        super().__init__()
        self.network, self.variational = network, variational

    def forward(self, x: Tensor) -> ModelOutput:
        """(B, C, H, W) to the codes (B, d)."""
        out = self.network(x)
        if not self.variational:
            return ModelOutput(embedding=out)
        mean, log_var = out.chunk(2, dim=1)
        return ModelOutput(embedding=mean, log_covariance=log_var)


class Decoder(BaseDecoder):
    """One of ours as pythae wants it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor) -> ModelOutput:
        """(B, d) to the images (B, C, H, W)."""
        return ModelOutput(reconstruction=self.network(z))


# ---- Models ----


def build(kind: str, weight: float, network: str = "dense", latent_dim: int = LATENT_DIM, **_: Any) -> BaseAE:
    """An untrained model of pythae's.

    Args:
        kind: "VAE" (for another weight than 1 its BetaVAE), "WAE-MMD" or "RAE-L2".
        weight: of the KL divergence beside half the squared error, of the MMD, or of the codes' half squared norm.
        network: of ours, "dense" or "convolutional".
        latent_dim: of the codes.
    """
    variational = kind == "VAE"
    sizes = {"image_size": 28, "channels": 1, "latent_dim": latent_dim, "width": WIDTH}
    encoder, decoder = default_coders(network, outputs=latent_dim * (1 + variational), **sizes)
    coders = Encoder(encoder, variational), Decoder(decoder)
    shapes = {"input_dim": (1, 28, 28), "latent_dim": latent_dim}
    if kind == "WAE-MMD":
        return WAE_MMD(WAE_MMD_Config(**shapes, reg_weight=weight), *coders)
    if kind == "RAE-L2":
        return RAE_L2(RAE_L2_Config(**shapes, embedding_weight=weight), *coders)
    if weight == 1:
        return VAE(VAEConfig(**shapes), *coders)
    return BetaVAE(BetaVAEConfig(**shapes, beta=weight), *coders)


def as_judged(model: BaseAE) -> Autoencoder:
    """What benchmarks.autoencoder_quality measures, in evaluation mode."""
    model.eval()

    def draw_codes(images: Tensor) -> Tensor:
        out = model.encoder(images)
        if not model.encoder.variational:
            return out.embedding
        return out.embedding + (out.log_covariance / 2).exp() * torch.randn_like(out.embedding)

    without_gradients = torch.no_grad()
    return Autoencoder(
        without_gradients(lambda images: model.encoder(images).embedding),
        without_gradients(lambda codes: model.decoder(codes).reconstruction),
        without_gradients(draw_codes),
    )


# ---- Training ----


class Ends(TrainingCallback):
    """Tells the end of each step and of each epoch."""

    def __init__(self, step: Tell, epoch: Tell) -> None:
        self._step, self._epoch = step, epoch

    def on_train_step_end(self, *_: Any, **__: Any) -> None:
        self._step()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        self._epoch()


def _nothing() -> None:
    """Of a Tell that nobody listens to."""


def trainer_config(model: BaseAE, fused: bool, **common: Any) -> BaseTrainerConfig:
    """Of the kind that the model's pipeline asks for: RAE has an Adam for each network."""
    extra = {"fused": True} if fused else None
    if model.model_name != "RAE_L2":
        return BaseTrainerConfig(learning_rate=LEARNING_RATE, optimizer_params=extra, **common)
    rates = {"encoder_learning_rate": LEARNING_RATE, "decoder_learning_rate": LEARNING_RATE}
    return CoupledOptimizerTrainerConfig(**rates, encoder_optimizer_params=extra, **common)


def fit(
    model: BaseAE,
    images: Tensor,
    epochs: int,
    *,
    seed: int = 0,
    fused: bool = False,
    step: Tell = _nothing,
    epoch: Tell = _nothing,
) -> None:
    """Train with pythae's TrainingPipeline, quietly; ``step`` and ``epoch`` are told of each one's end."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("pythae"):
            logging.getLogger(name).setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder, silent():
        common = {"output_dir": folder, "num_epochs": epochs, "per_device_train_batch_size": BATCH_SIZE, "seed": seed}
        config = trainer_config(model, fused, no_cuda=True, **common)
        TrainingPipeline(model=model, training_config=config)(images, callbacks=[Ends(step, epoch)])


def timed(setting: Setting, tell: Tell, *, fused: bool = False) -> None:
    """A contestant of the speed contest: pythae's VAE."""
    torch.manual_seed(0)
    model = build("VAE", 1, setting.network)
    fit(model, setting.tensor(), 1 + setting.epochs, fused=fused, epoch=tell)


PYTHAES: dict[str, Contestant] = {PYTHAE: timed, PYTHAE_FUSED: partial(timed, fused=True)}


# ---- Quality ----


def methods(weights: dict[str, Sequence[float]]) -> dict[str, Callable[..., BaseAE]]:
    """By name ("pythae VAE, 1"), each kind of model ("pythae VAE") with each of its weights."""
    return {
        f"{name}, {weight:g}": partial(build, name.removeprefix("pythae "), weight)
        for name, tried in weights.items()
        for weight in dict.fromkeys(tried)
    }


def trained(task: AutoencoderTask, method: str, seed: int, images: Tensor, advance: Advance) -> Autoencoder:
    """A model after the task's steps in whole epochs; as ours are, it is the one after the last step."""
    seed_everything(seed, verbose=False)
    model = task.model(method)
    epochs = max(1, round(task.steps / (len(images) // BATCH_SIZE)))
    fit(model, images, epochs, seed=seed, step=lambda: advance(1))
    return as_judged(model)


def train(task: AutoencoderTask, method: str, seed: int, advance: Advance) -> Results:
    """All qualities at the end, against the held-out images: one row."""
    split = task.split(seed)
    model = trained(task, method, seed, split.training, advance)
    return [{name: round(value, 4) for name, value in evaluate(model, split, seed).items()}]


def tune(task: AutoencoderTask, method: str, seed: int, advance: Advance) -> Results:
    """The FID of N(0, I) samples to the training images: one row with "fid_training"."""
    split = task.split(seed)
    model = trained(task, method, seed, split.training, advance)
    judge = Judge(split.training, task.samples, seed)
    return [{"fid_training": round(judge.fid_of_samples(model, task.shared["latent_dim"]), 3)}]
