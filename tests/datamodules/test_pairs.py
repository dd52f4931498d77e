"""Entropies of a joint distribution, and batches that hold whole rows of it."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from datamodules.loading import ShardedSampler
from datamodules.pairs import PairBatch, PairDataModule, PairDistribution, PairLoader, Part


def some_counts(size: int = 30, seed: int = 0) -> NDArray[np.float64]:
    """Counts of pairs: most are 0, and item 5 has none in its row."""
    generator = np.random.default_rng(seed)
    counts = generator.integers(1, 50, (size, size)) * (generator.random((size, size)) < 0.3)
    counts[5] = 0
    return counts.astype(np.float64)


def as_processes(monkeypatch: pytest.MonkeyPatch, rank: int, world_size: int) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: world_size)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: rank)


def cost(batch: PairBatch, f: Tensor) -> float:
    """sum w f / sum w."""
    weight = batch["weight"].double()
    return float((weight * f[batch["center"], batch["context"]]).sum() / weight.sum())


class Pairs(PairDataModule):
    """Nothing but a distribution."""

    built = 0

    def build(self) -> dict[Part, PairDistribution]:
        self.built += 1
        return {"train": PairDistribution(some_counts())}


def test_independent_items_say_nothing_of_one_another() -> None:
    left, right = np.array([0.5, 0.25, 0.25]), np.array([0.125, 0.375, 0.5])
    pairs = PairDistribution(np.outer(left, right) * 7)
    entropy = -(right * np.log(right)).sum()
    assert pairs.weight.sum() == pytest.approx(1, abs=1e-15)
    assert pairs.conditional_entropy == pytest.approx(entropy, abs=1e-14)
    assert pairs.context_entropy == pytest.approx(entropy, abs=1e-14)
    assert pairs.mutual_information == pytest.approx(0, abs=1e-14)


def test_a_sure_next_item_has_no_entropy() -> None:
    pairs = PairDistribution(np.roll(np.eye(8), 1, axis=1))
    assert pairs.conditional_entropy == 0
    assert pairs.context_entropy == pytest.approx(math.log(8))
    assert pairs.mutual_information == pytest.approx(math.log(8))


def test_entropies_of_a_small_case() -> None:
    """Row 0 is (1/2, 1/2) with weight 1/2, row 1 sure: H(J|I) = log(2) / 2; p(j) = (1/4, 1/4, 1/2)."""
    pairs = PairDistribution([[1, 1, 0], [0, 0, 2], [0, 0, 0]])
    assert pairs.conditional_entropy == pytest.approx(math.log(2) / 2)
    assert pairs.context_entropy == pytest.approx(1.5 * math.log(2))
    assert pairs.center.tolist() == [0, 0, 1]
    assert pairs.context.tolist() == [0, 1, 2]
    assert pairs.weight.tolist() == [0.25, 0.25, 0.5]
    assert pairs.conditional.tolist() == [0.5, 0.5, 1]
    assert pairs.centers.tolist() == [0, 1]


def test_cost_is_entropy_and_divergence() -> None:
    """S = H(J|I) + sum_i p(i) KL(p(.|i) || q(.|i)) for any q, and H(J) for q = p(j)."""
    joint = some_counts() / some_counts().sum()
    pairs = PairDistribution(joint)
    q = np.random.default_rng(1).random(joint.shape)
    q /= q.sum(axis=1, keepdims=True)
    rows = joint.sum(axis=1, keepdims=True)
    divergence = np.where(joint > 0, joint * np.log(np.where(joint > 0, joint, 1) / np.maximum(rows, 1e-9) / q), 0)
    s = -(pairs.weight * np.log(q[pairs.center, pairs.context])).sum()
    assert s == pytest.approx(pairs.conditional_entropy + divergence.sum(), abs=1e-12)
    assert s > pairs.conditional_entropy
    unigram = -(pairs.weight * np.log(pairs.context_marginal[pairs.context])).sum()
    assert unigram == pytest.approx(pairs.context_entropy, abs=1e-12)


def test_pairs_named_twice_are_added_up() -> None:
    import scipy.sparse

    twice = scipy.sparse.csr_array(([0.0, 2.0, 1.0, 1.0], [0, 1, 0, 0], [0, 2, 4]), shape=(2, 2))
    pairs = PairDistribution(twice)
    assert twice.nnz == 4, "the caller's own is left alone"
    assert (pairs.center.tolist(), pairs.context.tolist(), pairs.weight.tolist()) == ([0, 1], [1, 0], [0.5, 0.5])


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_bad_weights(bad: float) -> None:
    with pytest.raises(ValueError, match="finite and at least 0"):
        PairDistribution([[1, bad], [1, 1]])
    with pytest.raises(ValueError, match="not a single pair"):
        PairDistribution(np.zeros((2, 2)))


def test_batches_hold_whole_rows() -> None:
    pairs = PairDistribution(some_counts())
    loader = PairLoader(pairs, batch_size=4, seed=1, shuffle=True)
    seen = np.zeros((30, 30))
    for batch in loader:
        assert {name: part.dtype for name, part in batch.items()} == {
            "center": torch.int64,
            "context": torch.int64,
            "weight": torch.float32,
            "entropy": torch.float32,
        }
        here = np.zeros((30, 30))
        np.add.at(here, (batch["center"].numpy(), batch["context"].numpy()), batch["weight"].numpy())
        rows = here.sum(axis=1) > 0
        assert 0 < rows.sum() <= 4
        assert np.allclose(here[rows], (some_counts() / some_counts().sum())[rows], rtol=1e-6)
        part = PairDistribution(here)
        assert batch["entropy"].item() == pytest.approx(part.conditional_entropy, rel=1e-5)
        seen += here
    assert len(loader) == math.ceil(29 / 4)
    assert np.allclose(seen, some_counts() / some_counts().sum(), rtol=1e-6)


def test_order_is_a_function_of_seed_and_epoch() -> None:
    def centers(epoch: int, seed: int = 0) -> list[int]:
        loader = PairLoader(PairDistribution(some_counts()), batch_size=3, seed=seed, shuffle=True)
        loader.sampler.set_epoch(epoch)
        return torch.cat([batch["center"] for batch in loader]).unique_consecutive().tolist()

    assert centers(2) == centers(2)
    assert sorted(centers(0)) == sorted(centers(1)) == [i for i in range(30) if i != 5]
    assert centers(0) != centers(1)
    assert centers(0) != centers(0, seed=1)


@pytest.mark.parametrize("batch_size", [None, 4])
def test_resume_in_the_middle_of_an_epoch(batch_size: int | None) -> None:
    def make() -> PairLoader:
        loader = PairLoader(PairDistribution(some_counts()), batch_size=batch_size, batches=8, shuffle=True)
        loader.sampler.set_epoch(3)
        return loader

    whole, first, second = make(), make(), make()
    list(itertools.islice(first, 5))
    second.load_state_dict(first.state_dict())
    rest = list(second)
    assert len(rest) == 3
    for batch, expected in zip(rest, list(whole)[5:], strict=True):
        assert all(torch.equal(batch[name], expected[name]) for name in expected)


def test_full_batches_are_one_object() -> None:
    pairs = PairDistribution(some_counts())
    batches = list(PairLoader(pairs, batches=5))
    assert len(batches) == 5
    assert all(batch is batches[0] for batch in batches)
    assert np.allclose(batches[0]["weight"], pairs.weight)
    assert batches[0]["entropy"].item() == pytest.approx(pairs.conditional_entropy)


@pytest.mark.parametrize("world_size", [2, 3, 7])
@pytest.mark.parametrize("batch_size", [None, 1, 2])
def test_processes_mean_is_one_process(
    world_size: int, batch_size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean over processes of sum w f / sum w and of the entropy is what one process has in a W-fold batch."""
    pairs = PairDistribution(some_counts())
    f = torch.randn(30, 30, dtype=torch.float64)

    def loader(rows: int | None) -> list[Any]:
        return list(PairLoader(pairs, batch_size=rows, batches=2, shuffle=True))

    alone = loader(None if batch_size is None else batch_size * world_size)
    shares = []
    for rank in range(world_size):
        with monkeypatch.context() as patch:
            as_processes(patch, rank, world_size)
            shares.append(loader(batch_size))
    for batch, *parts in zip(alone, *shares, strict=True):
        assert np.mean([cost(part, f) for part in parts]) == pytest.approx(cost(batch, f), abs=1e-6)
        entropy = np.mean([part["entropy"].item() for part in parts])
        assert entropy == pytest.approx(batch["entropy"].item(), abs=1e-6)
        rows = [part["center"].unique_consecutive() for part in parts]
        assert sum(map(len, rows)) < len(batch["center"].unique_consecutive()) + world_size, "no more rows than cuts"
        for part in parts:
            assert part["weight"].sum().item() == pytest.approx(batch["weight"].sum().item() / world_size, rel=1e-5)
            for center in part["center"].unique().tolist():
                mine, all_of_it = part["center"] == center, pairs.center == center
                assert np.array_equal(part["context"][mine], pairs.context[all_of_it]), "a row is incomplete"


