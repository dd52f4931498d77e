"""The fast skip-gram cost against the plain one, pair by pair; its gradients; and the noise's distribution."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize

from lit_modules.parts.row_optimizers import RowAdagrad
from lit_modules.parts.skip_gram import BLOCK, NoiseSampler, noise_blocks, rows_summed, skip_gram_cost

WORDS, DIM = 12, 5


def text(tokens: int, window: int = 5, noise: int = 7, words: int = WORDS) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tokens that repeat, sentences of 1 to 9 of them whose numbers come back at once, weights, noise that hits."""
    lengths = torch.randint(1, 10, (tokens,))
    sentences = torch.arange(tokens).remainder(2).repeat_interleave(lengths)[:tokens]
    drawn = torch.randint(words, (noise_blocks(tokens), noise))
    return torch.randint(words, (tokens,)), sentences, torch.rand(window, dtype=torch.float64), drawn


def tables(words: int = WORDS) -> tuple[Tensor, Tensor]:
    return tuple(torch.randn(words, DIM, dtype=torch.float64, requires_grad=True) for _ in range(2))  # type: ignore[return-value]


def pairs_of(sentences: Tensor, window: int) -> Iterator[tuple[int, int]]:
    """Positions of centers and contexts, by the definition."""
    for center in range(len(sentences)):
        for step in (-1, 1):
            position = center + step
            while 0 <= position < len(sentences) and sentences[position] == sentences[center]:
                if abs(position - center) <= window:
                    yield center, position
                position += step


