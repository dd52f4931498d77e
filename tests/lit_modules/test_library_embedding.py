"""LibraryEmbedding: what it logs is what it says; it knows its items; its vectors answer questions."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from lit_modules import LibraryEmbedding
from lit_modules.parts.embedding_costs import full_softmax, negative_sampling, sampled_softmax, walking_costs
from lit_modules.parts.noise import keyed_generator
from lit_modules.parts.places import smallest_distance
from lit_modules.parts.shelving import walking_cost
from lit_modules.parts.window_pairs import window_pairs
from tests.lit_modules.libraries import Library, Text, conditional_entropy, planted_library
from tests.lit_modules.training import assert_resumes, parameters_differ_by

Make = Callable[..., Trainer]
KINDS = [
    {"cost": cost, "tied": tied, "normalizer": normalizer}
    for cost in ("gaussian", "dot", "student")
    for tied in (True, False)
    for normalizer in ("full", "sampled", "negative")
] + [{"cost": "library"}]


def name_of(kind: dict[str, Any]) -> str:
    return "-".join(map(str, kind.values()))


@pytest.fixture
def p() -> Tensor:
    return planted_library(24, 4)[0]


# ---- Arguments ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cost": "gausian"}, "unknown cost 'gausian'. Did you mean 'gaussian'"),
        ({"normalizer": "fully"}, "unknown normalizer 'fully'. Did you mean 'full'"),
        ({"lr_schedule": "step"}, "unknown lr_schedule"),
        ({"optimizer": "Adm"}, "Did you mean 'torch.optim.Adam'"),
        ({"optimizer_args": {"epz": 1}}, "Did you mean 'eps'"),
        ({"dim": 0}, "dim=0 must be at least 1"),
        ({"negatives": 0}, "negatives=0 must be at least 1"),
        ({"shared_negatives": 0}, "shared_negatives=0 must be at least 1"),
        ({"d_min": 0.0}, "d_min=0.0 must be positive"),
        ({"initial_scale": 0.0}, "initial_scale=0.0 must be positive"),
        ({"spacing_warmup_steps": -1}, "spacing_warmup_steps=-1 must not be negative"),
        ({"swaps": -1}, "swaps=-1 must not be negative"),
        ({"shelves": [2, 3]}, "shelves=[2, 3] must be three numbers of places"),
        ({"spacing_weight": -1.0}, "spacing_weight=-1.0 must not be negative"),
        ({"cost": "library", "tied": False}, "tied=False with cost='library'"),
        ({"cost": "library", "normalizer": "sampled"}, "normalizer='sampled' with cost='library'"),
        ({"counts": [1.0]}, "counts are those of items: pass both"),
        ({"items": ["a", "b"], "counts": [1.0]}, "counts must be 2 numbers, one an item"),
        ({"items": ["a", "b"], "counts": [1.0, -1.0]}, "none negative"),
        ({"items": ["a", "b"], "counts": [0.0, 0.0]}, "not all 0"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        LibraryEmbedding(**arguments)


# ---- Items ----


def test_items_come_from_the_datamodule(trainer: Make, p: Tensor) -> None:
    module, library = LibraryEmbedding(dim=2), Library(p)
    assert module.items is None
    with pytest.raises(ValueError, match="has no items yet"):
        module.item_vectors()
    trainer(max_epochs=1).fit(module, library)
    items, vectors = module.item_vectors()
    assert items == library.items
    assert torch.equal(module.counts, library.counts)
    assert vectors.shape == (24, 2)
    assert vectors.dtype == torch.float32
    assert not vectors.requires_grad


def test_nobody_knows_the_items(trainer: Make, p: Tensor) -> None:
    with pytest.raises(ValueError, match="doesn't know its items: give it items, or a datamodule"):
        trainer(max_epochs=1).fit(LibraryEmbedding(), Library(p).train_dataloader())


def test_items_by_argument_need_no_datamodule(trainer: Make, p: Tensor) -> None:
    library = Library(p)
    module = LibraryEmbedding(items=library.items)
    assert module.counts.tolist() == [1] * 24
    trainer(max_epochs=1).fit(module, library.train_dataloader())


def test_other_items_than_the_datamodules(trainer: Make, p: Tensor) -> None:
    library = Library(p)
    other = [*library.items[:5], "atlas", *library.items[6:]]
    with pytest.raises(ValueError, match="model's item 5 is 'atlas', that of the datamodule is 'book 005'"):
        trainer(max_epochs=1).fit(LibraryEmbedding(items=other), library)
    with pytest.raises(ValueError, match="model has 25 items, the datamodule has 24"):
        trainer(max_epochs=1).fit(LibraryEmbedding(items=[*library.items, "atlas"]), library)


def test_pairs_of_an_item_with_itself(trainer: Make, p: Tensor) -> None:
    library = Library(p + torch.eye(24) * 0.01)
    with pytest.raises(ValueError, match="pairs of an item with itself, which a shared table leaves out: set"):
        trainer(max_epochs=1).fit(LibraryEmbedding(), library)
    trainer(max_epochs=1).fit(LibraryEmbedding(tied=False), library)


@pytest.mark.parametrize("kind", [{"tied": True}, {"tied": False, "normalizer": "negative"}], ids=name_of)
def test_a_checkpoint_knows_the_items(trainer: Make, p: Tensor, tmp_path: Path, kind: dict[str, Any]) -> None:
    library, module = Library(p), LibraryEmbedding(dim=2, **kind)
    fitted = trainer(max_epochs=1)
    fitted.fit(module, library)
    fitted.save_checkpoint(tmp_path / "saved.ckpt", weights_only=False)
    again = LibraryEmbedding.load_from_checkpoint(tmp_path / "saved.ckpt", weights_only=True)
    assert again.items == library.items
    assert torch.equal(again.counts, library.counts)
    assert parameters_differ_by(module.state_dict(), again.state_dict()) == 0
    assert torch.equal(again.noise.probabilities, module.noise.probabilities)
    assert "items" not in again.hparams
    (validated,) = trainer().validate(again, library, verbose=False)
    assert validated.keys() >= {"val/cost", "val/gap"}

    renamed = Library(p)
    renamed.items[3] = "atlas"
    with pytest.raises(ValueError, match="model's item 3 is 'atlas', that of the checkpoint is 'book 003'"):
        trainer(max_epochs=2).fit(LibraryEmbedding(dim=2, **kind), renamed, ckpt_path=tmp_path / "saved.ckpt")


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_resumed_as_if_never_stopped(trainer: Make, p: Tensor, tmp_path: Path, kind: dict[str, Any]) -> None:
    """With noise that depends on the step alone."""
    arguments = kind | {"shared_negatives": 8}
    end = assert_resumes(trainer, lambda: LibraryEmbedding(**arguments), lambda: Library(p, 8), tmp_path, epochs=4)
    assert end.global_step == 12


# ---- What is logged ----


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_every_kind_learns(trainer: Make, p: Tensor, kind: dict[str, Any]) -> None:
    module = LibraryEmbedding(dim=4, shared_negatives=16, **kind)
    library = Library(p, steps=100)
    (before,) = _validated(trainer, module, library)
    made = trainer(max_epochs=1)
    made.fit(module, library)
    logged = made.callback_metrics
    expected = {"train/cost", "val/cost"}
    if kind["cost"] == "library":
        expected |= {"train/overlap"}
    else:
        expected |= {"val/gap"} | ({"train/gap"} if kind["normalizer"] == "full" else set())
    assert logged.keys() == expected
    assert all(value.isfinite() for value in logged.values())
    if kind["cost"] == "library":
        assert logged["train/overlap"] < 0.3
    else:
        assert 0 <= logged["val/gap"] < before["val/gap"] - 0.1


def _validated(trainer: Make, module: LibraryEmbedding, data: Any) -> list[dict[str, float]]:
    return trainer().validate(module, data, verbose=False)


def test_cost_and_gap_of_a_full_batch(trainer: Make, p: Tensor) -> None:
    module, library = LibraryEmbedding(dim=2, learning_rate=0.0, tied=False), Library(p)
    made = trainer(max_epochs=1)
    made.fit(module, library)
    v, u = module.item_vectors()[1].double(), module.context_vectors()[1].double()
    assert not torch.equal(v, u)
    center, context = p.nonzero(as_tuple=True)
    cost = p[center, context] @ full_softmax("gaussian", v, u, center, context, tied=False)
    gap = cost - conditional_entropy(p)
    logged = {name: value.item() for name, value in made.callback_metrics.items()}
    expected = {"train/cost": cost, "val/cost": cost, "train/gap": gap, "val/gap": gap}
    assert logged == pytest.approx({name: value.item() for name, value in expected.items()}, rel=1e-4)


def test_validation_of_several_batches_is_that_of_one(trainer: Make, p: Tensor) -> None:
    module = LibraryEmbedding(dim=2, initial_scale=1.0, items=Library(p).items)
    (whole,) = _validated(trainer, module, Library(p))
    (parts,) = _validated(trainer, module, Library(p, 7))
    assert parts == pytest.approx(whole, rel=1e-5)
    (tested,) = trainer().test(module, Library(p, 7), verbose=False)
    assert tested["test/gap"] == pytest.approx(whole["val/gap"], rel=1e-5)


def test_negative_sampling_is_validated_by_what_it_fits(trainer: Make, p: Tensor) -> None:
    """q ~ p_n exp(s) comes near p(j|i), which exp(s) alone does not."""
    library = Library(p, steps=600)
    arguments = {"dim": 16, "tied": False, "normalizer": "negative", "lr_schedule": "linear", "learning_rate": 0.05}
    module = LibraryEmbedding("dot", shared_negatives=64, **arguments)
    made = trainer(max_epochs=1)
    made.fit(module, library)
    assert made.callback_metrics["val/gap"] < 0.02
    center, context = p.nonzero(as_tuple=True)
    v, u = module.item_vectors()[1].double(), module.context_vectors()[1].double()
    plain = p[center, context] @ full_softmax("dot", v, u, center, context, tied=False)
    assert plain - conditional_entropy(p) > 0.05
    assert made.callback_metrics["train/cost"] > 1.5


def test_the_estimators_see_the_noise_of_their_step(trainer: Make, p: Tensor) -> None:
    library = Library(p)
    center, context = p.nonzero(as_tuple=True)
    for normalizer in ("sampled", "negative"):
        module = LibraryEmbedding("student", normalizer=normalizer, shared_negatives=9, learning_rate=0.0)
        made = trainer(max_epochs=1, limit_val_batches=0)
        made.fit(module, library)
        v, drawn = module.item_vectors()[1], module.noise.draw(9, keyed_generator(0, "train noise"))
        if normalizer == "sampled":
            costs = sampled_softmax("student", v, v, center, context, module.noise, drawn, tied=True)
        else:
            costs = negative_sampling("student", v, v, center, context, drawn, negatives=5, tied=True)
        expected = (p[center, context].float() @ costs).item()
        assert made.callback_metrics["train/cost"].item() == pytest.approx(expected, rel=1e-5)


def test_distances_learn_an_offset_for_negative_sampling(trainer: Make, p: Tensor) -> None:
    assert LibraryEmbedding("dot", normalizer="negative").offset is None
    assert LibraryEmbedding("gaussian", normalizer="sampled").offset is None
    module = LibraryEmbedding("gaussian", normalizer="negative")
    trainer(max_epochs=1).fit(module, Library(p, steps=20))
    assert module.offset is not None
    assert module.offset != 0


def test_batches_that_are_none(trainer: Make, p: Tensor) -> None:
    module = LibraryEmbedding(items=Library(p).items)
    for batch, found in (({"center": torch.zeros(1)}, "this one is: center"), ([torch.zeros(1)], "this one is: list")):
        with pytest.raises(ValueError, match=found):
            module._pairs(batch)


def test_the_penalty_sets_in_slowly(trainer: Make, p: Tensor) -> None:
    """With its weight still almost 0, readers' ways shrink; at its full one, items part."""
    library, middle = Library(p, steps=50), {}
    for steps in (0, 10**6):
        module = LibraryEmbedding("library", initial_scale=1.0, spacing_warmup_steps=steps)
        trainer(max_epochs=1, limit_val_batches=0).fit(module, library)
        middle[steps] = module.item_vectors()[1].norm(dim=1).mean().item()
    assert middle[10**6] < 0.7 * middle[0]


