"""FID, KID, precision and recall from feature vectors, with real ones that are kept over validations."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance
from torchmetrics.utilities.distributed import gather_all_tensors

from callbacks.precision_recall import NearestNeighborPrecisionRecall

METRICS = ("fid", "kid", "precision", "recall")
# The same FID under the name that distinguishes it from the reconstructions'.
SAMPLE_METRICS = (*METRICS, "fid_samples")
FEATURE_METRICS = (*SAMPLE_METRICS, "fid_reconstructions")
# Kernel matrices of KID are this large at most: 32 MB in float64.
_KID_BLOCK = 2000


class FeatureMetrics:
    """The chosen metrics between real and fake feature vectors (N, F), which may be spread over processes.

    FID uses all real vectors and keeps only their sums. KID, precision and recall keep vectors: at most
    `num_samples` of them, evenly spaced over the real ones, since precision and recall compare sets of equal
    size. KID is the mean of the unbiased estimate (Bińkowski et al. 2018, arXiv 1801.01401) over blocks of up
    to 2,000 vectors; with up to 2,000 samples and at least as many real vectors there is one block with all
    of them and no random choice.

    "fid_reconstructions" is the FID of another set of vectors, those of `add_reconstructions`, to the same
    real ones.

    Call `add_real` any number of times, `finish_real` once, then for each evaluation `add_fake` once,
    `add_reconstructions` any number of times (also before the real ones are in) and `compute`. All processes
    make the same calls, with their own share of the vectors, which may be empty.

    Args:
        metrics: names out of "fid", "kid", "precision", "recall", "fid_samples" (the same as "fid") and
            "fid_reconstructions".
        num_samples: number of fake vectors of an evaluation, all processes together.
        num_features: F.
        nearest_k: number of neighbors for precision and recall.
        device: where vectors and sums are kept.
    """

    def __init__(
        self,
        metrics: Collection[str],
        num_samples: int,
        num_features: int,
        nearest_k: int,
        device: torch.device,
    ) -> None:
        self.names = [name for name in FEATURE_METRICS if name in metrics]
        self.num_samples = num_samples
        self._vectors: list[Tensor] = []
        self._none = torch.empty(0, num_features, dtype=torch.float64, device=device)
        identity = _Identity(num_features)
        self._fid = FrechetInceptionDistance(identity, reset_real_features=False).to(device)
        self._fid_reconstructions = FrechetInceptionDistance(identity, reset_real_features=False).to(device)
        with warnings.catch_warnings():
            # It warns of the memory for the vectors, which is bounded here.
            warnings.filterwarnings("ignore", message="Metric `Kernel Inception Distance` will save")
            self._kid = KernelInceptionDistance(identity, subsets=1, reset_real_features=False).to(device)
        self._neighbors = NearestNeighborPrecisionRecall(nearest_k).to(device)

    def add_real(self, features: Tensor) -> None:
        """Take in a batch of real vectors (B, F)."""
        features = features.double()
        if self._has_fid:
            self._fid.update(features, real=True)
        if "fid_reconstructions" in self.names:
            self._fid_reconstructions.update(features, real=True)
        if self._keeps_vectors:
            self._vectors.append(features)

    def finish_real(self) -> None:
        """All real vectors are in: choose those that are kept, and keep this process's share of them.

        Raises:
            ValueError: there are fewer than two.
        """
        if not self._keeps_vectors:
            return
        everything, rank, world = gather(torch.cat([self._none, *self._vectors]))
        self._vectors = []
        if len(everything) < 2:
            raise ValueError(f"there are {len(everything)} real images to compare with: at least 2 are needed")
        count = min(self.num_samples, len(everything))
        chosen = everything[torch.arange(count, device=everything.device) * len(everything) // count]
        share = chosen[rank * count // world : (rank + 1) * count // world]
        self._kid.update(share, real=True)
        self._neighbors.update(share, real=True)
        self._kid.subset_size = min(_KID_BLOCK, count)
        self._kid.subsets = math.ceil(self.num_samples / self._kid.subset_size)

    def add_fake(self, features: Tensor) -> None:
        """Take in this process's fake vectors (N, F) of one evaluation."""
        features = features.double()
        if self._has_fid:
            self._fid.update(features, real=False)
        if "kid" in self.names:
            self._kid.update(features, real=False)
        if "precision" in self.names or "recall" in self.names:
            self._neighbors.update(features, real=False)

    def add_reconstructions(self, features: Tensor) -> None:
        """Take in a batch of vectors (B, F) of reconstructions."""
        self._fid_reconstructions.update(features.double(), real=False)

    def compute(self) -> dict[str, Tensor]:
        """The metrics by name, scalars, equal in all processes; forgets all but the real vectors."""
        values: dict[str, Tensor] = {}
        if self._has_fid:
            values["fid"] = values["fid_samples"] = self._fid.compute()
        if "fid_reconstructions" in self.names:
            values["fid_reconstructions"] = self._fid_reconstructions.compute()
        if "kid" in self.names:
            values["kid"] = self._kid.compute()[0]
        if "precision" in self.names or "recall" in self.names:
            values["precision"], values["recall"] = self._neighbors.compute()
        for metric in (self._fid, self._fid_reconstructions, self._kid, self._neighbors):
            metric.reset()
        return {name: values[name] for name in self.names}

    @property
    def _keeps_vectors(self) -> bool:
        return not {"kid", "precision", "recall"}.isdisjoint(self.names)

    @property
    def _has_fid(self) -> bool:
        return not {"fid", "fid_samples"}.isdisjoint(self.names)


class _Identity(nn.Identity):
    """Stands where torchmetrics expects a feature network: the vectors are computed once, outside."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features


def gather(rows: Tensor) -> tuple[Tensor, int, int]:
    """The rows of all processes in the order of their ranks, this process's rank, the number of processes."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return rows, 0, 1
    gathered = torch.cat(gather_all_tensors(rows))
    return gathered, torch.distributed.get_rank(), torch.distributed.get_world_size()
