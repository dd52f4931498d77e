"""Modes, sizes and damage of single pictures."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules.pixels import BadImageError, PixelFormat, decode


def encoded(image: Image.Image, kind: str = "png", **options: Any) -> bytes:
    """The picture as a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_becomes_gray_or_color(mode: str, channels: int) -> None:
    image = Image.new("RGB", (8, 8), "white").convert(mode)
    pixels = PixelFormat((4, 4), channels).convert(encoded(image, "tiff"))
    assert pixels.shape == (channels, 4, 4)
    assert pixels.dtype == np.uint8
    assert np.all(pixels == 255)


def test_sixteen_bits_keep_their_upper_byte() -> None:
    values = np.array([[0, 255], [256, 65535]], np.uint16)
    pixels = PixelFormat((2, 2), 1).convert(encoded(Image.fromarray(values)))
    assert pixels[0].tolist() == [[0, 0], [1, 255]]


def test_transparent_palette() -> None:
    image = Image.new("P", (2, 2))
    image.putpalette([10, 20, 30])
    pixels = PixelFormat((2, 2), 3).convert(encoded(image, transparency=bytes([0])))
    assert pixels[:, 0, 0].tolist() == [10, 20, 30]


def test_crop_keeps_proportions_and_center() -> None:
    picture = np.zeros((6, 10), np.uint8)
    picture[:, 2:8] = 255
    assert np.all(PixelFormat((6, 6), 1, "crop").convert(picture) == 255)
    squeezed = PixelFormat((6, 6), 1, "resize").convert(picture)
    assert squeezed[0, 0, 0] == 0
    assert squeezed[0, 0, 3] == 255
    smaller = PixelFormat((3, 3), 1, "crop").convert(picture)
    assert smaller.min() > 200
    assert np.array_equal(smaller, smaller[:, :, ::-1])


def test_keep_refuses_other_sizes() -> None:
    with pytest.raises(ValueError, match=r"6 pixels high and 10 wide, but the first image 8 and 8.*give the size"):
        PixelFormat((8, 8), 1, "keep").convert(np.zeros((6, 10), np.uint8))


def test_damage() -> None:
    for stored in (b"", b"hello", encoded(Image.new("L", (64, 64)))[:-40]):
        with pytest.raises(BadImageError):
            decode(stored)