# ---- Text ----


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_running_text(trainer: Make, kind: dict[str, Any]) -> None:
    optimizer = "SparseAdam" if kind == {"cost": "dot", "tied": False, "normalizer": "negative"} else "Adam"
    module, text = LibraryEmbedding(shared_negatives=8, learning_rate=0.1, optimizer=optimizer, **kind), Text()
    (before,) = _validated(trainer, module, text)
    made = trainer(max_epochs=8)
    made.fit(module, text)
    logged = made.callback_metrics
    assert {"train/cost", "val/cost"} <= logged.keys()
    assert "train/gap" not in logged
    assert "val/gap" not in logged
    if kind["cost"] != "library":
        assert logged["val/cost"] < before["val/cost"] - 0.02


def test_text_is_pairs_with_weights_by_distance(trainer: Make) -> None:
    for tied in (True, False):
        module, text = LibraryEmbedding(learning_rate=0.0, tied=tied, initial_scale=1.0), Text()
        made = trainer(max_epochs=1)
        made.fit(module, text)
        center, context, weight = window_pairs(*(text.batch[name] for name in ("tokens", "sentences", "by_distance")))
        if tied:
            # One table leaves out j = i: so do the pairs.
            assert bool((center == context).any())
            center, context, weight = (values[center != context] for values in (center, context, weight))
        v, u = module.item_vectors()[1], module.context_vectors()[1]
        costs = full_softmax("gaussian", v, u, center, context, tied=tied)
        expected = (weight @ costs / weight.sum()).item()
        assert made.callback_metrics["train/cost"].item() == pytest.approx(expected, rel=1e-5)
        assert made.callback_metrics["val/cost"].item() == pytest.approx(expected, rel=1e-5)


