"""Noise depends on (seed, step, stream, row) and on nothing else."""

import pytest
import torch

from lit_modules.parts import noise


@pytest.fixture(autouse=True)
def _seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")


def test_independent_of_history() -> None:
    (first,) = noise.draw([4], (3,), step=5, stream="g0")
    torch.rand(100)
    noise.draw([9], (2,), step=6, stream="g0")
    assert torch.equal(noise.draw([4], (3,), step=5, stream="g0")[0], first)


def test_every_key_draws_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [noise.draw([4], (3,), step=step, stream=s)[0] for step in (0, 1) for s in ("d0", "g0")]
    monkeypatch.setenv("PL_GLOBAL_SEED", "8")
    drawn += noise.draw([4], (3,), step=0, stream="d0")
    assert len({tuple(rows.flatten().tolist()) for rows in drawn}) == 5


def test_global_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    noise.draw([4], (3,), step=0, stream="d0")
    assert torch.equal(torch.get_rng_state(), before)


def test_micro_batches_share_what_one_batch_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    (whole,) = noise.draw([12], (3,), step=0, stream="d0")
    assert torch.equal(torch.cat(noise.draw([4, 4, 4], (3,), step=0, stream="d0")), whole)
    # Two ranks with micro-batches of 2 rows: rank r of micro-batch j has rows 4 j + 2 r and the next.
    ranks = []
    for rank in (0, 1):
        monkeypatch.setattr(noise, "rank_and_world_size", lambda rank=rank: (rank, 2))
        ranks.append(noise.draw([2, 2, 2], (3,), step=0, stream="d0"))
    assert torch.equal(torch.cat([torch.cat(pair) for pair in zip(*ranks, strict=True)]), whole)


def test_distributions() -> None:
    (normal,) = noise.draw([5000], (2,), step=0, stream="d0")
    (uniform,) = noise.draw([5000], (), step=0, stream="gp0", distribution=torch.rand)
    assert abs(normal.mean()) < 0.05
    assert abs(normal.std() - 1) < 0.05
    assert uniform.shape == (5000,)
    assert 0 <= uniform.min() <= uniform.max() <= 1
    assert abs(uniform.mean() - 0.5) < 0.02


def test_a_key_of_its_own_knows_no_seed_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = torch.rand(3, generator=noise.generator_of("a"))
    monkeypatch.setenv("PL_GLOBAL_SEED", "8")
    assert torch.equal(torch.rand(3, generator=noise.generator_of("a")), drawn)
    assert not torch.equal(torch.rand(3, generator=noise.generator_of("b")), drawn)
