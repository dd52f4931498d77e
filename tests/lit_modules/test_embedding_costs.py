"""The costs of article 2: what the article and its references derive, checked numerically."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lit_modules.parts import embedding_costs
from lit_modules.parts.embedding_costs import (
    SCORES,
    Noise,
    all_scores,
    full_softmax,
    negative_sampling,
    pair_scores,
    sampled_softmax,
    spacing_penalty,
    walking_costs,
)
from tests.lit_modules.libraries import conditional_entropy, planted_library

N = 12


def tables(dim: int = 4) -> tuple[Tensor, Tensor]:
    return torch.randn(N, dim, dtype=torch.float64), torch.randn(N, dim, dtype=torch.float64)


@pytest.fixture
def p() -> Tensor:
    """p(i, j) (N, N), nothing on the diagonal."""
    return planted_library(N, 3)[0]


@pytest.fixture
def pairs(p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centers, contexts, p(i, j)."""
    center, context = p.nonzero(as_tuple=True)
    return center, context, p[center, context]


def slow_q(cost: str, v: Tensor, u: Tensor, *, tied: bool) -> Tensor:
    """q(j|i) (N, N), entry by entry."""
    scores = torch.zeros(N, N, dtype=v.dtype)
    for i in range(N):
        for j in range(N):
            square = sum((a - b) ** 2 for a, b in zip(v[i].tolist(), u[j].tolist(), strict=True))
            product = sum(a * b for a, b in zip(v[i].tolist(), u[j].tolist(), strict=True))
            scores[i, j] = {"gaussian": -square, "student": -math.log(1 + square), "dot": product}[cost]
    if tied:
        scores.fill_diagonal_(-math.inf)
    return scores.softmax(dim=1)


# ---- Full softmax ----


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("cost", SCORES)
def test_cost_is_entropy_plus_divergence(p: Tensor, pairs: tuple[Tensor, ...], cost: str, tied: bool) -> None:
    """S = H(J|I) + sum_i p(i) KL(p(.|i) | q(.|i)), with q from its definition."""
    v, u = tables()
    u = v if tied else u
    center, context, weight = pairs
    s = weight @ full_softmax(cost, v, u, center, context, tied=tied)
    q, start = slow_q(cost, v, u, tied=tied), p.sum(dim=1, keepdim=True)
    divergence = (torch.special.xlogy(p / start, p / start) - torch.special.xlogy(p / start, q)).sum(dim=1)
    torch.testing.assert_close(s, conditional_entropy(p) + start[:, 0] @ divergence, rtol=1e-12, atol=0)


def test_unigram_model_costs_the_entropy_of_contexts(p: Tensor, pairs: tuple[Tensor, ...]) -> None:
    """v = 0 and u_j = (log p(j), 0, ...) with v's first coordinate 1: q(j|i) = p(j), S = H(J)."""
    center, context, weight = pairs
    v, u = torch.zeros(N, 2).double(), torch.zeros(N, 2).double()
    v[:, 0], u[:, 0] = 1, p.sum(dim=0).log()
    s = weight @ full_softmax("dot", v, u, center, context, tied=False)
    unigram = p.sum(dim=0)
    torch.testing.assert_close(s, -(unigram * unigram.log()).sum())


def test_gaussian_and_dot_are_one_family(pairs: tuple[Tensor, ...]) -> None:
    """-|v - u|^2 = 2 <v, u> - |u|^2 - |v|^2: the last is the same for all j, the other makes u one longer."""
    v, u = tables()
    center, context, _ = pairs
    gaussian = full_softmax("gaussian", v, u, center, context, tied=False)
    longer_v = torch.cat([2 * v, torch.ones(N, 1)], dim=1)
    longer_u = torch.cat([u, -u.square().sum(dim=1, keepdim=True)], dim=1)
    torch.testing.assert_close(gaussian, full_softmax("dot", longer_v, longer_u, center, context, tied=False))


def test_gradient_of_two_gaussian_tables(p: Tensor, pairs: tuple[Tensor, ...]) -> None:
    """dS/dv_i = 2 p(i) sum_j (p(j|i) - q(j|i)) (v_i - u_j)."""
    v, u = tables()
    v.requires_grad_()
    center, context, weight = pairs
    (weight @ full_softmax("gaussian", v, u, center, context, tied=False)).backward()
    with torch.no_grad():
        q, start = slow_q("gaussian", v, u, tied=False), p.sum(dim=1, keepdim=True)
        expected = 2 * ((p - start * q)[:, :, None] * (v[:, None] - u[None])).sum(dim=1)
    torch.testing.assert_close(v.grad, expected)


def test_one_table_with_j_equal_i_in_it_costs_more(pairs: tuple[Tensor, ...]) -> None:
    """An item is nearest to itself, where nobody goes."""
    v, _ = tables()
    center, context, weight = pairs
    with_it = weight @ full_softmax("gaussian", v, v, center, context, tied=False)
    assert with_it > weight @ full_softmax("gaussian", v, v, center, context, tied=True) + 0.1