def test_text_without_a_pair(trainer: Make) -> None:
    text = Text()
    text.batch |= {name: text.batch[name][:1] for name in ("tokens", "sentences")}
    for normalizer in ("full", "sampled", "negative"):
        module = LibraryEmbedding(normalizer=normalizer)
        made = trainer(max_epochs=1, limit_val_batches=0)
        made.fit(module, text)
        assert made.callback_metrics["train/cost"] == 0
        assert module.item_vectors()[1].isfinite().all()


# ---- Skip-Gram's fast way ----


def skip_gram(**arguments: Any) -> LibraryEmbedding:
    return LibraryEmbedding("dot", tied=False, normalizer="negative", dim=8, **arguments)


def test_skip_gram_goes_the_fast_way(trainer: Make) -> None:
    """Its cost is the mean of what the slow way has with the same noise, and its gradients are sparse."""
    text = Text()
    module = skip_gram(optimizer="SGD", learning_rate=0.0, initial_scale=0.5, shared_negatives=4)
    made = trainer(max_steps=1, limit_val_batches=0)
    made.fit(module, text)
    assert module.centers.weight.grad is not None
    assert module.centers.weight.grad.is_sparse
    v, u = module.item_vectors()[1], module.context_vectors()[1]
    drawn = module.noise.draw(13 * 4, keyed_generator(0, "train noise")).view(13, 4)
    tokens, sentences, by_distance = (text.batch[name] for name in ("tokens", "sentences", "by_distance"))
    total, pairs = 0.0, 0.0
    for c in range(400):
        near = [p for p in range(400) if 0 < abs(p - c) <= 2 and sentences[p] == sentences[c]]
        weights = torch.tensor([by_distance[abs(p - c) - 1] for p in near])
        center = tokens[c].expand(len(near))
        costs = negative_sampling("dot", v, u, center, tokens[near], drawn[c // 32], negatives=5, tied=False)
        total, pairs = total + (weights @ costs).item(), pairs + weights.sum().item()
    assert made.callback_metrics["train/cost"].item() == pytest.approx(total / pairs, rel=1e-5)


def test_skip_gram_learns_and_resumes_exactly(trainer: Make, tmp_path: Path) -> None:
    arguments = {"optimizer": "SGD", "learning_rate": 0.005, "initial_scale": 0.3}
    (before,) = _validated(trainer, skip_gram(**arguments), Text())
    made = assert_resumes(trainer, lambda: skip_gram(**arguments), Text, tmp_path, epochs=20)
    assert made.callback_metrics["val/cost"] < before["val/cost"] - 0.3


def test_skip_gram_refuses_dense_optimizers(trainer: Make, p: Tensor) -> None:
    with pytest.raises(ValueError, match=r"optimizer='torch.optim.Adam' does not take sparse .* SGD, SparseAdam"):
        trainer(max_epochs=1).fit(skip_gram(), Text())
    # Pairs have dense gradients.
    trainer(max_epochs=1).fit(skip_gram(), Library(p))


# ---- The vectors ----


def known(cost: str) -> LibraryEmbedding:
    module = LibraryEmbedding(cost, dim=2, items=["north", "east", "far east", "south"])
    vectors = torch.tensor([[0.0, 1.0], [1.0, 0.0], [5.0, 0.5], [0.0, -1.0]])
    module.centers.weight.data.copy_(vectors)
    return module


def test_vectors_by_name() -> None:
    module = known("gaussian")
    assert module.vector("east").tolist() == [1, 0]
    with pytest.raises(KeyError, match=r"no item 'norht'\. Did you mean 'north'"):
        module.vector("norht")
    with pytest.raises(KeyError, match=r"no item 'x'\.\""):
        module.vector("x")


def test_similarity_is_what_the_cost_is_about() -> None:
    near, along = known("gaussian"), known("dot")
    assert near.similarity("north", "south") == -2
    assert along.similarity("north", "south") == pytest.approx(-1)
    assert near.most_similar("far east", 1) == [("east", pytest.approx(-(16.25**0.5)))]
    assert [name for name, _ in along.most_similar("north")] == ["far east", "east", "south"]
    assert along.most_similar("east", 1)[0][1] == pytest.approx(5 / 25.25**0.5)


def test_scores_of_pairs() -> None:
    pairs = torch.tensor([0, 1]), torch.tensor([1, 2])
    assert known("gaussian")(*pairs).tolist() == [-2, -16.25]
    assert known("dot")(*pairs).tolist() == [0, 5]
    module = known("library")
    assert torch.equal(module(*pairs), -walking_costs(module.centers.weight, *pairs))


def test_predictions_are_the_centers_vectors(trainer: Make, p: Tensor) -> None:
    module, library = LibraryEmbedding(dim=2, items=Library(p).items), Library(p, 24)
    (predicted,) = trainer().predict(module, library)
    assert torch.equal(predicted, module.item_vectors()[1][library.pairs["center"]])


# ---- The library ----


def test_floor_plan_where_the_vectors_are(trainer: Make, p: Tensor) -> None:
    library = Library(p, steps=300)
    for cost in ("library", "gaussian"):
        module = LibraryEmbedding(cost, d_min=0.5, lr_schedule="linear", swaps=500)
        trainer(max_epochs=1, limit_val_batches=0).fit(module, library)
        plan = module.floor_plan(library.pairs)
        assert plan.items == library.items
        assert plan.positions.shape == (24, 3)
        assert smallest_distance(plan.positions) >= 0.5
        assert walking_cost(plan.positions, library.pairs) == pytest.approx(plan.costs["after swaps"])
        assert plan.costs["after swaps"] <= plan.costs["embedding"] < 0.95 * plan.costs["random"]


@pytest.mark.parametrize(
    ("arguments", "shelves", "places"),
    [({"cost": "dot"}, None, (3, 3, 3)), ({"dim": 5}, None, (3, 3, 3)), ({}, (6, 2, 2), (6, 2, 2))],
)
def test_floor_plan_on_shelves(p: Tensor, arguments: dict[str, Any], shelves: Any, places: tuple[int, ...]) -> None:
    library = Library(p)
    module = LibraryEmbedding(d_min=0.25, items=library.items, shelves=shelves, **arguments)
    plan = module.floor_plan(library.pairs)
    numbers = plan.positions / 0.25
    assert (numbers == numbers.round()).all()
    assert len({tuple(row) for row in numbers.tolist()}) == 24
    assert (numbers.min(axis=0) >= 0).all()
    assert (numbers.max(axis=0) < places).all()


def test_noise_power_is_that_of_the_draws() -> None:
    counts = [1000.0, 10.0, 1.0, 1.0]
    module = skip_gram(noise_power=0, items=list("abcd"), counts=counts)
    assert module.noise.probabilities.tolist() == [0.25] * 4
    drawn = module.noise.draw(8000, keyed_generator(0, "test")).bincount(minlength=4)
    assert all(abs(number - 2000) < 200 for number in drawn.tolist())
    usual = skip_gram(items=list("abcd"), counts=counts).noise.draw(8000, keyed_generator(0, "test"))
    assert (usual == 0).float().mean() > 0.9
