"""From vectors to shelves: costs by hand, and the planted library."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_modules.parts.places import places, smallest_distance
from lit_modules.parts.shelving import Walks, assign, own_places, plan_floor, refine_by_swaps, walking_cost
from tests.lit_modules.libraries import pair_batch, planted_library

TITLES = [f"book {number:03}" for number in range(120)]


@pytest.fixture
def library() -> dict[str, Tensor]:
    return pair_batch(planted_library()[0])


@pytest.fixture
def small() -> dict[str, Tensor]:
    """8 books of 2 subjects."""
    return pair_batch(planted_library(8, 2)[0])


def slow_cost(positions: np.ndarray, pairs: dict[str, Tensor]) -> float:
    total = 0.0
    for i, j, weight in zip(*(pairs[name].tolist() for name in ("center", "context", "weight")), strict=True):
        total += weight * (np.linalg.norm(positions[i]) + np.linalg.norm(positions[i] - positions[j]))
    return total / pairs["weight"].sum().item()


def test_walking_cost(library: dict[str, Tensor]) -> None:
    positions = np.random.default_rng(0).standard_normal((120, 3))
    assert walking_cost(positions, library) == pytest.approx(slow_cost(positions, library), rel=1e-6)
    # Weights are p up to a factor.
    assert walking_cost(positions, library | {"weight": 7 * library["weight"]}) == pytest.approx(
        walking_cost(positions, library), rel=1e-6
    )


def test_by_hand() -> None:
    pairs = {"center": torch.tensor([0, 0, 1]), "context": torch.tensor([1, 0, 0]), "weight": torch.ones(3)}
    positions = np.array([[3.0, 4, 0], [3, 0, 0]])
    assert walking_cost(positions, pairs) == pytest.approx((9 + 5 + 7) / 3)


def test_the_change_by_a_swap_is_the_difference(library: dict[str, Tensor]) -> None:
    random = np.random.default_rng(0)
    positions, walks = random.standard_normal((120, 3)), Walks(library, 120)
    for a, b in random.integers(120, size=(20, 2)):
        if a == b:
            continue
        swapped = positions.copy()
        swapped[[a, b]] = positions[[b, a]]
        change = walks.change_by_swap(positions, int(a), int(b))
        assert change == pytest.approx(walks.cost(swapped) - walks.cost(positions), abs=1e-12)


def test_swaps_find_the_best_of_all_arrangements(small: dict[str, Tensor]) -> None:
    grid, walks = places((2, 2, 2)), Walks(small, 8)
    best = min(walks.cost(grid[list(order)]) for order in itertools.permutations(range(8)))
    found = refine_by_swaps(np.arange(8), grid, small, 3000)
    assert sorted(found) == list(range(8))
    assert walks.cost(grid[found]) == pytest.approx(best)


def test_swaps_use_empty_places(small: dict[str, Tensor]) -> None:
    """Eight books that stand far from the entrance move to the eight places next to it."""
    grid = places((5, 2, 2))
    found = refine_by_swaps(np.arange(12, 20), grid, small, 6000)
    assert len(set(found.tolist())) == 8
    near = refine_by_swaps(np.arange(8), places((2, 2, 2)), small, 3000)
    assert walking_cost(grid[found], small) <= walking_cost(places((2, 2, 2))[near], small) + 1e-9


def test_swaps_never_make_a_plan_worse_and_say_how_far_they_are(library: dict[str, Tensor]) -> None:
    grid, walks, said = places((6, 5, 4)), Walks(library, 120), []
    start = np.random.default_rng(1).permutation(120)
    found = refine_by_swaps(start, grid, library, 2500, progress=lambda *state: said.append(state))
    assert walks.cost(grid[found]) < walks.cost(grid[start])
    assert [done for done, _, _ in said] == [1000, 2000, 2500]
    assert {total for _, total, _ in said} == {2500}
    again = refine_by_swaps(start, grid, library, 2500)
    assert np.array_equal(found, again)
    assert walks.cost(grid[refine_by_swaps(found, grid, library, 5)]) <= walks.cost(grid[found])
    assert np.array_equal(refine_by_swaps(found, grid, library, 0), found)


def test_assigning_the_places_to_themselves(small: dict[str, Tensor]) -> None:
    """Vectors that are the grid, turned and shrunk: neighbors stay neighbors."""
    grid = places((5, 4, 3))
    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))
    ring = {"center": torch.arange(60), "context": (torch.arange(60) + 1) % 60, "weight": torch.ones(60)}
    order = assign(0.1 * grid @ turn, grid, ring, rotations=200)
    assert sorted(order) == list(range(60))
    random = np.mean([walking_cost(np.random.default_rng(s).permutation(grid), ring) for s in range(5)])
    assert walking_cost(grid[order], ring) < walking_cost(grid, ring) + 0.4 * (random - walking_cost(grid, ring))


def test_assigning_any_dimension(small: dict[str, Tensor]) -> None:
    for dim in (1, 2, 3, 16):
        order = assign(np.random.default_rng(0).standard_normal((8, dim)), places((3, 3, 2)), small, rotations=2)
        assert len(set(order.tolist())) == 8
    with pytest.raises(ValueError, match="8 items need as many places, these shelves have 4"):
        assign(np.zeros((8, 3)), places((2, 2, 1)), small)


def test_own_places_are_apart(library: dict[str, Tensor]) -> None:
    vectors = np.random.default_rng(0).standard_normal((120, 3))
    apart = own_places(vectors, library, 0.9)
    assert smallest_distance(apart) >= 0.9
    # Much too large a picture is shrunk, instead of having readers walk.
    assert walking_cost(own_places(50 * vectors, library, 0.9), library) == pytest.approx(
        walking_cost(apart, library), rel=0.3
    )


def test_a_plan_and_what_it_is_compared_with(library: dict[str, Tensor]) -> None:
    vectors = np.random.default_rng(0).standard_normal((120, 3))
    plan = plan_floor(TITLES, vectors, library, grid=places((6, 5, 4)), swaps=500)
    names = ["random", "alphabetical", "by popularity", "embedding", "after swaps"]
    assert list(plan.costs) == names
    assert plan.items == TITLES
    assert plan.costs["after swaps"] == pytest.approx(walking_cost(plan.positions, library))
    # The books are numbered by subject, so that here the alphabet is a catalog.
    assert plan.costs["alphabetical"] == pytest.approx(walking_cost(places((6, 5, 4)), library))
    assert plan.costs["by popularity"] < plan.costs["random"]
    assert plan.costs["alphabetical"] < plan.costs["random"]
    free = plan_floor(TITLES, vectors, library, d_min=0.5)
    assert list(free.costs) == names[:-1]
    assert smallest_distance(free.positions) >= 0.5
    assert free.costs["embedding"] == pytest.approx(walking_cost(free.positions, library))
