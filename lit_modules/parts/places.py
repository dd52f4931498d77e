"""Places in a library: grids of shelves, and positions kept apart. The entrance is the origin. All numpy."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def places(shape: Sequence[int], spacing: float = 1.0, entrance: Sequence[float] = (0.0, 0.0, 0.0)) -> Array:
    """A grid of places (K, 3), ``shape`` of them along each axis, along the shelves (the last axis first).

    Args:
        shape: three numbers of places, such as (6, 5, 4).
        spacing: distance of neighbors.
        entrance: what becomes the origin, in numbers of places from the first corner.

    Raises:
        ValueError: not three numbers from 1 on.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shelves={list(shape)} must be three numbers of places, each at least 1")
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1, dtype=np.float64)
    return (grid.reshape(-1, 3) - np.asarray(entrance, dtype=np.float64)) * spacing


def enough_shelves(number: int) -> tuple[int, int, int]:
    """The shape of about a cube with room for so many items."""
    side = int(np.ceil(number ** (1 / 3) - 1e-9))
    deep = int(np.ceil(number / side**2))
    return side, side, deep


def keep_apart(positions: Array, d_min: float, *, seed: int = 0, rounds: int = 2000) -> Array:
    """Positions (N, d) moved until any two are at least ``d_min`` apart, little more than needed.

    In each round those too close push each other away, by the mean of what each of them asks for. What is not apart
    after the last round becomes so by stretching all.

    Args:
        positions: (N, d).
        d_min: smallest distance.
        seed: of the directions in which items at one spot leave.
        rounds: at most.
    """
    from scipy.spatial import cKDTree

    x, random = np.array(positions, dtype=np.float64), np.random.default_rng(seed)
    # Aiming a little higher makes it end.
    target = d_min * 1.001
    for _ in range(rounds):
        close = cKDTree(x).query_pairs(target, output_type="ndarray")
        away = x[close[:, 0]] - x[close[:, 1]]
        distance = np.linalg.norm(away, axis=1, keepdims=True)
        if not len(close) or distance.min() >= d_min:
            break
        same = distance[:, 0] < 1e-9 * d_min
        away[same] = random.standard_normal((same.sum(), x.shape[1]))
        push = (target - distance) / 2 * away / np.linalg.norm(away, axis=1, keepdims=True)
        move = np.zeros_like(x)
        np.add.at(move, close[:, 0], push)
        np.add.at(move, close[:, 1], -push)
        x += move / np.maximum(1, np.bincount(close.ravel(), minlength=len(x)))[:, None]
    closest = smallest_distance(x)
    return x if closest >= d_min else x * (d_min / closest * (1 + 1e-12))


def smallest_distance(x: Array) -> float:
    """Of two rows of x (N, d); infinite for a single one."""
    return float(nearest_distances(x).min()) if len(x) > 1 else float("inf")


def nearest_distances(x: Array) -> Array:
    """From each row of x (N, d), N at least 2, to the nearest other one: (N,)."""
    from scipy.spatial import cKDTree

    return cKDTree(x).query(x, k=2)[0][:, 1]


def along_shelves(taken: Array) -> Array:
    """The places (N, 3) sorted by their coordinates, in steps of the smallest distance: row by row."""
    steps = np.round(taken / smallest_distance(taken))
    return taken[np.lexsort(steps.T[::-1])]
