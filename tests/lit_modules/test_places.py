"""Grids of shelves, and positions kept apart."""

import numpy as np
import pytest

from lit_modules.parts.places import (
    along_shelves,
    enough_shelves,
    keep_apart,
    nearest_distances,
    places,
    smallest_distance,
)


def test_a_grid() -> None:
    grid = places((3, 2, 4), 0.5, entrance=(1, 0, 0))
    assert grid.shape == (24, 3)
    assert grid[0].tolist() == [-0.5, 0, 0]
    assert grid[1].tolist() == [-0.5, 0, 0.5]
    assert grid[-1].tolist() == [0.5, 0.5, 1.5]
    assert smallest_distance(grid) == pytest.approx(0.5)


@pytest.mark.parametrize("shape", [(3, 2), (3, 0, 2)])
def test_no_grid(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"shelves=.* must be three numbers of places"):
        places(shape)


@pytest.mark.parametrize("number", [1, 8, 9, 27, 28, 120, 1000])
def test_enough_shelves(number: int) -> None:
    shape = enough_shelves(number)
    assert number <= np.prod(shape) < number + max(shape) ** 2
    assert max(shape) - 1 < number ** (1 / 3) + 1e-6


def test_along_the_shelves() -> None:
    grid = places((3, 2, 4), 0.3)
    shuffled = np.random.default_rng(0).permutation(grid)
    assert np.array_equal(along_shelves(shuffled), grid)


def test_nearest_distances() -> None:
    x = np.array([[0.0, 0], [3, 4], [3, 5], [9, 5]])
    assert nearest_distances(x).tolist() == [5, 1, 1, 6]
    assert smallest_distance(x[:1]) == np.inf


@pytest.mark.parametrize("spread", [0.0, 0.01, 1.0, 3.0])
@pytest.mark.parametrize("dim", [2, 3])
def test_kept_apart(spread: float, dim: int) -> None:
    x = spread * np.random.default_rng(0).standard_normal((150, dim))
    apart = keep_apart(x, 0.7)
    assert smallest_distance(apart) >= 0.7
    # As a ball, with room to spare: 150 of diameter 0.7 fill one of radius 0.35 * 150^(1/dim).
    assert np.linalg.norm(apart, axis=1).max() < max(3.5 * spread, 0) + 3 * 0.35 * 150 ** (1 / dim)


def test_what_is_apart_stays() -> None:
    grid = places((3, 3, 3))
    assert np.array_equal(keep_apart(grid, 1.0), grid)
    # Two that are too close part by as much as they need.
    x = np.array([[0.0, 0, 0], [0.5, 0, 0], [5, 5, 5]])
    apart = keep_apart(x, 1.0)
    assert apart[2].tolist() == [5, 5, 5]
    assert apart[:2] == pytest.approx(np.array([[-0.25, 0, 0], [0.75, 0, 0]]), abs=1e-2)


def test_stretched_if_it_does_not_end() -> None:
    x = np.random.default_rng(0).standard_normal((50, 3))
    assert 1.0 <= smallest_distance(keep_apart(x, 1.0, rounds=1)) < 1.0 + 1e-9
