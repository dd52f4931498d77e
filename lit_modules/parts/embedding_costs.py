"""The costs of article 2: how far a reader walks, and three ways to read a walk as a log-probability.

Item i is at v_i; what is borrowed after it is looked for among the u_j (with one table u = v). A pair (i, j) costs

    library    |v_i| + |v_i - v_j|                      the reader walks from the entrance to i, and on to j
    gaussian   -log q(j|i),  q ~ exp(s),  s = -|v_i - u_j|^2                    (on neighbors of points: SNE)
    dot        the same with              s = <v_i, u_j>                        (Skip-Gram)
    student    the same with              s = -log(1 + |v_i - u_j|^2)           (the article's form of t-SNE)

and the last three have three normalizers: the full softmax; a sampled one, with the same minimum; negative sampling,
which is no entropy: its minimum is s = log[p(i, j) / (k p(i) p_n(j))].

All functions take tables v (N, d) and u (N, d), and pairs as numbers of rows, center i (B,) and context j (B,); they
return costs (B,). ``tied`` says that u is v: then j = i is left out of q(j|i). Memory does not grow with B N: scores of
many rows are computed in parts, and once more in the backward pass.

Sources: article 2; Bengio and Senecal 2008 and Jean et al. 2015 (arXiv 1412.2007) for the sampled softmax; Mikolov et
al. 2013 (arXiv 1310.4546) and Levy and Goldberg 2014 for negative sampling and its minimum.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import embedding, softplus
from torch.utils.checkpoint import checkpoint

from lit_modules.parts.skip_gram import NoiseSampler, distinct

SCORES = ("gaussian", "dot", "student")
COSTS = ("library", *SCORES)
NORMALIZERS = ("full", "sampled", "negative")

# Of the scores that are held at a time: 64 MB in float32.
CHUNK_ENTRIES = 2**24


# ---- Scores ----


def pair_scores(cost: str, v: Tensor, u: Tensor) -> Tensor:
    """s of row k of v (B, d) with row k of u (B, d): (B,)."""
    return (v * u).sum(dim=1) if cost == "dot" else _score_at(cost, (v - u).square().sum(dim=1))


def all_scores(cost: str, v: Tensor, u: Tensor) -> Tensor:
    """s of each row of v (R, d) with each row of u (N, d): (R, N), by a matrix product."""
    if cost == "dot":
        return v @ u.T
    # Distances don't change, and |v|^2 + |u|^2 - 2 <v, u> loses fewer digits near the origin.
    middle = u.detach().mean(dim=0)
    v, u = v - middle, u - middle
    squares = v.square().sum(dim=1)[:, None] + u.square().sum(dim=1) - 2 * (v @ u.T)
    return _score_at(cost, squares.clamp(min=0))


def _score_at(cost: str, squared_distance: Tensor) -> Tensor:
    return -squared_distance if cost == "gaussian" else -squared_distance.log1p()


# ---- The article's first cost ----


def walking_costs(v: Tensor, center: Tensor, context: Tensor) -> Tensor:
    """|v_i| + |v_i - v_j|, (B,): the way from the entrance, which is the origin, to i and from there to j."""
    start, end = embedding(center, v), embedding(context, v)
    return torch.linalg.vector_norm(start, dim=1) + torch.linalg.vector_norm(start - end, dim=1)


def spacing_penalty(v: Tensor, d_min: float) -> Tensor:
    """sum over i < j of max(0, d_min - |v_i - v_j|)^2, divided by N (scalar): how much the items overlap."""
    total = _in_parts(lambda part, own: _overlaps(part, v, own, d_min), v, torch.arange(len(v), device=v.device))
    return total.sum() / (2 * len(v))


def _overlaps(part: Tensor, v: Tensor, own: Tensor, d_min: float) -> Tensor:
    # Squares below this have no gradient: the root's is infinite at 0.
    distances = (-all_scores("gaussian", part, v)).clamp(min=1e-12 * d_min**2).sqrt()
    overlap = (d_min - distances).clamp(min=0).square()
    return overlap.scatter(1, own[:, None], 0.0).sum(dim=1)


# ---- Normalizers ----


def full_softmax(
    cost: str, v: Tensor, u: Tensor, center: Tensor, context: Tensor, *, tied: bool, log_prior: Tensor | None = None
) -> Tensor:
    """-log q(j|i) = -s(i, j) + log sum_k exp s(i, k), over all items k: (B,).

    Args:
        cost: which scores.
        v: (N, d).
        u: (N, d), v itself if ``tied``.
        center: i (B,).
        context: j (B,).
        tied: leave k = i out.
        log_prior: (N,), added to the scores of each k; q ~ p_n(j) exp(s) is the model that negative sampling fits.
    """
    rows, row = distinct(center, len(v))

    def costs(part: Tensor, own: Tensor, row: Tensor, context: Tensor) -> Tensor:
        scores = all_scores(cost, part, u)
        scores = scores if log_prior is None else scores + log_prior
        # Pairs' own scores are looked up: computed anew they take four times as long as all else where p is dense.
        of_pairs = scores.flatten().index_select(0, row * len(u) + context)
        log_sums = (scores.scatter(1, own[:, None], -math.inf) if tied else scores).logsumexp(dim=1)
        return log_sums.index_select(0, row) - of_pairs

    size = max(1, CHUNK_ENTRIES // len(u))
    if len(rows) <= size:
        return costs(embedding(rows, v), rows, row, context)
    found, places = [], []
    for first in range(0, len(rows), size):
        which = ((row >= first) & (row < first + size)).nonzero().squeeze(1)
        part = rows[first : first + size]
        arguments = embedding(part, v), part, row[which] - first, context[which]
        found.append(checkpoint(costs, *arguments, use_reentrant=False, preserve_rng_state=False))
        places.append(which)
    values = torch.cat(found)
    return torch.empty_like(values).index_copy(0, torch.cat(places), values)


def sampled_softmax(
    cost: str, v: Tensor, u: Tensor, center: Tensor, context: Tensor, noise: "Noise", drawn: Tensor, *, tied: bool
) -> Tensor:
    """-log q(j|i) estimated from drawn items: (B,).

    With D the set of them and Q_k = 1 - (1 - p_n(k))^m the chance that k is in it,

        -s(i, j) + log[ sum over k in {j} or D of exp(s(i, k)) / Q_k ]

    so that j counts once whether drawn or not. Up to log Q_j, which has no gradient, this is the cost of telling j from
    the others of D, whose minimum is the full softmax's. As an estimate it is a little too large; with m it becomes
    the full softmax.

    Args:
        cost: which scores.
        v: (N, d).
        u: (N, d), v itself if ``tied``.
        center: i (B,).
        context: j (B,).
        noise: where ``drawn`` is from.
        drawn: m items, as drawn.
        tied: leave k = i out.
    """
    log_chance = noise.log_chance(len(drawn), v.device)
    drawn = torch.unique(drawn)
    others = embedding(drawn, u)

    def log_sum(pairs: Tensor, which: Tensor) -> Tensor:
        scores = all_scores(cost, embedding(center[which], v), others) - log_chance[drawn]
        hit = drawn == context[which, None]
        hit = hit | (drawn == center[which, None]) if tied else hit
        return torch.cat([scores.masked_fill(hit, -math.inf), pairs[:, None]], dim=1).logsumexp(dim=1)

    scores = _scores_of(cost, v, u, center, context)
    which = torch.arange(len(center), device=v.device)
    return _in_parts(log_sum, scores - log_chance[context], which, width=len(drawn)) - scores


def negative_sampling(
    cost: str,
    v: Tensor,
    u: Tensor,
    center: Tensor,
    context: Tensor,
    drawn: Tensor,
    *,
    negatives: float,
    tied: bool,
    offset: Tensor | float = 0.0,
    shares: Tensor | None = None,
) -> Tensor:
    """-log sigma(s + b) - k E log sigma(-(s' + b)), s' being the scores of noise: (B,).

    Args:
        cost: which scores.
        v: (N, d).
        u: (N, d), v itself if ``tied``.
        center: i (B,).
        context: j (B,).
        drawn: noise (m,), shared by all pairs.
        negatives: k, how much the noise counts, as if each pair had so many of its own.
        tied: an item is no noise for itself.
        offset: b. Scores that are distances are never positive: without it no pair could be called likely.
        shares: weights (m,) of the noise in the mean E; equal ones by default.
    """
    rows, row = distinct(center, len(v))
    weights = torch.full((len(drawn),), 1 / len(drawn), device=v.device, dtype=v.dtype) if shares is None else shares

    def noise_cost(part: Tensor, own: Tensor) -> Tensor:
        costs = softplus(all_scores(cost, part, embedding(drawn, u)) + offset)
        return (costs.masked_fill(drawn == own[:, None], 0.0) if tied else costs) @ weights.to(costs)

    expected = _in_parts(noise_cost, embedding(rows, v), rows, width=len(drawn))
    return softplus(-(_scores_of(cost, v, u, center, context) + offset)) + negatives * expected[row]


def _scores_of(cost: str, v: Tensor, u: Tensor, center: Tensor, context: Tensor) -> Tensor:
    return pair_scores(cost, embedding(center, v), embedding(context, u))


def _in_parts(
    compute: Callable[[Tensor, Tensor], Tensor], x: Tensor, numbers: Tensor, *, width: int | None = None
) -> Tensor:
    """compute(x, numbers) for x (R, ...) and numbers (R,), a part of the rows at a time; ``width`` entries a row."""
    rows = max(1, CHUNK_ENTRIES // (width or len(x)))
    if len(x) <= rows:
        return compute(x, numbers)
    parts = zip(x.split(rows), numbers.split(rows), strict=True)
    return torch.cat([checkpoint(compute, *part, use_reentrant=False, preserve_rng_state=False) for part in parts])


class Noise:
    """The distribution p_n ~ count^power of noise items.

    Args:
        counts: (N,), how often each item occurs.
        power: 0 for a uniform distribution, 1 for that of the counts.

    Attributes:
        probabilities: p_n (N,), float64, on the CPU.
    """

    def __init__(self, counts: Tensor, power: float = 0.75) -> None:
        powers = counts.to("cpu", torch.float64).pow(power)
        self.probabilities = powers / powers.sum()
        self._sampler = NoiseSampler(counts.cpu(), power)
        self._tables: dict[tuple[int, torch.device], Tensor] = {}

    def draw(self, number: int, generator: torch.Generator) -> Tensor:
        """Items (number,), with replacement, from the state of a generator of the CPU."""
        return self._sampler.draw(number, generator)

    def log_chance(self, number: int, device: torch.device) -> Tensor:
        """log Q (N,), float32, on ``device``: Q_k is the chance to draw k at least once in ``number`` draws.

        With one draw that is p_n. Of an item without a count it is that of the rarest one that has a count.
        """
        if (number, device) not in self._tables:
            p = self.probabilities
            p = p.clamp(p[p > 0].min().item(), 1 - 1e-12)
            self._tables[number, device] = (-torch.expm1(number * torch.log1p(-p))).log().to(device, torch.float32)
        return self._tables[number, device]
