"""A picture of where the codes of validation images lie in the plane."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from PIL import Image
from torch import Tensor

from callbacks.images import batch_images, batch_labels
from callbacks.pictures import Pictures, validation_batches
from callbacks.plotting import as_picture
from callbacks.protocols import SupportsEncoding, require

_RADII = (1, 2, 3)
_NO_CLASS = -1


class CodeScatter(Pictures):
    """Writes a scatter plot of the two-dimensional codes of validation images, colored by class.

    Circles of radius 1, 2 and 3 show where a standard normal code would lie: 39 %, 86 % and 99 % of the
    points inside. Without labels (integers, one an image) all points have one color. Codes that are NaN or
    infinite are left out.

    The images are the first ones of process 0, the same at every step. With `every_n_steps`, pictures start
    when the trainer has its validation loaders: at once in most runs. `callbacks.pictures.Pictures` says
    where the pictures, "codes", go.

    Args:
        num_points: validation images to encode, at most.
        every_n_steps: steps from one picture to the next; None draws one at the end of each validation.

    Raises:
        ValueError: an argument is out of its range, or (at the first picture) codes have another dimension
            than 2.
    """

    def __init__(self, num_points: int = 2000, every_n_steps: int | None = None) -> None:
        super().__init__(every_n_steps)
        if num_points < 1:
            raise ValueError(f"num_points must be at least 1, got {num_points}")
        self.num_points = num_points

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check that the module encodes."""
        require(pl_module, SupportsEncoding, self)

    def draw(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Image.Image]:
        """The plot; nothing where there are no validation images."""
        points: list[Tensor] = []
        module: SupportsEncoding = require(pl_module, SupportsEncoding, self)
        for batch in validation_batches(trainer):
            codes = module.encode(batch_images(batch, self))
            if codes.ndim != 2 or codes.shape[1] != 2:
                raise ValueError(
                    f"CodeScatter draws codes of dimension 2, those of {type(pl_module).__name__} have dimension"
                    f" {codes[0].numel()}: leave the callback out or set latent_dim=2"
                )
            labels = batch_labels(batch)
            classes = codes.new_full((len(codes),), _NO_CLASS) if labels is None else labels.to(codes)
            points += torch.cat([codes, classes[:, None]], dim=1).float().cpu()
            if len(points) >= self.num_points:
                break
        return {"codes": scatter(torch.stack(points[: self.num_points]))} if points else {}


def scatter(points: Tensor) -> Image.Image:
    """A picture of rows (x, y, class), (N, 3), with circles around the origin; a legend if classes differ."""
    points = points[points.isfinite().all(dim=1)]
    figure = Figure(figsize=(6, 6), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    classes = points[:, 2].unique().int().tolist()
    colors = colormaps["tab10" if len(classes) <= 10 else "turbo"].resampled(max(len(classes), 10))
    for place, label in enumerate(classes):
        x, y = points[points[:, 2] == label, :2].T.numpy()
        axes.scatter(x, y, s=6, linewidths=0, alpha=0.7, color=colors(place), label=str(label))
    if len(classes) > 1:
        axes.legend(loc="upper right", markerscale=2, fontsize="small", ncols=-(-len(classes) // 20))
    _orientation(axes, reach=1.05 * max([_RADII[-1], *points[:, :2].abs().flatten().tolist()]))
    return as_picture(figure)


def _orientation(axes: Axes, reach: float) -> None:
    """Equal axes around the origin, as far as the points reach, and the circles."""
    for radius in _RADII:
        axes.add_patch(Circle((0, 0), radius, fill=False, color="0.5", linewidth=0.8))
    axes.set_aspect("equal")
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
