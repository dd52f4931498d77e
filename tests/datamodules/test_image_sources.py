"""What a source is taken for, and what is said where it is nothing."""

import os
from pathlib import Path

import pytest

from datamodules.image_sources import open_source


@pytest.mark.parametrize("source", ["embeded", "Embedded", "embedded "])
def test_misspelled_embedded(source: str) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist; did you mean 'embedded'"):
        open_source(source)


def test_misspelled_path(class_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=f"did you mean '{class_folders}'"):
        open_source(f"{class_folders}x")
    monkeypatch.chdir(class_folders.parent)
    with pytest.raises(FileNotFoundError, match="did you mean 'pictures'"):
        open_source("picture")
    with pytest.raises(FileNotFoundError, match="give 'embedded', the path of an IDX file"):
        open_source("quite/another.zip")


def test_unknown_kind(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("1,2")
    with pytest.raises(ValueError, match=r"data.csv' is of no known kind: give an IDX file"):
        open_source(str(path))


def test_home_folder(class_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(class_folders.parent))
    assert len(open_source(os.path.join("~", "pictures"))["train"]) == 12
