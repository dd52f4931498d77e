"""Who sees whom, and where each token stands."""

import pytest
import torch

from lit_modules.parts.unilm import additive, positions_of, unilm_mask, without_gaps

# Two sequences of a passage, an answer and a question, padded each for itself; the second has no question.
REAL = torch.tensor([[1, 1, 1, 0, 1, 1, 0, 1, 1], [1, 1, 0, 0, 1, 0, 0, 0, 0]]).bool()
SEGMENTS = torch.tensor([[0] * 4 + [1] * 5] * 2)


def test_a_passage_is_read_both_ways_and_a_target_from_left_to_right() -> None:
    mask = unilm_mask(REAL, SEGMENTS, torch.float32)
    assert mask.shape == (2, 1, 9, 9)
    for b in range(2):
        for query in range(9):
            for key in range(9):
                earlier = SEGMENTS[b, key] == 0 or key <= query
                seen = (earlier and bool(REAL[b, key])) or key == query
                assert (mask[b, 0, query, key] == 0) == seen


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_mask_has_two_numbers_of_the_networks_type(dtype: torch.dtype) -> None:
    mask = additive(torch.tensor([[[True, False]]]), dtype)
    assert mask.dtype == dtype
    assert mask.tolist() == [[[[0.0, torch.finfo(dtype).min]]]]


def test_positions_count_real_tokens() -> None:
    assert positions_of(REAL).tolist() == [[0, 1, 2, 2, 3, 4, 4, 5, 6], [0, 1, 1, 1, 2, 2, 2, 2, 2]]
    assert positions_of(torch.zeros(1, 2).bool()).tolist() == [[0, 0]]


def test_without_gaps() -> None:
    """Real tokens keep their order, and no more padding stands behind them than the longest sequence needs."""
    tokens = torch.arange(2 * REAL.shape[1]).view(2, -1)
    mask, moved, marked = without_gaps(REAL, tokens, 10 * tokens)
    lengths = REAL.sum(dim=1)
    assert torch.equal(mask, torch.arange(int(lengths.max())) < lengths[:, None])
    assert torch.equal(moved[mask], tokens[REAL])
    assert torch.equal(marked[mask], 10 * tokens[REAL])
