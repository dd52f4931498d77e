"""A picture of a training run as a movement in time: parameters, loss, and how fast the loss falls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from callbacks.pictures import Pictures
from callbacks.plotting import as_picture
from callbacks.protocols import SupportsFlow, require

Point = dict[str, Any]
SERIES = ("step", "time", "loss", "dloss_dt", "dloss_dt_predicted", "theta", "ode_theta", "ode_loss")
_MAX_COMPONENTS = 10


class FlowPicture(Pictures):
    """Draws theta(t), L(t), and dL/dt as measured and as predicted by <grad L, theta'>.

    Dashed lines are the exact trajectory where the module knows it. Of theta up to 10 components are drawn; a module
    without "theta" in its points, such as one that trains a network, gets the other two. The history is part of the
    checkpoint: a resumed run draws the picture of the whole run. `callbacks.pictures.Pictures` says where the
    pictures, "flow", go.

    Args:
        every_n_steps: steps from one picture to the next; None draws one at the end of each validation.
        max_points: when there are more, every other one is dropped, and of those to come too.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, every_n_steps: int | None = None, max_points: int = 5000) -> None:
        super().__init__(every_n_steps)
        if max_points < 2:
            raise ValueError(f"max_points must be at least 2, got {max_points}")
        self.max_points = max_points
        self._stride = 1
        self._points: list[Point] = []
        self._seen = -1

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check that the module measures."""
        require(pl_module, SupportsFlow, self)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a history of its own in a run that is not resumed."""
        super().on_train_start(trainer, pl_module)
        if trainer.global_step == 0:
            self._stride, self._points, self._seen = 1, [], -1

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep what was measured at this step, and draw if it is time."""
        module: SupportsFlow = require(pl_module, SupportsFlow, self)
        point = module.flow_point()
        if point is not None and point["step"] != self._seen:
            self._keep({name: point[name] for name in SERIES if name in point})
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def _keep(self, point: Point) -> None:
        self._seen = point["step"]
        if self._seen % self._stride:
            return
        self._points.append(point)
        if len(self._points) > self.max_points:
            self._stride *= 2
            self._points = [point for point in self._points if point["step"] % self._stride == 0]

    def state_dict(self) -> dict[str, Any]:
        """The history, as plain lists."""
        return {"stride": self._stride, "points": list(self._points), "seen": self._seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with that history."""
        self._stride, self._points = state_dict["stride"], list(state_dict["points"])
        self._seen = state_dict["seen"]

    def draw(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Image.Image]:
        """The picture; nothing before the first step that was measured."""
        return {"flow": flow_picture(self._points)} if self._points else {}


def flow_picture(points: Sequence[Point]) -> Image.Image:
    """The panels theta(t) (if the points have it), L(t) and dL/dt, one below the other."""
    panels = [_draw_theta] * ("theta" in points[0]) + [_draw_loss, _draw_slope]
    figure = Figure(figsize=(7, 2.5 * len(panels)), dpi=100, layout="constrained")
    column = figure.subplots(len(panels), sharex=True)
    for axes, draw in zip(column, panels, strict=True):
        draw(axes, points)
        axes.grid(True, alpha=0.3)
        axes.legend(loc="upper right", fontsize="small")
    column[-1].set_xlabel("t = step · h")
    return as_picture(figure)


def _draw_theta(axes: Axes, points: Sequence[Point]) -> None:
    for i in range(min(len(points[0]["theta"]), _MAX_COMPONENTS)):
        color = f"C{i}"
        axes.plot(*_line(points, "theta", i), color=color, label=f"θ{i}")
        axes.plot(*_line(points, "ode_theta", i), color=color, linestyle="--", label=f"θ{i}, exact")
    _only_what_is_there(axes)
    axes.set_ylabel("θ(t)")


def _draw_loss(axes: Axes, points: Sequence[Point]) -> None:
    axes.plot(*_line(points, "loss"), color="C0", label="L")
    axes.plot(*_line(points, "ode_loss"), color="C0", linestyle="--", label="L, exact")
    _only_what_is_there(axes)
    if all(point["loss"] > 0 for point in points):
        axes.set_yscale("log")
    axes.set_ylabel("L(t)")


def _draw_slope(axes: Axes, points: Sequence[Point]) -> None:
    axes.plot(*_line(points, "dloss_dt"), color="C1", label="measured")
    axes.plot(*_line(points, "dloss_dt_predicted"), color="C2", linestyle="--", label="⟨∇L, θ'⟩")
    # Jumps are orders of magnitude larger than all else, and of either sign.
    axes.set_yscale("symlog", linthresh=0.1)
    axes.set_ylabel("dL/dt")


def _line(points: Sequence[Point], name: str, component: int | None = None) -> tuple[list[float], list[float]]:
    """Times and values of a series, at the points that have it."""
    there = [point for point in points if name in point]
    values = [point[name] if component is None else point[name][component] for point in there]
    return [point["time"] for point in there], values


def _only_what_is_there(axes: Axes) -> None:
    for line in list(axes.lines):
        if not len(np.asarray(line.get_xdata())):
            line.remove()
