"""LibraryEmbedding on the planted library: the sizes that the article's spec found, and two processes against one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from lightning.pytorch import Trainer
from scipy.stats import spearmanr

from lit_modules import LibraryEmbedding
from lit_modules.parts.places import smallest_distance
from tests.lit_modules.libraries import Library, conditional_entropy, planted_library
from tests.lit_modules.library_processes import CASES
from tests.processes import Results, difference, results_of

Trained = Callable[..., tuple[LibraryEmbedding, float]]


@pytest.fixture(scope="module")
def library() -> Library:
    return Library(planted_library()[0], steps=700)


@pytest.fixture
def trained(trainer: Callable[..., Trainer], library: Library) -> Trained:
    def train(**arguments: Any) -> tuple[LibraryEmbedding, float]:
        """A module and its gap."""
        module, made = LibraryEmbedding(learning_rate=0.05, lr_schedule="cosine", **arguments), trainer(max_epochs=1)
        made.fit(module, library)
        gap = made.callback_metrics.get("val/gap")
        return module, float("nan") if gap is None else gap.item()

    return train


def popularity_and_distance(module: LibraryEmbedding, library: Library, *, from_middle: bool) -> float:
    """Spearman's correlation."""
    vectors = module.item_vectors()[1]
    middle = vectors.mean(dim=0) if from_middle else 0
    return spearmanr(library.counts, (vectors - middle).norm(dim=1)).statistic


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cost", "in_3", "in_16"), [("gaussian", 0.44, 0.012), ("dot", 0.37, 0.0006), ("student", 0.14, 0.07)]
)
def test_gaps(trained: Trained, library: Library, cost: str, in_3: float, in_16: float) -> None:
    """The spec's, on another draw of the same library: those of 3 dimensions to a third, of 16 about as small."""
    assert conditional_entropy(library.p).item() == pytest.approx(2.557, abs=0.15)
    assert trained(cost=cost, dim=3)[1] == pytest.approx(in_3, rel=0.35)
    assert 0 <= trained(cost=cost, dim=16)[1] < 1.6 * in_16 + 0.01


@pytest.mark.slow
def test_popular_books_and_the_floor_plan(trained: Trained, library: Library) -> None:
    """Near the door with distances, far out with inner products; and what readers walk (the spec: 7.37 to 4.78)."""
    shelves = {"shelves": [6, 5, 4], "swaps": 30_000}
    by_distance, _ = trained(cost="gaussian", **shelves)
    by_product, _ = trained(cost="dot", **shelves)
    assert popularity_and_distance(by_distance, library, from_middle=True) < -0.8
    assert popularity_and_distance(by_product, library, from_middle=False) > 0.9
    said: list[tuple[int, int, float]] = []
    plan = by_distance.floor_plan(library.pairs, progress=lambda *state: said.append(state))
    expected = {"random": 7.37, "alphabetical": 6.07, "by popularity": 5.67, "embedding": 5.1, "after swaps": 4.78}
    assert plan.costs == pytest.approx(expected, rel=0.04)
    assert said[-1] == (30_000, 30_000, pytest.approx(plan.costs["after swaps"], rel=0.01))
    assert by_product.floor_plan(library.pairs).costs["embedding"] < 5.9


@pytest.mark.slow
def test_the_first_cost_is_a_floor_plan(trained: Trained, library: Library) -> None:
    module, _ = trained(cost="library", spacing_warmup_steps=500)
    plan = module.floor_plan(library.pairs)
    assert smallest_distance(plan.positions) >= 1
    assert plan.costs["embedding"] < 0.7 * plan.costs["random"]
    assert plan.costs["embedding"] < 0.9 * min(plan.costs["alphabetical"], plan.costs["by popularity"])
    # Not far from where training left them.
    moved = np.linalg.norm(plan.positions - module.item_vectors()[1].numpy(), axis=1)
    assert moved.mean() < 0.5


# ---- Several processes ----


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """(case, devices, rank) to what that process had at the end."""
    folder = tmp_path_factory.mktemp("processes")
    return results_of("library_processes.py", folder, CASES, timeout=240)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one(results: Any, case: str) -> None:
    assert difference(results[case, 2, 0]["state"], results[case, 2, 1]["state"]) == 0
    assert difference(results[case, 2, 0]["logged"], results[case, 2, 1]["logged"]) == 0
    if case != "text":
        # For its text, each process draws noise of its own.
        assert difference(results[case, 1, 0]["state"], results[case, 2, 0]["state"]) < 1e-5
        assert difference(results[case, 1, 0]["logged"], results[case, 2, 0]["logged"]) < 1e-5
