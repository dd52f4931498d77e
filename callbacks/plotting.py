"""What pictures of labeled points have in common: colors, legends, and texts that the fonts can write."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from matplotlib import colormaps, font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from numpy.typing import NDArray
from PIL import Image

# Fonts with Chinese characters, as systems have them; the first installed one is used where it is needed.
_CHINESE = (
    "Noto Sans CJK SC",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "SimHei",
    "Microsoft YaHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Arial Unicode MS",
)
_MAX_LEGEND = 40
_LEGEND_SIZE = 40


def as_picture(figure: Figure) -> Image.Image:
    """A figure's pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def scatter_by_label(
    axes: Axes,
    points: NDArray[Any],
    labels: NDArray[np.int64] | None,
    names: Sequence[str],
    size: float,
    marker: str = "o",
) -> None:
    """Draw points (N, 2) or (N, 3), each label, (N,), in a color of its own; one color without labels.

    Args:
        axes: where; three-dimensional ones for points (N, 3).
        points: the points.
        labels: numbers of `names`.
        names: the labels' names.
        size: area of a point, in square points of typography.
        marker: its shape, as matplotlib names it.
    """
    style: dict[str, Any] = {"s": size, "linewidths": 0, "alpha": 0.8, "marker": marker}
    if labels is None:
        axes.scatter(*points.T, **style)
        return
    colors = colormaps["tab10" if len(names) <= 10 else "turbo"].resampled(max(len(names), 10))
    for label in np.unique(labels):
        axes.scatter(*points[labels == label].T, color=colors(int(label)), label=names[label], **style)


def add_legend(figure: Figure, axes: Axes) -> None:
    """A legend beside the axes; the first 40 labels if there are more."""
    handles, names = axes.get_legend_handles_labels()
    if not handles:
        return
    legend = figure.legend(
        handles[:_MAX_LEGEND],
        writable(names[:_MAX_LEGEND], "label"),
        title=f"the first {_MAX_LEGEND} of {len(handles)}" if len(handles) > _MAX_LEGEND else None,
        loc="outside right upper",
        fontsize="small",
    )
    for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
        handle.set_sizes([_LEGEND_SIZE])  # type: ignore[union-attr]
        as_written(text)


def as_written(text: Any) -> None:
    """Let a text of matplotlib's show a name as it is: $ begins no formula, the fonts are those of `writable`."""
    text.set_parse_math(False)
    text.set_fontfamily(_families())


def writable(names: Sequence[str], what: str) -> list[str]:
    """The names, those that no font can write replaced by WHAT and their number; a warning says so."""
    shown = [name if all(map(_has_glyph, name)) else f"{what} {number}" for number, name in enumerate(names)]
    if missing := [name for name, text in zip(names, shown, strict=True) if name != text]:
        rank_zero_warn(
            f"no installed font can write {missing[0]!r} ({len(missing)} of {len(names)} names): pictures show"
            f" numbers instead. For Chinese, install a font such as {_CHINESE[0]!r}"
        )
    return shown


@cache
def _has_glyph(character: str) -> bool:
    return any(font.get_char_index(ord(character)) for font in _fonts())


@cache
def _families() -> list[str]:
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in _CHINESE if name in installed)][:2]


@cache
def _fonts() -> list[FT2Font]:
    return [FT2Font(font_manager.findfont(family)) for family in _families()]
