"""Differential entropy of samples, by the distances to their nearest neighbors (Kozachenko and Leonenko 1987).

Article 7 maximizes it over the codes of an autoencoder: of all densities with mean 0 and variance 1 the normal has
the largest entropy. With eps_k(i) the distance of z_i to its k-th nearest neighbor in the batch, not itself, and
B_d = pi^(d/2) / Gamma(d/2 + 1) the volume of the unit ball,

    H ~ (d/n) sum_i log eps_k(i) + log B_d + psi(n) - psi(k)

(k = 1: psi(n) - psi(1) ~ log(n - 1) + Euler's gamma). Only the first term has a gradient.

The estimate is unbiased up to d of about 8 and too large above, more so for few samples: in d = 64 by 8 nats for 4096
of them. So compare values only for equal n and d, for example with those of true normal samples. Points that may move
freely can cheat it; evaluate on codes that were not trained on.

Neighbors are sought in the *global* batch in a distributed run (see ``distributed.global_batch``).
"""

import math

import torch
from torch import Tensor

from lit_modules.parts.distributed import global_batch, rank_and_world_size

# Of the distances that are held at a time: 128 MB.
CHUNK_ENTRIES = 2**24


def knn_entropy(z: Tensor, k: int = 1, *, floor: float = 1e-6) -> Tensor:
    """The entropy (scalar, nats) of the density that rows z (n, d) were drawn from; differentiable.

    Computed in float32 at least. Memory grows with n d, not with n^2.

    Args:
        z: samples (n, d), the same number on every rank.
        k: which neighbor; larger ones give a smoother and more biased estimate.
        floor: added to distances, so that points that coincide give a finite number (and no gradient).

    Raises:
        ValueError: z is no matrix, k below 1, or not more than k samples in all.
    """
    if z.dim() != 2:
        raise ValueError(f"knn_entropy takes samples (n, d), got {tuple(z.shape)}")
    z = z.to(torch.promote_types(z.dtype, torch.float32))
    rank, world_size = rank_and_world_size()
    (n, d), everyone = z.shape, world_size * len(z)
    if not 1 <= k < everyone:
        raise ValueError(f"k={k} must be at least 1 and less than the number of samples in the batch, {everyone}")
    with torch.autocast(z.device.type, enabled=False):
        points = global_batch(z)
        neighbors = points[kth_neighbors(z.detach(), points.detach(), k, first=rank * n)]
        distances = torch.linalg.vector_norm(z - neighbors, dim=1)
    log_ball = d / 2 * math.log(math.pi) - math.lgamma(d / 2 + 1)
    digammas = torch.digamma(torch.tensor([everyone, k], dtype=torch.float64)).tolist()
    return d * (distances + floor).log().mean() + (log_ball + digammas[0] - digammas[1])


@torch.no_grad()
def kth_neighbors(z: Tensor, points: Tensor, k: int, *, first: int = 0) -> Tensor:
    """Index (n,) among ``points`` (m, d) of the k-th nearest one to each row of z (n, d) that is not itself.

    Row i of z is ``points[first + i]``.
    """
    found = []
    rows = max(1, CHUNK_ENTRIES // len(points))
    for start in range(0, len(z), rows):
        distances = _distances(z[start : start + rows], points)
        own = torch.arange(len(distances), device=z.device)
        distances[own, own + first + start] = math.inf
        found.append(distances.kthvalue(k, dim=1).indices if k > 1 else distances.argmin(dim=1))
    return torch.cat(found)


def _distances(z: Tensor, points: Tensor) -> Tensor:
    """Something (n, m) that orders points as their distance to each row of z does.

    The expansion |z|^2 - 2 <z, p> + |p|^2 is a matrix product, here three times as fast as differences, but in the
    precision of the points it is wrong by 100 % for close points far from the origin. So it has twice that precision,
    which is quick on a processor only, and the points' own distances are later computed from differences.
    """
    if z.dtype == torch.float64 or z.device.type != "cpu":
        return torch.cdist(z, points, compute_mode="donot_use_mm_for_euclid_dist")
    points = points.double()
    return torch.addmm(points.square().sum(dim=1), z.double(), points.t(), alpha=-2)


def normal_entropy(d: int) -> float:
    """Of N(0, I) in d dimensions, in nats: (d/2) log(2 pi e), the largest for variance 1."""
    return d / 2 * math.log(2 * math.pi * math.e)
