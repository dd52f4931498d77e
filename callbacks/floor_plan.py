"""A library's floor plan: where each book stands, drawn, costed and written down."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.trainer.states import TrainerFn
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from callbacks.items import item_labels, read_vectors, required
from callbacks.pictures import Pictures
from callbacks.plotting import add_legend, as_picture, scatter_by_label
from callbacks.protocols import LibraryPlan, SupportsFloorPlan, SupportsItemVectors, require
from callbacks.tables import Cell, run_folder, write_csv

Floats = NDArray[np.floating[Any]]


class FloorPlan(Pictures):
    """Has the module plan where its items stand, for the borrowed `pairs` of the datamodule, after a validation.

    Writes a picture, "floor_plan", of the shelves beside the same places in random order, items colored by the
    datamodule's `labels` if it has any: `callbacks.pictures.Pictures` says where it goes. Writes the latest plan as
    `media/floor_plan.csv`, too, with the columns item, subject, x, y and z. Logs val/walking_cost, and
    val/walking_cost_NAME for each other arrangement that the module compares its plan with, such as "random".

    Args:
        every_n_validations: validations of a training from one plan to the next, which may take seconds; `validate`
            always makes one.
        seed: of the random order in the picture.

    Raises:
        ValueError: an argument is out of its range, or (at a validation) the datamodule has no pairs, its labels are
            not those of the items, or the plan isn't one of the items.
    """

    def __init__(self, every_n_validations: int = 1, seed: int = 0) -> None:
        super().__init__(seed=seed)
        if every_n_validations < 1:
            raise ValueError(f"every_n_validations must be at least 1, got {every_n_validations}")
        self.every_n_validations = every_n_validations
        self._validations = 0
        self._folder = Path()
        self._costs: dict[str, float] = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check that the module plans."""
        require(pl_module, SupportsFloorPlan, self)
        require(pl_module, SupportsItemVectors, self)
        self._folder = run_folder(trainer)

    def state_dict(self) -> dict[str, Any]:
        """How many validations there were."""
        return {"validations": self._validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self._validations = state_dict["validations"]

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Plan, write, log, if it is time."""
        if trainer.sanity_checking:
            return
        if trainer.state.fn == TrainerFn.FITTING:
            self._validations += 1
            if self._validations % self.every_n_validations:
                return
        super().on_validation_epoch_end(trainer, pl_module)
        costs = trainer.strategy.broadcast(self._costs)
        *others, own = costs
        for name in (own, *others):
            key = "val/walking_cost" + ("" if name == own else "_" + re.sub(r"\W+", "_", name))
            pl_module.log(key, costs[name], prog_bar=name == own, sync_dist=True, batch_size=1)

    def draw(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Image.Image]:
        """Make the plan, write it down and draw it."""
        module: SupportsFloorPlan = require(pl_module, SupportsFloorPlan, self)
        items, _ = read_vectors(pl_module, self)
        plan: LibraryPlan = module.floor_plan(required(trainer, "pairs", self))
        positions = np.asarray(plan.positions)
        if positions.shape != (len(items), 3):
            raise ValueError(f"a plan for {len(items)} items has positions ({len(items)}, 3), got {positions.shape}")
        self._costs = {name: float(cost) for name, cost in plan.costs.items()}
        labels, names = item_labels(trainer, len(items)) or (None, [])
        subjects = [""] * len(items) if labels is None else [names[label] for label in labels]
        rows: list[list[Cell]] = [
            [item, subject, *place] for item, subject, place in zip(items, subjects, positions.tolist(), strict=True)
        ]
        write_csv(self._folder / "media" / "floor_plan.csv", ["item", "subject", "x", "y", "z"], rows)
        shuffled = np.random.default_rng(self.seed).permutation(positions)
        return {"floor_plan": floor_plan_picture(positions, shuffled, labels, names, self._costs)}


def floor_plan_picture(
    positions: Floats,
    shuffled: Floats,
    labels: NDArray[np.int64] | None,
    names: Sequence[str],
    costs: Mapping[str, float],
) -> Image.Image:
    """A picture of a plan beside another order of the same places, seen alike.

    Args:
        positions: (N, 3); the entrance is the origin.
        shuffled: the other order of them.
        labels: (N,), numbers of `names`; None if there are none.
        names: the labels' names.
        costs: what readers walk, by arrangement; the last one is the plan's.
    """
    figure = Figure(figsize=(13, 6), dpi=100, layout="constrained")
    *others, own = costs
    titles = (f"the plan: walking cost {costs[own]:.3g}", "the same places in random order")
    for column, (places, title) in enumerate(zip((positions, shuffled), titles, strict=True), start=1):
        axes: Any = figure.add_subplot(1, 2, column, projection="3d")
        _draw_shelves(axes, positions)
        axes.scatter(0, 0, 0, s=220, color="black", marker="*", label="entrance")
        scatter_by_label(axes, places, labels, names, size=60 if len(places) <= 300 else 15, marker="s")
        axes.set_title(title)
        axes.set_aspect("equal")
    add_legend(figure, axes)
    figure.suptitle("walking cost: " + ", ".join(f"{name} {costs[name]:.3g}" for name in (*others, own)))
    return as_picture(figure)


def _draw_shelves(axes: Any, positions: Floats) -> None:
    """A line along each row of places that differ in their last coordinate only."""
    rows, which = np.unique(positions[:, :2].round(6), axis=0, return_inverse=True)
    for row, (x, y) in enumerate(rows):
        z = positions[which == row, 2]
        if len(z) > 1:
            axes.plot([x, x], [y, y], [z.min(), z.max()], color="0.8", linewidth=4, zorder=0)
