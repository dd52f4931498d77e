"""Folders and zips of pictures."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from datamodules.image_sources import open_source
from datamodules.pixels import BadImageError, ImageSource, PixelFormat

COLOR = PixelFormat((8, 8), 3)


def read(source: ImageSource, skip_bad: bool = False) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """All images and labels of a source, and what is wrong with the others."""
    return source.read(np.arange(len(source)), COLOR, skip_bad=skip_bad)


def zipped(folder: Path) -> Path:
    """The same files as a zip."""
    return Path(shutil.make_archive(str(folder), "zip", folder))


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_class_folders(class_folders: Path, pixels: NDArray[np.uint8], kind: str) -> None:
    (class_folders / "a" / "notes.txt").write_text("no picture")
    (class_folders / "__MACOSX").mkdir()
    (class_folders / "__MACOSX" / "00.png").write_text("no picture")
    (class_folders / "b" / ".hidden.png").write_text("no picture")
    source = open_source(str(zipped(class_folders) if kind == "zip" else class_folders))
    assert list(source) == ["train"]
    images, labels, _ = read(source["train"])
    assert np.array_equal(images.permute(0, 2, 3, 1), pixels)
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("nested", ["train", "data/images"])
def test_nested_class_folders(class_folders: Path, tmp_path: Path, kind: str, nested: str) -> None:
    shutil.copytree(class_folders, tmp_path / "outer" / nested)
    source = open_source(str(zipped(tmp_path / "outer") if kind == "zip" else tmp_path / "outer"))
    assert list(source) == ["train"]
    assert source["train"].labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_train_and_test_folders(class_folders: Path, tmp_path: Path, kind: str) -> None:
    for split in ("train", "test"):
        shutil.copytree(class_folders, tmp_path / "outer" / "set" / split)
    shutil.rmtree(tmp_path / "outer" / "set" / "test" / "a")
    sources = open_source(str(zipped(tmp_path / "outer") if kind == "zip" else tmp_path / "outer"))
    assert sources["train"].labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert sources["test"].labels.tolist() == [1] * 4 + [2] * 4, "a class has the same number in both splits"


def test_one_folder_has_no_classes(class_folders: Path) -> None:
    assert open_source(str(class_folders / "a"))["train"].labels.tolist() == [-1] * 4


def test_empty(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no images"):
        open_source(str(tmp_path / "empty"))
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("notes.txt", "no picture")
    with pytest.raises(ValueError, match=r"empty\.zip holds no images"):
        open_source(str(tmp_path / "empty.zip"))
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    with pytest.raises(ValueError, match=r"bad\.zip: damaged zip file"):
        open_source(str(tmp_path / "bad.zip"))


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def overwritten(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[60:90] = b"\xff" * 30
    path.write_bytes(content)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def no_image(path: Path) -> None:
    path.write_text("hello")


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("damage", [truncated, overwritten, emptied, no_image])
def test_damaged_picture(class_folders: Path, kind: str, suffix: str, damage: Callable[[Path], None]) -> None:
    if (damage, suffix) == (overwritten, "jpg"):
        pytest.skip("an overwritten JPEG is a valid one")
    path = class_folders / "b" / f"06x.{suffix}"
    Image.effect_noise((64, 64), 50).save(path)
    damage(path)
    source = open_source(str(zipped(class_folders) if kind == "zip" else class_folders))["train"]
    name = rf"pictures(\.zip: |/)b/06x.{suffix}: "
    with pytest.raises(BadImageError, match=name) as caught:
        read(source)
    assert len(str(caught.value).splitlines()) == 1
    assert "0x" not in str(caught.value)
    images, labels, bad = read(source, skip_bad=True)
    assert len(images) == len(labels) == 12
    assert bad == [str(caught.value)]


def test_damaged_zip_member(class_folders: Path) -> None:
    path = zipped(class_folders)
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("b/06.png")
    content = bytearray(path.read_bytes())
    content[member.header_offset + 60] ^= 255
    path.write_bytes(content)
    with pytest.raises(BadImageError, match=r"pictures.zip: b/06.png: cannot be unpacked \("):
        read(open_source(str(path))["train"])


def test_folder_changes_its_stamp(class_folders: Path) -> None:
    stamp = open_source(str(class_folders))["train"].stamp()
    assert open_source(str(class_folders))["train"].stamp() == stamp
    (class_folders / "b" / "06.png").unlink()
    assert open_source(str(class_folders))["train"].stamp() != stamp


@pytest.mark.data
def test_cifar(shared_data: Path) -> None:
    source = open_source(str(shared_data / "img" / "cifar10_train25k_jpeg.zip"))["train"]
    assert np.bincount(source.labels).tolist() == [2500] * 10
    images, _, _ = source.read(np.arange(0, 25000, 100), PixelFormat((32, 32), 3), skip_bad=False)
    assert images.float().mean((0, 2, 3)).tolist() == pytest.approx([125, 123, 114], abs=8)


@pytest.mark.data
def test_omniglot(shared_data: Path) -> None:
    source = open_source(str(shared_data / "img" / "omniglot_small1.zip"))["train"]
    assert np.bincount(source.labels).tolist() == [20] * 136
    assert source.first_size(np.arange(5)) == (105, 105)
    images, _, _ = source.read(np.arange(10), PixelFormat((105, 105), 1), skip_bad=False)
    assert set(images.unique().tolist()) == {0, 255}
