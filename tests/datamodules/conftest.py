"""Small data sets, made on the fly."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image


@pytest.fixture(autouse=True)
def arrow_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keeps the tables that `datasets` writes out of the user's cache."""
    import datasets

    cache = tmp_path_factory.mktemp("arrow")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    datasets.disable_progress_bars()
    return cache


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    """Twelve random color pictures, (12, 8, 8, 3)."""
    return np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)


@pytest.fixture
def class_folders(tmp_path: Path, pixels: NDArray[np.uint8]) -> Path:
    """A folder of three class folders with four PNGs each: picture i is <i // 4>/<i>.png."""
    folder = tmp_path / "pictures"
    for number, picture in enumerate(pixels):
        path = folder / "abc"[number // 4] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    return folder