def test_a_row_for_many_processes() -> None:
    pairs = PairDistribution([[0, 3, 1], [0, 0, 0], [0, 0, 0]])
    for rank in range(4):
        batch = pairs.batch(pairs.centers, rank, 4)
        assert batch["context"].tolist() == [1, 2]
        assert batch["weight"].tolist() == pytest.approx([3 / 16, 1 / 16])


def test_module_builds_once_and_gives_all() -> None:
    module = Pairs(batch_size=None, steps_per_epoch=6, seed=0)
    module.setup("fit")
    module.setup("validate")
    assert module.built == 1
    assert len(module.train_dataloader()) == 6
    assert isinstance(module.train_dataloader().sampler, ShardedSampler)
    assert torch.equal(module.pairs["center"], next(iter(module.train_dataloader()))["center"])
    for none in module.val_dataloader(), module.test_dataloader(), module.predict_dataloader():
        assert none == []


@pytest.mark.parametrize(("argument", "value"), [("batch_size", 0), ("steps_per_epoch", 0)])
def test_wrong_numbers(argument: str, value: int) -> None:
    arguments: dict[str, Any] = {"batch_size": None, "steps_per_epoch": 1, "seed": 0} | {argument: value}
    with pytest.raises(ValueError, match=f"{argument} is 0, but has to be at least 1"):
        Pairs(**arguments)


class Watcher(LightningModule):
    """Keeps the batches that arrive."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.nn.Parameter(torch.zeros(()))
        self.batches: list[PairBatch] = []

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        self.batches.append(batch)
        return (batch["weight"] * self.shift).sum()

    def validation_step(self, batch: PairBatch, batch_idx: int) -> None:
        raise AssertionError("there is nothing to validate on")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def test_full_batches_go_to_the_device_once(tmp_path: Any) -> None:
    quiet: dict[str, Any] = {
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": False,
    }
    for batch_size, copies in ((None, 1), (8, 8)):
        watcher = Watcher()
        module = Pairs(batch_size=batch_size, steps_per_epoch=4, seed=0)
        trainer = Trainer(max_epochs=2, limit_val_batches=0, accelerator="cpu", default_root_dir=tmp_path, **quiet)
        trainer.fit(watcher, module)
        assert len(watcher.batches) == 8
        assert len({id(batch) for batch in watcher.batches}) == copies