def test_a_prior_is_added_to_the_scores(pairs: tuple[Tensor, ...]) -> None:
    v, u = tables()
    center, context, _ = pairs
    prior = torch.rand(N).double().log()
    logits = v @ u.T + prior
    expected = -logits.log_softmax(dim=1)[center, context]
    torch.testing.assert_close(
        full_softmax("dot", v, u, center, context, tied=False, log_prior=prior), expected, rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("cost", SCORES)
def test_matrices_of_scores_are_those_of_pairs(cost: str) -> None:
    v, u = tables()
    center = torch.arange(N).repeat_interleave(N)
    pairwise = pair_scores(cost, v[center], u[torch.arange(N).repeat(N)]).view(N, N)
    torch.testing.assert_close(all_scores(cost, v, u), pairwise, rtol=1e-12, atol=1e-12)


def test_distances_far_from_the_origin_keep_their_digits() -> None:
    v, u = torch.randn(N, 3), torch.randn(N, 3)
    far = torch.tensor([1000.0, 0.0, -1000.0])
    exact = all_scores("gaussian", (v + far).double(), (u + far).double()).float()
    torch.testing.assert_close(all_scores("gaussian", v + far, u + far), exact, rtol=1e-4, atol=1e-4)


def objectives() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    pair, drawn = (torch.tensor([0, 0, 3, 5]), torch.tensor([1, 2, 0, 4])), torch.tensor([1, 1, 6, 5, 9])
    noise = Noise(torch.arange(1, N + 1))
    found: dict[str, Callable[[Tensor, Tensor], Tensor]] = {}
    for cost in SCORES:
        for tied in (True, False):
            found |= {
                f"{cost}-full-{tied}": lambda v, u, c=cost, t=tied: full_softmax(c, v, u, *pair, tied=t),
                f"{cost}-sampled-{tied}": lambda v, u, c=cost, t=tied: sampled_softmax(
                    c, v, u, *pair, noise, drawn, tied=t
                ),
                f"{cost}-negative-{tied}": lambda v, u, c=cost, t=tied: negative_sampling(
                    c, v, u, *pair, drawn, negatives=3, tied=t, offset=0.5
                ),
            }
    return found | {
        "walk": lambda v, u: walking_costs(v, *pair),
        "spacing": lambda v, u: spacing_penalty(v, 2.0)[None],
    }


@pytest.mark.parametrize("name", objectives())
def test_in_parts_it_is_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients, where only two rows of scores are held at a time."""
    results = []
    for entries in (2**24, 2 * N):
        monkeypatch.setattr(embedding_costs, "CHUNK_ENTRIES", entries)
        torch.manual_seed(0)
        v, u = (table.requires_grad_() for table in tables())
        values = objectives()[name](v, v if name.endswith("True") else u)
        values.sum().backward()
        results.append((values, v.grad))
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("name", objectives())
def test_gradients_of_items_at_one_spot_are_finite(name: str) -> None:
    v = torch.zeros(N, 3, requires_grad=True)
    objectives()[name](v, v).sum().backward()
    assert v.grad is not None
    assert v.grad.isfinite().all()


# ---- The library ----


def test_walking_costs() -> None:
    v = torch.tensor([[3.0, 4.0], [0.0, 0.0], [3.0, 0.0]])
    center, context = torch.tensor([0, 0, 1, 2]), torch.tensor([1, 2, 2, 0])
    assert walking_costs(v, center, context).tolist() == [10, 9, 3, 7]


def test_spacing_penalty() -> None:
    """Of three items on a line at 0, 1 and 3 with d_min 2.5, the first two overlap by 1.5, the last two by 0.5."""
    v = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64)
    assert spacing_penalty(v, 2.5).item() == pytest.approx((1.5**2 + 0.5**2) / 3)
    assert spacing_penalty(v, 0.5).item() == 0


# ---- Sampled softmax ----


def test_noise_follows_the_counts() -> None:
    counts = torch.tensor([0.0, 1.0, 16.0, 81.0])
    noise = Noise(counts)
    assert noise.probabilities.tolist() == pytest.approx([0, 1 / 36, 8 / 36, 27 / 36])
    drawn = noise.draw(100_000, torch.Generator().manual_seed(0))
    frequencies = drawn.bincount(minlength=4) / 100_000
    assert frequencies[0] == 0
    assert frequencies.tolist() == pytest.approx(noise.probabilities.tolist(), abs=0.005)
    chance = noise.log_chance(3, torch.device("cpu")).exp()
    assert chance[1:].tolist() == pytest.approx([1 - (1 - p) ** 3 for p in (1 / 36, 8 / 36, 27 / 36)], rel=1e-5)
    assert chance[0] == chance[1]


@pytest.mark.parametrize("cost", SCORES)
@pytest.mark.parametrize("tied", [True, False])
def test_with_all_items_drawn_it_is_the_full_softmax(pairs: tuple[Tensor, ...], cost: str, tied: bool) -> None:
    v, u = tables()
    u = v if tied else u
    center, context, _ = pairs
    noise = Noise(torch.arange(1, N + 1))
    drawn = noise.draw(3000, torch.Generator().manual_seed(0))
    assert len(drawn.unique()) == N
    sampled = sampled_softmax(cost, v, u, center, context, noise, drawn, tied=tied)
    torch.testing.assert_close(sampled, full_softmax(cost, v, u, center, context, tied=tied), rtol=1e-5, atol=1e-5)


def test_sampled_sum_is_right_in_the_mean(pairs: tuple[Tensor, ...]) -> None:
    """E of the sum under the logarithm is that of the full softmax plus exp(s_j) (1 / Q_j - 1)."""
    v, u = tables()
    center, context, _ = pairs
    noise, generator = Noise(torch.arange(1, N + 1)), torch.Generator().manual_seed(0)
    scores = pair_scores("dot", v[center], u[context])
    sums = torch.zeros(len(center), dtype=torch.float64)
    for _ in range(4000):
        drawn = noise.draw(6, generator)
        costs = sampled_softmax("dot", v, u, center, context, noise, drawn, tied=False)
        sums += (costs + scores).exp() / 4000
    chance = noise.log_chance(6, v.device).double().exp()[context]
    expected = (v @ u.T).exp().sum(dim=1)[center] + scores.exp() * (1 / chance - 1)
    torch.testing.assert_close(sums, expected, rtol=0.1, atol=0)


def minimized(objective: Callable[[Tensor, int], Tensor], steps: int) -> Tensor:
    """Free scores (N, N) that minimize an objective; as a table against unit vectors."""
    scores = torch.zeros(N, N, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([scores], lr=0.1)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
    for step in range(steps):
        optimizer.zero_grad()
        objective(scores, step).backward()
        optimizer.step()
        schedule.step()
    return scores.detach()


def test_sampled_softmax_has_the_minimum_of_the_full_one(p: Tensor, pairs: tuple[Tensor, ...]) -> None:
    """Unlike negative sampling: five draws among twelve items find p(j|i)."""
    center, context, weight = pairs
    noise, generator = Noise(p.sum(dim=0)), torch.Generator().manual_seed(0)
    unit = torch.eye(N, dtype=torch.float64)

    def objective(scores: Tensor, step: int) -> Tensor:
        drawn = noise.draw(5, generator)
        return weight @ sampled_softmax("dot", scores, unit, center, context, noise, drawn, tied=False)

    scores = minimized(objective, 1500)
    gap = weight @ full_softmax("dot", scores, unit, center, context, tied=False) - conditional_entropy(p)
    assert 0 <= gap < 0.02


# ---- Negative sampling ----


def test_negative_samplings_minimum_is_shifted_mutual_information(p: Tensor, pairs: tuple[Tensor, ...]) -> None:
    """s = log[p(i, j) / (k p(i) p_n(j))], and p_n exp(s) is proportional to p(j|i)."""
    center, context, weight = pairs
    k, noise, unit = 3, Noise(p.sum(dim=0)), torch.eye(N, dtype=torch.float64)

    def objective(scores: Tensor, step: int) -> Tensor:
        return weight @ negative_sampling(
            *("dot", scores, unit, center, context, torch.arange(N)),
            negatives=k,
            tied=False,
            shares=noise.probabilities,
        )

    scores = minimized(objective, 1500)
    shifted = (p / (k * p.sum(dim=1, keepdim=True) * noise.probabilities)).log()
    torch.testing.assert_close(scores[center, context], shifted[center, context], rtol=0, atol=0.02)
    prior = noise.log_chance(1, torch.device("cpu"))
    fitted = weight @ full_softmax("dot", scores, unit, center, context, tied=False, log_prior=prior)
    plain = weight @ full_softmax("dot", scores, unit, center, context, tied=False)
    assert fitted - conditional_entropy(p) < 0.01
    assert plain - conditional_entropy(p) > 0.02


def test_distances_need_an_offset() -> None:
    """With s = -|v_i - u_j|^2 at most 0, sigma(s) is at most 1/2: a pair costs at least log 2 without one."""
    v = torch.zeros(2, 3)
    pair = torch.tensor([0]), torch.tensor([1]), torch.tensor([1])
    without = negative_sampling("gaussian", v, v, *pair, negatives=1e-9, tied=False)
    assert without.item() == pytest.approx(math.log(2))
    assert negative_sampling("gaussian", v, v, *pair, negatives=1e-9, tied=False, offset=5.0).item() < 0.01


def test_by_default_all_noise_has_an_equal_share() -> None:
    v, u = tables()
    pair = torch.tensor([0, 1]), torch.tensor([1, 2])
    drawn = torch.tensor([3, 4, 3, 0])
    found = negative_sampling("dot", v, u, *pair, drawn, negatives=2, tied=False)
    s = v @ u.T
    expected = [-s[i, i + 1].sigmoid().log() - 2 * (-s[i, drawn]).sigmoid().log().mean() for i in (0, 1)]
    torch.testing.assert_close(found, torch.stack(expected))
    # No noise for itself.
    tied = negative_sampling("dot", v, v, *pair, drawn, negatives=2, tied=True)
    s = v @ v.T
    noise = (-s[0, drawn[:3]]).sigmoid().log().sum() / 4
    torch.testing.assert_close(tied[0], -s[0, 1].sigmoid().log() - 2 * noise)
