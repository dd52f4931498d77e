"""Hugging Face data sets, and the tables that large sources become."""

import shutil
import zipfile
from pathlib import Path

import datasets
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from datamodules.image_hub import HubImages, bad_rows, to_arrow
from datamodules.image_sources import open_source
from datamodules.pixels import BadImageError, PixelFormat

COLOR = PixelFormat((8, 8), 3)


def table(pixels: NDArray[np.uint8]) -> datasets.Dataset:
    """A data set with a picture and a class in each row."""
    features = datasets.Features(
        {"number": datasets.Value("int64"), "img": datasets.Image(), "kind": datasets.ClassLabel(names=["x", "y"])}
    )
    rows = {
        "number": range(len(pixels)),
        "img": [Image.fromarray(picture) for picture in pixels],
        "kind": [k % 2 for k in range(len(pixels))],
    }
    return datasets.Dataset.from_dict(rows, features=features)


def check(source: str, pixels: NDArray[np.uint8], labels: list[int]) -> None:
    images = open_source(source)["train"]
    read, classes, _ = images.read(np.arange(12), COLOR, skip_bad=False)
    assert np.array_equal(read.permute(0, 2, 3, 1), pixels)
    assert classes.tolist() == labels


def test_image_folder(class_folders: Path, pixels: NDArray[np.uint8]) -> None:
    check(f"hf:{class_folders}", pixels, [0] * 4 + [1] * 4 + [2] * 4)


def test_parquet_file_and_folder(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    (tmp_path / "set").mkdir()
    table(pixels).to_parquet(tmp_path / "set" / "train.parquet")
    for source in (tmp_path / "set", tmp_path / "set" / "train.parquet"):
        check(f"hf:{source}", pixels, [0, 1] * 6)


def test_saved_data_set(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    table(pixels).save_to_disk(tmp_path / "one")
    check(f"hf:{tmp_path / 'one'}", pixels, [0, 1] * 6)
    datasets.DatasetDict({"train": table(pixels), "test": table(pixels[:4])}).save_to_disk(tmp_path / "two")
    check(f"hf:{tmp_path / 'two'}", pixels, [0, 1] * 6)
    assert len(open_source(f"hf:{tmp_path / 'two'}")["test"]) == 4


def test_errors(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    table(pixels).remove_columns("img").save_to_disk(tmp_path / "words")
    with pytest.raises(ValueError, match=r"no image column: it has number \(Value\), kind \(ClassLabel\)"):
        open_source(f"hf:{tmp_path / 'words'}")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(FileNotFoundError, match=r"data set 'hf:.*nothing' cannot be loaded: "):
        open_source(f"hf:{tmp_path / 'nothing'}")


def test_unknown_name_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="data set 'hf:no-one/nothing' cannot be loaded: ") as caught:
        open_source("hf:no-one/nothing")
    assert len(str(caught.value).splitlines()) == 1


def test_rows_without_a_label_or_a_picture(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int32")})
    rows = {"image": [Image.fromarray(pixels[0]), None], "label": [None, 3]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "set")
    images = open_source(f"hf:{tmp_path / 'set'}")["train"]
    assert images.labels.tolist() == [-1, 3]
    with pytest.raises(BadImageError, match="set: row 1: missing"):
        images.read(np.arange(2), COLOR, skip_bad=False)


def test_table_is_written_once(class_folders: Path, arrow_cache: Path) -> None:
    first = to_arrow(open_source(str(class_folders))["train"], str(class_folders), "train")
    written = {path: path.stat().st_mtime_ns for path in arrow_cache.rglob("*.arrow")}
    assert len(written) == 1
    again = to_arrow(open_source(str(class_folders))["train"], str(class_folders), "train")
    assert {path: path.stat().st_mtime_ns for path in arrow_cache.rglob("*.arrow")} == written
    assert first.stamp() == again.stamp()
    (class_folders / "a" / "00.png").unlink()
    fewer = to_arrow(open_source(str(class_folders))["train"], str(class_folders), "train")
    assert (len(first), len(fewer)) == (12, 11)


def test_bad_rows(class_folders: Path, arrow_cache: Path) -> None:
    (class_folders / "b" / "05.png").write_bytes(b"hello")
    (class_folders / "b" / "06.png").unlink()
    images = to_arrow(open_source(str(class_folders))["train"], str(class_folders), "train")
    (class_folders / "c" / "10.png").unlink()
    assert isinstance(images, HubImages)
    bad = bad_rows(images, np.array([10, 0, 9, 5]), COLOR)
    assert bad == {
        9: f"{class_folders / 'c' / '10.png'}: cannot be read (No such file or directory)",
        5: f"{class_folders / 'b' / '05.png'}: not an image, or damaged in its header",
    }
    files = len(list(arrow_cache.rglob("*.arrow")))
    assert bad_rows(images, np.array([10, 0, 9, 5]), COLOR) == bad
    assert len(list(arrow_cache.rglob("*.arrow"))) == files


def test_zip_member_that_cannot_be_unpacked(class_folders: Path) -> None:
    path = shutil.make_archive(str(class_folders), "zip", class_folders)
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("b/06.png")
    content = bytearray(Path(path).read_bytes())
    content[member.header_offset + 60] ^= 255
    Path(path).write_bytes(content)
    images = to_arrow(open_source(path)["train"], path, "train")
    assert bad_rows(images, np.arange(12), COLOR) == {
        6: f"{path}: b/06.png: no data (an empty file, or one that cannot be unpacked)"
    }


def test_bad_rows_refuses_mixed_sizes(class_folders: Path) -> None:
    Image.new("RGB", (6, 6)).save(class_folders / "b" / "05.png")
    images = to_arrow(open_source(str(class_folders))["train"], str(class_folders), "train")
    with pytest.raises(ValueError, match=r"b/05.png: 6 pixels high and 6 wide.*give the size"):
        bad_rows(images, np.arange(12), PixelFormat((8, 8), 3, "keep"))