def plain_cost(v: Tensor, u: Tensor, batch: tuple[Tensor, Tensor, Tensor, Tensor], negatives: float) -> Tensor:
    tokens, sentences, by_distance, noise = batch
    total = torch.zeros((), dtype=v.dtype)
    for center, position in pairs_of(sentences, len(by_distance)):
        weight = by_distance[abs(center - position) - 1]
        vector = v[tokens[center]]
        against = u[noise[center // BLOCK]]
        total = total - weight * logsigmoid(vector @ u[tokens[position]])
        total = total - weight * negatives * logsigmoid(-(against @ vector)).mean()
    return total


@pytest.mark.parametrize(
    ("tokens", "window"),
    [(1, 5), (2, 1), (BLOCK, 5), (3 * BLOCK, 5), (3 * BLOCK + 7, 5), (2 * BLOCK - 1, 2), (90, BLOCK + 8)],
)
def test_equals_the_sum_over_pairs(tokens: int, window: int) -> None:
    torch.manual_seed(tokens)
    (v, u), batch = tables(), text(tokens, window)
    cost = skip_gram_cost(v, u, *batch, negatives=3)
    expected = plain_cost(v, u, batch, 3)
    torch.testing.assert_close(cost.total, expected, rtol=1e-12, atol=1e-10)
    weights = [batch[2][abs(c - p) - 1].item() for c, p in pairs_of(batch[1], window)]
    assert cost.pairs.item() == pytest.approx(sum(weights))
    ours = [g.to_dense() for g in torch.autograd.grad(cost.total, (v, u))]
    theirs = torch.autograd.grad(expected, (v, u)) if cost.pairs else [torch.zeros_like(v)] * 2
    torch.testing.assert_close(ours, list(theirs), rtol=1e-10, atol=1e-10)


def test_sentences_are_told_apart_though_their_numbers_come_back() -> None:
    tokens, by_distance = torch.tensor([0, 1, 2]), torch.ones(2)
    v, u = tables()
    alone = skip_gram_cost(v, u, tokens, torch.tensor([4, 9, 4]), by_distance, torch.zeros(1, 3, dtype=torch.int64))
    assert alone.pairs == 0
    assert alone.total == 0


def test_noise_of_another_size_costs_the_same_on_average() -> None:
    torch.manual_seed(0)
    (v, u), (tokens, sentences, by_distance, _) = tables(), text(BLOCK)
    # All words once, or each of them twice: the mean over the noise is the same.
    once = torch.arange(WORDS).unsqueeze(0)
    noises = once, torch.cat([once, once], 1)
    costs = [skip_gram_cost(v, u, tokens, sentences, by_distance, noise) for noise in noises]
    torch.testing.assert_close(*[cost.total for cost in costs])


class WithDenseGradient(torch.autograd.Function):
    """The identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient.to_dense()


def test_gradcheck() -> None:
    torch.manual_seed(1)
    batch = text(BLOCK + 5)

    def cost(v: Tensor, u: Tensor) -> Tensor:
        return skip_gram_cost(WithDenseGradient.apply(v), WithDenseGradient.apply(u), *batch).total

    assert torch.autograd.gradcheck(cost, tables())


def test_gradients_hold_the_touched_rows_only() -> None:
    torch.manual_seed(2)
    (v, u), batch = tables(100), text(BLOCK + 3, words=WORDS)
    batch[3].fill_(77)
    gradients = torch.autograd.grad(3 * skip_gram_cost(v, u, *batch).total, (v, u))
    words = batch[0].unique()
    assert all(gradient.is_coalesced() for gradient in gradients)
    assert gradients[0].indices()[0].equal(words)
    assert gradients[1].indices()[0].equal(torch.cat([words, torch.tensor([77])]))
    expected = torch.autograd.grad(3 * plain_cost(v, u, batch, 5), (v, u))
    torch.testing.assert_close([gradient.to_dense() for gradient in gradients], list(expected))


def test_two_batches_accumulate() -> None:
    torch.manual_seed(3)
    (v, u), batches = tables(), [text(40), text(50)]
    for batch in batches:
        skip_gram_cost(v, u, *batch).total.backward()
    expected = torch.autograd.grad(sum(plain_cost(v, u, batch, 5) for batch in batches), (v, u))  # type: ignore[arg-type]
    torch.testing.assert_close([v.grad.to_dense(), u.grad.to_dense()], list(expected))  # type: ignore[union-attr]


def test_without_gradients_the_cost_is_the_same() -> None:
    torch.manual_seed(4)
    (v, u), batch = tables(), text(70)
    with torch.no_grad():
        cost = skip_gram_cost(v, u, *batch)
    assert not cost.total.requires_grad
    assert cost.total == skip_gram_cost(v, u, *batch).total


def test_stays_in_float32_and_finite() -> None:
    torch.manual_seed(5)
    v, u = (torch.randn(WORDS, DIM).mul(40).requires_grad_() for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        total = skip_gram_cost(v, u, *text(70)).total
    total.backward()
    assert total.dtype == torch.float32
    assert total.isfinite()
    assert v.grad is not None
    assert v.grad.to_dense().isfinite().all()
    assert v.grad.to_dense().abs().max() > 40


def test_refuses_noise_of_another_shape() -> None:
    (v, u), (tokens, sentences, by_distance, noise) = tables(), text(70)
    for wrong in (noise[:-1], noise[0], noise[:, :0]):
        with pytest.raises(ValueError, match=rf"noise has the shape .*, but 70 tokens need \(3, m\): .* of {BLOCK}"):
            skip_gram_cost(v, u, tokens, sentences, by_distance, wrong)
    with pytest.raises(ValueError, match="tokens is empty"):
        skip_gram_cost(v, u, tokens[:0], sentences[:0], by_distance, noise[:0])
    with pytest.raises(ValueError, match="by_distance is empty"):
        skip_gram_cost(v, u, tokens, sentences, by_distance[:0], noise)


def test_rows_are_summed() -> None:
    rows, sums = rows_summed(torch.tensor([[3, 1], [3, 0]]), torch.arange(4.0).view(2, 2, 1), 5)
    assert rows.tolist() == [0, 1, 3]
    assert sums.tolist() == [[3.0], [1.0], [2.0]]


# ---- Noise ----


@pytest.mark.parametrize("power", [0.0, 0.75, 1.0])
def test_alias_table_holds_the_distribution_exactly(power: float) -> None:
    counts = torch.tensor([1000.0, 0, 3, 50, 50, 1, 7, 900])
    sampler = NoiseSampler(counts, power)
    expected = torch.where(counts > 0, counts**power, 0) / counts[counts > 0].pow(power).sum()
    # A number is drawn uniformly, and stays or becomes its alias.
    found = sampler.accepted.clone()
    found.index_add_(0, sampler.alias, 1 - sampler.accepted)
    torch.testing.assert_close(found / len(counts), expected)


def test_noise_has_the_distribution_and_torchs_random_state() -> None:
    torch.manual_seed(6)
    counts = torch.tensor([400.0, 0, 1, 30, 90])
    sampler, state = NoiseSampler(counts), torch.get_rng_state()
    drawn = sampler.draw(200_000)
    share = torch.bincount(drawn, minlength=5) / len(drawn)
    torch.testing.assert_close(share, (counts**0.75 / (counts**0.75).sum()), atol=4e-3, rtol=0)
    assert share[1] == 0
    torch.set_rng_state(state)
    assert sampler.draw(200_000).equal(drawn)
    first, second = (sampler.draw(200_000, torch.Generator().manual_seed(9)) for _ in range(2))
    assert first.equal(second)


@pytest.mark.parametrize("counts", [[], [0.0, 0.0], [1.0, -1.0], [1.0, float("nan")], [[1.0]]])
def test_noise_refuses_what_are_no_counts(counts: list[float]) -> None:
    with pytest.raises(ValueError, match="counts must be a list of numbers from 0 on, not all of them 0"):
        NoiseSampler(torch.tensor(counts))


# ---- Training ----


def synonyms(pairs: int, sentences: int) -> tuple[Tensor, Tensor]:
    """Sentences of five words: one of two synonyms (2i and 2i + 1) among words that only these two are seen with."""
    topics = torch.randint(pairs, (sentences, 1))
    context = 2 * pairs + 4 * topics + torch.randint(4, (sentences, 4))
    word = 2 * topics + torch.randint(2, (sentences, 1))
    return torch.cat([context[:, :2], word, context[:, 2:]], 1).view(-1), torch.arange(sentences).repeat_interleave(5)


def trained(tokens: Tensor, sentences: Tensor, lr: float, batch_size: int = 1000, dim: int = 16) -> Tensor:
    """Input vectors after one pass."""
    counts = torch.bincount(tokens)
    v, u = (torch.rand(len(counts), dim) - 0.5) / dim, torch.zeros(len(counts), dim)
    optimizer, noise = RowAdagrad([v.requires_grad_(), u.requires_grad_()], lr), NoiseSampler(counts)
    for some, of_sentence in zip(tokens.split(batch_size), sentences.split(batch_size), strict=True):
        blocks, by_distance = noise_blocks(len(some)), torch.linspace(1, 0.2, 5)
        optimizer.zero_grad()
        skip_gram_cost(v, u, some, of_sentence, by_distance, noise.draw(40 * blocks).view(blocks, 40)).total.backward()
        optimizer.step()
    return v.detach()


@pytest.mark.parametrize("lr", [0.1, 0.3])
def test_finds_planted_synonyms(lr: float) -> None:
    torch.manual_seed(7)
    pairs = 30
    v = normalize(trained(*synonyms(pairs, 12_000), lr))[: 2 * pairs]
    nearest = (v @ v.T).fill_diagonal_(-1).argmax(1)
    partner = torch.arange(2 * pairs) ^ 1
    assert (nearest == partner).float().mean() > 0.95


def test_a_frequent_word_does_not_diverge() -> None:
    torch.manual_seed(8)
    tokens = torch.randint(10, (60_000,))
    assert trained(tokens, torch.zeros_like(tokens), 0.5, batch_size=20_000).norm(dim=1).max() < 10
