"""From stored pictures to uint8 pixels of one shape."""

import io
import struct
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

Stored = bytes | NDArray[np.uint8]
"""A picture as a source keeps it: an encoded file, or pixels (H, W) or (H, W, C)."""

# What Pillow raises on damaged files, by format and by where the damage is.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error)


class BadImageError(ValueError):
    """A picture that cannot be read or decoded."""


@dataclass(frozen=True)
class PixelFormat:
    """The shape that all pictures of a data set are brought to.

    Args:
        size: height and width in pixels.
        channels: 1 (gray) or 3 (red, green, blue).
        resize: "resize" scales to `size` whatever the proportions; "crop" scales until `size` is covered and cuts
            out the center; "keep" takes only pictures that have this size. Scaling is bicubic with antialiasing.
    """

    size: tuple[int, int]
    channels: int
    resize: Literal["resize", "crop", "keep"] = "resize"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W); a picture takes as many bytes."""
        return (self.channels, *self.size)

    def convert(self, stored: Stored) -> NDArray[np.uint8]:
        """Returns the pixels of a picture, (C, H, W).

        Raises:
            BadImageError: where it cannot be decoded.
            ValueError: where it has another size than "keep" wants.
        """
        image = self._scaled(_in_mode(decode(stored), "L" if self.channels == 1 else "RGB"))
        pixels = np.asarray(image)
        return pixels[None] if self.channels == 1 else pixels.transpose(2, 0, 1)

    def _scaled(self, image: Image.Image) -> Image.Image:
        height, width = self.size
        if image.size == (width, height):
            return image
        if self.resize == "keep":
            raise ValueError(
                f"{image.height} pixels high and {image.width} wide, but the first image {height} and {width}: "
                "the sizes are mixed, so give the size to bring them to"
            )
        if self.resize == "crop":
            return ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
        return image.resize((width, height), Image.Resampling.BICUBIC)


def decode(stored: Stored) -> Image.Image:
    """Returns a picture, completely decoded.

    Raises:
        BadImageError: where that is impossible.
    """
    if isinstance(stored, np.ndarray):
        return Image.fromarray(stored)
    try:
        image = Image.open(io.BytesIO(stored))
        image.load()
    except Image.UnidentifiedImageError:
        what = (
            "not an image, or damaged in its header"
            if stored
            else "no data (an empty file, or one that cannot be unpacked)"
        )
        raise BadImageError(what) from None
    except _DAMAGE as error:
        raise BadImageError(f"damaged image ({error})") from None
    return image


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Converts to gray ("L") or "RGB"; transparency is dropped, 16-bit gray keeps its upper byte."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)


class ImageSource(ABC):
    """N stored pictures with their labels; nothing is decoded before it is asked for."""

    @abstractmethod
    def __len__(self) -> int:
        """N, found without decoding."""

    @property
    @abstractmethod
    def labels(self) -> NDArray[np.int64]:
        """Class numbers, (N,); -1 where the source has none."""

    @abstractmethod
    def name(self, row: int) -> str:
        """Names a picture in messages: the file, and where it stands in it."""

    @abstractmethod
    def load(self, row: int) -> Stored:
        """Returns a picture as it is stored.

        Raises:
            BadImageError: where it cannot be read; the message need not name it.
        """

    @abstractmethod
    def stamp(self) -> str:
        """Identifies the contents without reading them all: changes when the files change."""

    def close(self) -> None:  # noqa: B027
        """Lets go of what reading has kept; the next access opens it again."""

    def first_size(self, rows: NDArray[np.int64]) -> tuple[int, int]:
        """Returns height and width of the first of these pictures that can be decoded."""
        for row in rows.tolist():
            try:
                image = decode(self.load(row))
            except BadImageError:
                continue
            return image.height, image.width
        raise BadImageError(f"{self.name(int(rows[0]))}: neither this nor any other image can be decoded")

    def named(self, row: int, error: ValueError) -> ValueError:
        """Returns an error of the same type that names the picture it is about."""
        return type(error)(f"{self.name(row)}: {error}")

    def read(
        self, rows: NDArray[np.int64], pixel_format: PixelFormat, *, skip_bad: bool
    ) -> tuple[Tensor, Tensor, list[str]]:
        """Decodes pictures.

        Returns:
            Pixels (n, C, H, W) uint8, labels (n,) int64 and what is wrong with the pictures left out.

        Raises:
            BadImageError: at the first picture that cannot be decoded, unless `skip_bad`.
        """
        pixels = np.empty((len(rows), *pixel_format.shape), np.uint8)
        kept: list[int] = []
        bad: list[str] = []
        for row in rows.tolist():
            try:
                pixels[len(kept)] = pixel_format.convert(self.load(row))
            except ValueError as error:
                named = self.named(row, error)
                if not skip_bad or not isinstance(error, BadImageError):
                    raise named from None
                bad.append(str(named))
            else:
                kept.append(row)
        return torch.from_numpy(pixels[: len(kept)]), torch.from_numpy(self.labels[kept]), bad
