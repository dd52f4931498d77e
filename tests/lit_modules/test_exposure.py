"""Inputs that are replaced by others of the same target."""

import torch

from lit_modules.parts.exposure import with_wrong_inputs

# Two targets, padded in different places; 9 ends a part.
TOKENS = torch.tensor([[11, 12, 13, 9, 14, 9, 0], [0, 21, 9, 0, 22, 23, 9]])
ORDINARY = (TOKENS != 9) & (TOKENS != 0)
N = 6


def draws(half: list[float], replaced: float, other: float) -> torch.Tensor:
    return torch.cat([torch.tensor(half)[:, None], torch.full((2, N), replaced), torch.full((2, N), other)], dim=1)


def test_half_of_the_targets_get_other_tokens_of_their_own() -> None:
    noisy = with_wrong_inputs(TOKENS, ORDINARY, draws([0.6, 0.4], 0.2, 0.99), 0.3)
    assert noisy.tolist() == [TOKENS[0].tolist(), [0, 23, 9, 0, 23, 23, 9]]
    noisy = with_wrong_inputs(TOKENS, ORDINARY, draws([0.4, 0.4], 0.2, 0.3), 0.3)
    assert noisy.tolist() == [[12, 12, 12, 9, 12, 9, 0], [0, 21, 9, 0, 21, 21, 9]]


def test_the_share_is_that_of_the_draws_below_it() -> None:
    assert torch.equal(with_wrong_inputs(TOKENS, ORDINARY, draws([0.4, 0.4], 0.31, 0.99), 0.3), TOKENS)


def test_draws_are_by_a_token_s_number_and_not_by_its_place() -> None:
    random = torch.rand(1, 1 + 2 * N, generator=torch.Generator().manual_seed(0))
    random[0, 0] = 0
    apart = torch.tensor([[0, 31, 0, 0, 32, 33, 0, 34]])
    noisy = with_wrong_inputs(apart, apart != 0, random, 0.7)
    together = with_wrong_inputs(torch.tensor([[31, 32, 33, 34]]), torch.ones(1, 4, dtype=torch.bool), random, 0.7)
    assert noisy[apart != 0].tolist() == together[0].tolist() != [31, 32, 33, 34]


def test_a_target_without_words() -> None:
    ends = torch.tensor([[9, 9]])
    draws_of_one = torch.zeros(1, 1 + 2 * N)
    assert torch.equal(with_wrong_inputs(ends, torch.zeros(1, 2, dtype=torch.bool), draws_of_one, 0.9), ends)


def test_how_many_are_replaced() -> None:
    tokens = torch.arange(50).repeat(2000, 1)
    random = torch.rand(2000, 101, generator=torch.Generator().manual_seed(0))
    changed = with_wrong_inputs(tokens, torch.ones_like(tokens, dtype=torch.bool), random, 0.3) != tokens
    assert abs(changed.any(dim=1).float().mean().item() - 0.5) < 0.04
    # One in 50 is replaced by itself.
    assert abs(changed.float().mean().item() - 0.5 * 0.3 * 0.98) < 0.01
