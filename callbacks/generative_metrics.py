"""Quality of generated images, reconstructions and codes after each validation."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence, Sized
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from callbacks.feature_metrics import FEATURE_METRICS, METRICS, SAMPLE_METRICS, FeatureMetrics, gather
from callbacks.features import build_features
from callbacks.images import batch_images, check_value_range
from callbacks.non_finite_guard import NonFiniteError
from callbacks.normality import sliced_ks
from callbacks.progress import progress
from callbacks.protocols import (
    SupportsDrawnCodes,
    SupportsEncoding,
    SupportsReconstruction,
    SupportsReference,
    SupportsSampling,
    require,
)
from callbacks.sampling import evaluating, forked_rng, run_seed

_NAMES = (*FEATURE_METRICS, "normality")


class GenerativeMetrics(Callback):
    """Logs val/fid, val/kid, val/precision and val/recall of samples of the module.

    Autoencoders have three more, where `metrics` names them: val/fid_samples, the same as val/fid;
    val/fid_reconstructions, the FID of the reconstructions of the validation images to the same reference; and
    val/normality, the distance of the validation images' codes to N(0, I) (`callbacks.normality.sliced_ks`):
    those of `draw_codes`, where the module has it, since a VAE's codes without their noise are too narrow.

    The images to compare with come from the datamodule's `reference_dataloader()`, or, where there is none,
    are the validation images. Their features are computed once a run. Features are computed in float32 (no
    autocast), statistics in float64. The feature network and all states belong to this callback: they are in
    no parameters(), no state_dict() and no checkpoint.

    The samples are a pure function of the run's seed and the step, whatever the number of processes: batch k
    of them is drawn under a random state of its own, and each process draws a part of the batches. Training's
    random state is left as it was. With `ExponentialMovingAverage` the samples come from the averaged
    weights. Samples, reconstructions and codes with NaN or infinity stop the run, in all processes.

    FID depends on the number of samples (fewer give larger values) and on the features: compare values taken
    with equal settings, and those of papers only with Inception features and their numbers of images.

    Args:
        num_samples: number of generated images of a validation, all processes together.
        batch_size: images generated at a time.
        features: "digits" (one channel; `callbacks.features.DigitFeatures`), "inception:PATH" (three
            channels; PATH to torch-fidelity's weights), or a module with `num_features` that takes images
            (B, C, H, W) in [-1, 1] and gives vectors (B, num_features).
        metrics: which of "fid", "kid", "precision", "recall", "fid_samples", "fid_reconstructions", "normality".
        nearest_k: number of neighbors for precision and recall.
        value_range: the module's and the data's pixel values for black and white; feature networks get images
            in [-1, 1].

    Raises:
        ValueError: an argument is out of its range or an unknown name.
        TypeError: (when a run starts) the module lacks a method that a metric needs.
        NonFiniteError: (at a validation) samples, reconstructions or codes hold NaN or infinity.
    """

    def __init__(
        self,
        num_samples: int = 2000,
        batch_size: int = 256,
        features: str | nn.Module = "digits",
        metrics: Sequence[str] = METRICS,
        nearest_k: int = 3,
        value_range: tuple[float, float] = (-1.0, 1.0),
    ) -> None:
        for name in metrics:
            if name not in _NAMES:
                near = difflib.get_close_matches(name, _NAMES, n=1) or _NAMES
                raise ValueError(f"unknown metric {name!r}; the nearest: {', '.join(near)}")
        if batch_size < 1 or nearest_k < 1 or num_samples <= nearest_k:
            raise ValueError(
                "batch_size and nearest_k must be at least 1 and num_samples more than nearest_k,"
                f" got {batch_size}, {nearest_k} and {num_samples}"
            )
        check_value_range(value_range)
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.metrics = tuple(metrics)
        self.nearest_k = nearest_k
        self.value_range = value_range
        self._network = build_features(features)
        self._state: FeatureMetrics | None = None
        self._reference_is_complete = False
        self._codes: list[Tensor] = []
        self._bad_reconstructions: list[Tensor] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check the module, and forget the reference of an earlier run."""
        needs: dict[str, type[Any]] = dict.fromkeys(SAMPLE_METRICS, SupportsSampling)
        needs |= {"fid_reconstructions": SupportsReconstruction, "normality": SupportsEncoding}
        for name in self.metrics:
            require(pl_module, needs[name], self)
        self._state = None
        self._reference_is_complete = False

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Get ready on the module's device."""
        self._codes, self._bad_reconstructions = [], []
        if self._state is None and not trainer.sanity_checking:
            self._network.to(pl_module.device)
            self._state = FeatureMetrics(
                self.metrics, self.num_samples, self._num_features, self.nearest_k, pl_module.device
            )

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Encode and reconstruct; without a reference of the datamodule's, the first validation's images become it."""
        if trainer.sanity_checking:
            return
        assert self._state is not None
        if not {"fid_reconstructions", "normality"}.isdisjoint(self.metrics):
            # A module may draw noise when it encodes.
            key = (trainer.global_step, dataloader_idx, batch_idx, trainer.global_rank)
            with evaluating(pl_module), forked_rng(pl_module.device, run_seed(), *key):
                self._take_in(batch_images(batch, self), self._state, pl_module)
        if self._state.names and not self._reference_is_complete and not _has_reference(trainer):
            self._state.add_real(self._features(batch_images(batch, self)))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Generate, compare, log."""
        if trainer.sanity_checking:
            return
        assert self._state is not None
        values = self._compare(self._state, trainer, pl_module) if self._state.names else {}
        if "normality" in self.metrics:
            values["normality"] = self._normality(trainer, pl_module)
        for name, value in values.items():
            shown = name in ("fid", "fid_samples")
            pl_module.log(f"val/{name}", value.float(), prog_bar=shown, sync_dist=True, batch_size=1)

    def _take_in(self, images: Tensor, state: FeatureMetrics, pl_module: pl.LightningModule) -> None:
        """Keep the images' codes and the features of their reconstructions, where they are asked for."""
        if "normality" in self.metrics:
            encoder: SupportsEncoding = require(pl_module, SupportsEncoding, self)
            noisy = isinstance(pl_module, SupportsDrawnCodes)
            encode = require(pl_module, SupportsDrawnCodes, self).draw_codes if noisy else encoder.encode
            self._codes.append(encode(images))
        if "fid_reconstructions" in self.metrics:
            autoencoder: SupportsReconstruction = require(pl_module, SupportsReconstruction, self)
            features = self._features(autoencoder.reconstruct(images))
            self._bad_reconstructions.append(_bad_rows(features))
            state.add_reconstructions(features)

    def _compare(self, state: FeatureMetrics, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Tensor]:
        """The metrics of features."""
        if self._bad_reconstructions:
            _refuse_non_finite("reconstructions", torch.cat(self._bad_reconstructions), trainer, pl_module)
        if not self._reference_is_complete:
            self._complete_reference(state, trainer)
        if not set(SAMPLE_METRICS).isdisjoint(self.metrics):
            module: SupportsSampling = require(pl_module, SupportsSampling, self)
            with evaluating(pl_module):
                fake = self._fake_features(trainer, module, pl_module.device)
            _refuse_non_finite("samples", _bad_rows(fake), trainer, pl_module)
            state.add_fake(fake)
        # KID may draw random blocks: the same ones in all processes.
        with forked_rng(pl_module.device, run_seed(), trainer.global_step):
            return state.compute()

    def _normality(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Tensor:
        """Distance of all processes' codes to N(0, I)."""
        codes = torch.cat(self._codes)
        _refuse_non_finite("codes", _bad_rows(codes), trainer, pl_module)
        return sliced_ks(gather(codes)[0])

    @property
    def _num_features(self) -> int:
        number = self._network.num_features
        assert isinstance(number, int)
        return number

    def _complete_reference(self, state: FeatureMetrics, trainer: pl.Trainer) -> None:
        """Take in the datamodule's reference images, if it has any."""
        if _has_reference(trainer):
            loader: Iterable[Any] = trainer.datamodule.reference_dataloader()  # type: ignore[attr-defined]
            batches = len(loader) if isinstance(loader, Sized) else None
            with torch.no_grad(), progress(trainer, "Reference features", batches) as advance:
                for batch in loader:
                    # Runs the datamodule's transfer hooks, such as a normalization on the device.
                    batch = trainer.strategy.batch_to_device(batch)
                    state.add_real(self._features(batch_images(batch, self)))
                    advance(1)
        state.finish_real()
        self._reference_is_complete = True

    def _fake_features(self, trainer: pl.Trainer, module: SupportsSampling, device: torch.device) -> Tensor:
        """Features (N, F) of this process's part of the samples."""
        batches = -(-self.num_samples // self.batch_size)
        rank, world = trainer.global_rank, trainer.world_size
        mine = range(rank * batches // world, (rank + 1) * batches // world)
        parts = [torch.empty(0, self._num_features, device=device)]
        with progress(trainer, "Generating", len(mine)) as advance:
            for k in mine:
                n = min(self.batch_size, self.num_samples - k * self.batch_size)
                with forked_rng(device, run_seed(), trainer.global_step, k):
                    parts.append(self._features(module.sample(n)))
                advance(1)
        return torch.cat(parts)

    @torch.no_grad()
    def _features(self, images: Tensor) -> Tensor:
        low, high = self.value_range
        features = self._network((images.float() - low) * (2 / (high - low)) - 1)
        if features.shape != (len(images), self._num_features):
            raise ValueError(
                f"the feature network {type(self._network).__name__} must give vectors"
                f" ({len(images)}, {self._num_features}), got {tuple(features.shape)}"
            )
        # A network may hide NaN, for example by rounding its input.
        finite = images.flatten(1).isfinite().all(dim=1, keepdim=True)
        return features.float().where(finite, torch.nan)


def _bad_rows(rows: Tensor) -> Tensor:
    """Which rows (N, F) hold NaN or infinity: (N,), bool."""
    return (~rows.isfinite()).any(dim=1)


def _refuse_non_finite(what: str, bad: Tensor, trainer: pl.Trainer, pl_module: nn.Module) -> None:
    """All processes stop together: one alone would leave the others waiting for it."""
    count = int(bad.sum())
    if trainer.strategy.reduce_boolean_decision(count > 0, all=False):
        raise NonFiniteError(
            f"{what} of {type(pl_module).__name__} hold NaN or infinity at step {trainer.global_step}"
            f" ({count} of {len(bad)} {what} of this process): the training has diverged"
        )


def _has_reference(trainer: pl.Trainer) -> bool:
    return isinstance(trainer.datamodule, SupportsReference)  # type: ignore[attr-defined]
