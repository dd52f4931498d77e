"""Skip-gram with negative sampling on running text, by matrix products and with gradients for the rows it touches.

With v the input vectors (of centers) and u the output vectors (of contexts), s the logistic function, k negatives a
pair, m words n drawn as noise for a block of centers and w a weight for each distance, the cost of a piece of text is

    L = sum over pairs (c, p) of w_|c-p| [ -log s(<v_c, u_p>) - k/m sum_n log s(-<v_c, u_n>) ]

(Mikolov et al. 2013, arXiv 1310.4546, equation 4; article 2 has the softmax in its place.) There k words are drawn for
each pair. Here the pairs of BLOCK successive centers share m: the mean over the draws is the same, and the scores of a
block, with all tokens that its windows can reach and with its noise, are one product of two matrices, in which the
windows are a mask of weights. A token's vector is read once a block and not once a pair, and that is where the speed
comes from.

A sum and not a mean: so a learning rate means what it means in word2vec, whatever the size of the batch.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lit_modules.parts.window_pairs import numbered

# With windows of 5, blocks of 16 waste fewer products and blocks of 64 read fewer rows: 32 was the fastest on a CPU.
BLOCK = 32


class SkipGramCost(NamedTuple):
    """The cost of a batch: the sum over its pairs, and how many they are; scalars.

    Attributes:
        total: L, to be minimized.
        pairs: pairs of a center and a context, each as often as its weight says; has no gradient.
    """

    total: Tensor
    pairs: Tensor


def skip_gram_cost(
    input_weight: Tensor,
    output_weight: Tensor,
    tokens: Tensor,
    sentences: Tensor,
    by_distance: Tensor,
    noise: Tensor,
    negatives: float = 5,
) -> SkipGramCost:
    """L of a piece of running text, whose gradients with respect to both tables are sparse and coalesced.

    Words of one sentence at a distance of 1 to W are contexts of each other.
    Noise that happens to be a context is not left out: without that the optimum is shifted PMI exactly.

    Args:
        input_weight: vectors of centers (N, d).
        output_weight: vectors of contexts (N, d).
        tokens: words' numbers (B,) int64.
        sentences: (B,) int64, a number that changes where the sentence does.
        by_distance: w, what a pair at a distance of 1, ..., W counts (W,).
        noise: words' numbers, m for each block of centers: (noise_blocks(B), m) int64.
        negatives: k, how many negatives the noise of a pair counts as.

    Raises:
        ValueError: noise of another shape, or no tokens or distances.
    """
    for name, values in (("tokens", tokens), ("by_distance", by_distance)):
        if not len(values):
            raise ValueError(f"{name} is empty: it needs at least one entry")
    if noise.dim() != 2 or len(noise) != noise_blocks(len(tokens)) or not noise.shape[1]:
        raise ValueError(
            f"noise has the shape {tuple(noise.shape)}, but {len(tokens)} tokens need"
            f" ({noise_blocks(len(tokens))}, m): m words for each block of {BLOCK} tokens"
        )
    blocks = _cut(tokens, sentences, by_distance.to(input_weight.dtype), noise, negatives)
    # A custom function's own view of this counts tables that merely could have a gradient.
    differentiate = torch.is_grad_enabled()
    with torch.autocast(input_weight.device.type, enabled=False):
        total = _SkipGram.apply(input_weight, output_weight, *blocks[:3], blocks.reach, differentiate)
    return SkipGramCost(total, blocks.pairs)


def noise_blocks(tokens: int) -> int:
    """How many blocks, each with noise of its own, a batch of so many tokens has."""
    return -(-tokens // BLOCK)


# ---- Blocks ----


class _Blocks(NamedTuple):
    """A batch in blocks.

    Attributes:
        centers: words' numbers (blocks, BLOCK).
        others: the tokens in reach of the block's windows, then its noise (blocks, reach + m).
        weights: of each center's terms (blocks, BLOCK, reach + m): w or 0 for contexts, k/m of their sum for noise.
        pairs: scalar.
        reach: BLOCK and the window to both sides.
    """

    centers: Tensor
    others: Tensor
    weights: Tensor
    pairs: Tensor
    reach: int


def _cut(tokens: Tensor, sentences: Tensor, by_distance: Tensor, noise: Tensor, negatives: float) -> _Blocks:
    window, count = len(by_distance), len(noise)
    sentence = numbered(sentences)
    positions = torch.arange(-window, count * BLOCK + window, device=tokens.device)
    # Beyond both ends stand the first and the last token again, in no sentence: so they are in no pair.
    inside = positions.clamp(0, len(tokens) - 1)
    tokens, sentence = tokens.index_select(0, inside), sentence.index_select(0, inside)
    # Different ones for centers and contexts: the same token again is no context of itself.
    own = sentence.masked_fill(positions != inside, -1)[window : window + count * BLOCK].view(count, BLOCK, 1)
    sentence.masked_fill_(positions != inside, -2)
    reach = BLOCK + 2 * window
    same = own == _overlapping(sentence, count, reach).unsqueeze(1)
    weights = torch.where(same, _band(by_distance), 0.0)
    of_center = weights.sum(2, keepdim=True)
    share = (negatives / noise.shape[1]) * of_center
    weights = torch.cat([weights, share.expand(-1, -1, noise.shape[1])], 2)
    others = torch.cat([_overlapping(tokens, count, reach), noise], 1)
    centers = tokens[window : window + count * BLOCK].view(count, BLOCK)
    return _Blocks(centers, others, weights, of_center.sum(), reach)


def _overlapping(values: Tensor, count: int, reach: int) -> Tensor:
    """A view (count, reach) of a list: what each block's windows can reach."""
    return values.as_strided((count, reach), (BLOCK, 1))


