"""From vectors to shelves: where in a library each item stands, and what that costs its readers (article 2).

The entrance is the origin, item i stands at x_i, and p(i, j) is how often j is borrowed after i. A reader walks

    S = sum_ij p(i, j) (|x_i| + |x_i - x_j|)

An embedding is a good plan, not the best one: it is made for another cost. Swaps of two items that are accepted by
simulated annealing improve it. Everything here is numpy; lengths are in the unit of the positions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lit_modules.parts.places import Array, along_shelves, keep_apart, nearest_distances

Order = NDArray[np.int64]
Progress = Callable[[int, int, float], None]

# Random arrangements whose mean cost is what a random one is said to cost.
RANDOM_ARRANGEMENTS = 32


@dataclass(frozen=True)
class FloorPlan:
    """Where each item stands.

    Attributes:
        items: names, in the order of their numbers.
        positions: of each item (N, 3); the entrance is the origin.
        costs: S by arrangement of the same places: "random" (a mean), "alphabetical", "by popularity", "embedding" and,
            if there were swaps, "after swaps". The last one is that of ``positions``.
    """

    items: list[str]
    positions: Array
    costs: dict[str, float]


class Walks:
    """How often readers walk from i to j.

    Args:
        pairs: a pair batch, "center" (P,), "context" (P,) and "weight" (P,), p(i, j) up to a factor.
        number: of items, N.

    Attributes:
        starts: p(i), (N,), how often a walk begins with i.
    """

    def __init__(self, pairs: Mapping[str, Tensor], number: int) -> None:
        from scipy.sparse import coo_matrix

        arrays = [pairs[name].detach().cpu().numpy() for name in ("center", "context", "weight")]
        self._center, self._context = arrays[0], arrays[1]
        self._weight = arrays[2].astype(np.float64) / arrays[2].sum(dtype=np.float64)
        self.starts = np.bincount(self._center, self._weight, minlength=number)
        joint = coo_matrix((self._weight, (self._center, self._context)), (number, number)).tocsr()
        joint.setdiag(0)
        between = (joint + joint.T).tocsr()
        between.eliminate_zeros()
        self._ends = between.indptr
        self._partners, self._often = between.indices, between.data

    def cost(self, positions: Array) -> float:
        """S of items at these positions (N, 3)."""
        ways = np.linalg.norm(positions[self._center] - positions[self._context], axis=1)
        return float(self.starts @ np.linalg.norm(positions, axis=1) + self._weight @ ways)

    def change_by_swap(self, positions: Array, a: int, b: int) -> float:
        """What swapping items a and b adds to S, from their partners alone."""
        walk = self._moves(positions, a, b) + self._moves(positions, b, a)
        doors = np.linalg.norm(positions[[a, b]], axis=1)
        return float((self.starts[a] - self.starts[b]) * (doors[1] - doors[0]) + walk)

    def _moves(self, positions: Array, a: int, b: int) -> float:
        """What moving a to where b is adds to its ways to all others but b."""
        partners = self._partners[self._ends[a] : self._ends[a + 1]]
        often = self._often[self._ends[a] : self._ends[a + 1]]
        there = positions[partners]
        change = np.sqrt(((there - positions[b]) ** 2).sum(1)) - np.sqrt(((there - positions[a]) ** 2).sum(1))
        return float(np.where(partners == b, 0.0, often) @ change)


def walking_cost(positions: Array, pairs: Mapping[str, Tensor]) -> float:
    """S of items at positions (N, 3), for a pair batch."""
    return Walks(pairs, len(positions)).cost(positions)


# ---- Who stands where ----


def own_places(vectors: Array, pairs: Mapping[str, Tensor], d_min: float, *, seed: int = 0) -> Array:
    """The vectors (N, 3) as positions at least ``d_min`` apart: the cheapest of several sizes of the same picture."""
    factors = [1.0]
    nearest = np.median(nearest_distances(vectors)) if len(vectors) > 1 else 0.0
    if nearest > 0:
        factors += [share * d_min / nearest for share in (0.3, 0.6, 1.0)]
    plans = [keep_apart(factor * vectors, d_min, seed=seed) for factor in factors]
    return min(plans, key=Walks(pairs, len(vectors)).cost)


def assign(vectors: Array, grid: Array, pairs: Mapping[str, Tensor], *, rotations: int = 32, seed: int = 0) -> Order:
    """A place (N,) for each item, so that near vectors stand near each other and popular items near the entrance.

    The vectors' three principal axes, turned at random and stretched to the size of the grid, are matched with the
    places by least squares, with a pull on popular items towards the entrance or without one; the cheapest S is taken.

    Args:
        vectors: (N, d).
        grid: places (K, 3), K at least N.
        pairs: a pair batch.
        rotations: to try.
        seed: of the rotations.

    Raises:
        ValueError: fewer places than items.
    """
    if len(grid) < len(vectors):
        raise ValueError(f"{len(vectors)} items need as many places, these shelves have {len(grid)}")
    # Those nearest the entrance: a place that stays empty should be a far one.
    near = np.argsort(np.linalg.norm(grid, axis=1), kind="stable")[: len(vectors)]
    spots, walks = grid[near], Walks(pairs, len(vectors))
    x, random = _principal(vectors), np.random.default_rng(seed)
    x *= np.sqrt(spots.var(axis=0).sum() / max(x.var(axis=0).sum(), 1e-300))
    found = [_matched(x @ _rotation(random), spots, walks, pull) for _ in range(rotations) for pull in (0.0, 1.0, 4.0)]
    return near[min(found, key=lambda order: walks.cost(spots[order]))]


def _matched(x: Array, spots: Array, walks: Walks, pull: float) -> Order:
    from scipy.optimize import linear_sum_assignment

    away = ((x[:, None] + spots.mean(axis=0) - spots[None]) ** 2).sum(axis=2)
    popular = len(x) * walks.starts[:, None] * np.linalg.norm(spots, axis=1)[None]
    return linear_sum_assignment(away + pull * popular)[1]


def _principal(vectors: Array) -> Array:
    x = np.asarray(vectors, dtype=np.float64) - np.mean(vectors, axis=0)
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    x = (u * s)[:, :3]
    return np.pad(x, ((0, 0), (0, 3 - x.shape[1])))


def _rotation(random: np.random.Generator) -> Array:
    q, r = np.linalg.qr(random.standard_normal((3, 3)))
    return q * np.sign(np.diag(r))


def refine_by_swaps(
    order: Order,
    grid: Array,
    pairs: Mapping[str, Tensor],
    steps: int,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Order:
    """A better place (N,) for each item, by simulated annealing with swaps; never a worse plan than the given one.

    A step takes the time of what the two items are borrowed with, not of all pairs.

    Args:
        order: place of each item (N,).
        grid: places (K, 3); an item may also move to an empty one.
        pairs: a pair batch.
        steps: swaps to try; some hundreds an item.
        seed: of the swaps.
        progress: called now and then with steps done, steps in all and the present S.
    """
    random, number = np.random.default_rng(seed), len(order)
    # Empty places are held by items that nobody borrows, numbered from N on.
    order = np.concatenate([order, np.setdiff1d(np.arange(len(grid)), order)])
    positions, walks = grid[order], Walks(pairs, len(grid))
    best, cost = order.copy(), walks.cost(positions)
    lowest, usual = cost, _usual_change(walks, positions, number, random)
    for step in range(steps):
        a, b = int(random.integers(number)), int(random.integers(len(grid)))
        change = walks.change_by_swap(positions, a, b) if a != b else 0.0
        # From half of a usual change to a thousandth of it.
        heat = 0.5 * usual * 500 ** (-step / steps)
        if change <= 0 or random.random() < np.exp(-change / max(heat, 1e-300)):
            order[[a, b]], positions[[a, b]] = order[[b, a]], positions[[b, a]]
            cost += change
            if cost < lowest - 1e-12:
                best, lowest = order.copy(), cost
        if progress is not None and ((step + 1) % 1000 == 0 or step + 1 == steps):
            progress(step + 1, steps, cost)
    return best[:number]


def _usual_change(walks: Walks, positions: Array, number: int, random: np.random.Generator) -> float:
    swaps = [(int(random.integers(number)), int(random.integers(len(positions)))) for _ in range(100)]
    return float(np.mean([abs(walks.change_by_swap(positions, a, b)) for a, b in swaps if a != b] or [0.0]))


# ---- The whole plan ----


def plan_floor(
    items: Sequence[str],
    vectors: Array,
    pairs: Mapping[str, Tensor],
    *,
    grid: Array | None = None,
    d_min: float = 1.0,
    swaps: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> FloorPlan:
    """Where each item stands, and what other arrangements of the same places would cost.

    Args:
        items: names of the N items.
        vectors: (N, d); of three dimensions if there is no grid.
        pairs: a pair batch of all borrowing.
        grid: places (K, 3) to choose from; None to stand where the vectors are, ``d_min`` apart.
        d_min: smallest distance without a grid.
        swaps: steps of :func:`refine_by_swaps`.
        seed: of all random choices.
        progress: see :func:`refine_by_swaps`.
    """
    if grid is None:
        spots = own_places(vectors, pairs, d_min, seed=seed)
        order = np.arange(len(items))
    else:
        spots, order = grid, assign(vectors, grid, pairs, seed=seed)
    walks = Walks(pairs, len(items))
    costs = _other_costs(items, spots[order], walks, seed) | {"embedding": walks.cost(spots[order])}
    if swaps:
        order = refine_by_swaps(order, spots, pairs, swaps, seed=seed, progress=progress)
        costs["after swaps"] = walks.cost(spots[order])
    return FloorPlan(list(items), spots[order], costs)


def _other_costs(items: Sequence[str], taken: Array, walks: Walks, seed: int) -> dict[str, float]:
    """S of a random, the alphabetical and the popular arrangement of the taken places (N, 3)."""
    random = np.random.default_rng(seed)
    shuffled = [walks.cost(random.permutation(taken)) for _ in range(RANDOM_ARRANGEMENTS)]
    by_title = sorted(range(len(items)), key=lambda number: items[number].casefold())
    by_popularity = np.argsort(-walks.starts, kind="stable")
    near = taken[np.argsort(np.linalg.norm(taken, axis=1), kind="stable")]
    return {
        "random": float(np.mean(shuffled)),
        "alphabetical": walks.cost(_filled(by_title, along_shelves(taken))),
        "by popularity": walks.cost(_filled(by_popularity, near)),
    }


def _filled(order: Sequence[int] | Order, sorted_places: Array) -> Array:
    """Positions (N, 3) of items where the first in ``order`` gets the first place."""
    positions = np.empty_like(sorted_places)
    positions[np.asarray(order)] = sorted_places
    return positions