def _band(by_distance: Tensor) -> Tensor:
    """What the tokens in reach count for a block's centers (BLOCK, reach); nobody is a context of itself."""
    window, device = len(by_distance), by_distance.device
    centers = torch.arange(BLOCK, device=device).unsqueeze(1)
    distances = (torch.arange(-window, BLOCK + window, device=device) - centers).abs()
    none = by_distance.new_zeros(1)
    return torch.cat([none, by_distance, none])[distances.clamp_max(window + 1)]


# ---- Cost and gradients ----


class _SkipGram(torch.autograd.Function):
    """The weighted cost of all scores. Forward computes the gradients, for which it has everything at hand."""

    @staticmethod
    def forward(
        ctx: Any,
        input_weight: Tensor,
        output_weight: Tensor,
        centers: Tensor,
        others: Tensor,
        weights: Tensor,
        reach: int,
        differentiate: bool,
    ) -> Tensor:
        v, u = _rows(input_weight, centers), _rows(output_weight, others)
        scores = torch.bmm(v, u.transpose(1, 2))
        scores[:, :, reach:].neg_()
        right = scores.sigmoid_()
        # In float32 a term is at most 87, where exp underflows; the gradient knows no such limit.
        total = -torch.dot(right.clamp_min(torch.finfo(right.dtype).tiny).log_().view(-1), weights.view(-1))
        if differentiate:
            slopes = right.sub_(1).mul_(weights)
            slopes[:, :, reach:].neg_()
            ctx.shapes = input_weight.shape, output_weight.shape
            ctx.save_for_backward(
                *rows_summed(centers, torch.bmm(slopes, u), len(input_weight)),
                *rows_summed(others, torch.bmm(slopes.transpose(1, 2), v), len(output_weight)),
            )
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        inputs, v, outputs, u = ctx.saved_tensors
        tables = (inputs, v * factor, ctx.shapes[0]), (outputs, u * factor, ctx.shapes[1])
        return *(_sparse(*table) for table in tables), None, None, None, None, None


def _rows(weight: Tensor, numbers: Tensor) -> Tensor:
    # Indexing by a tensor of numbers takes eight times as long on a CPU.
    return weight.index_select(0, numbers.flatten()).view(*numbers.shape, -1)


def rows_summed(numbers: Tensor, values: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The distinct ones of some rows' numbers, ascending (R,), and the sums of their values (R, d).

    Args:
        numbers: any shape, from 0 to ``size`` - 1.
        values: of that shape and d.
        size: of the table.
    """
    rows, which = distinct(numbers.flatten(), size)
    sums = values.new_zeros(len(rows), values.shape[-1])
    return rows, sums.index_add_(0, which, values.reshape(len(which), -1))


def distinct(numbers: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The distinct ones (R,) among numbers (B,) below ``size``, ascending, and which of them each is (B,).

    As torch.unique, which sorts and takes four times as long; all of what torch takes to coalesce is five times this.
    """
    touched = torch.zeros(size, dtype=torch.bool, device=numbers.device)
    touched[numbers] = True
    rows = touched.nonzero().squeeze(1)
    place = torch.empty(size, dtype=torch.int64, device=numbers.device)
    place[rows] = torch.arange(len(rows), device=numbers.device)
    return rows, place.index_select(0, numbers)


def _sparse(rows: Tensor, values: Tensor, shape: torch.Size) -> Tensor:
    return torch.sparse_coo_tensor(rows.unsqueeze(0), values, shape, is_coalesced=True, check_invariants=False)


# ---- Noise ----


class NoiseSampler:
    """Draws words with probability proportional to count^power, by Walker's alias method: constant time a draw.

    Args:
        counts: how often each word occurs (N,), on the device on which to draw.
        power: 3/4 flattens the distribution as word2vec does; 1 leaves it, 0 makes it uniform.

    Attributes:
        accepted: a number is drawn from 0 to N - 1, and stays with this probability (N,) float32.
        alias: what it becomes otherwise (N,) int64.

    Raises:
        ValueError: counts that are no list of non-negative numbers with a positive sum.
    """

    def __init__(self, counts: Tensor, power: float = 0.75) -> None:
        if counts.dim() != 1 or not (counts.isfinite().all() and (counts >= 0).all() and counts.sum() > 0):
            raise ValueError("counts must be a list of numbers from 0 on, not all of them 0")
        weights = torch.where(counts > 0, counts.double() ** power, 0.0)
        table = _alias_table((weights * (len(counts) / weights.sum())).tolist())
        self.accepted, self.alias = (column.to(counts.device) for column in table)

    def draw(self, number: int, generator: torch.Generator | None = None) -> Tensor:
        """Words' numbers (number,) int64, with replacement, from torch's random state or that of a generator."""
        drawn = torch.randint(len(self.alias), (number,), generator=generator, device=self.alias.device)
        stays = torch.rand(number, generator=generator, device=drawn.device) < self.accepted.index_select(0, drawn)
        return torch.where(stays, drawn, self.alias.index_select(0, drawn))


def _alias_table(weights: list[float]) -> tuple[Tensor, Tensor]:
    """``accepted`` and ``alias`` of probabilities times N."""
    stays, alias = [1.0] * len(weights), list(range(len(weights)))
    small = [number for number, weight in enumerate(weights) if weight < 1]
    large = [number for number, weight in enumerate(weights) if weight >= 1]
    while small and large:
        number, giver = small.pop(), large[-1]
        stays[number], alias[number] = weights[number], giver
        weights[giver] -= 1 - weights[number]
        if weights[giver] < 1:
            small.append(large.pop())
    return torch.tensor(stays, dtype=torch.float32), torch.tensor(alias)
