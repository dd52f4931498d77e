"""The article's claims on the embedded library and on digits, and the command."""

from pathlib import Path

import pytest
from sklearn.manifold import trustworthiness

from benchmarks import library_embedding as benchmark
from benchmarks.library_embedding import LIBRARY, digit_maps, library_row
from datamodules import BorrowingDataModule


@pytest.mark.slow
def test_the_librarys_subjects_are_found_again_and_its_readers_walk_less() -> None:
    data = BorrowingDataModule(val_fraction=0)
    data.setup("fit")
    row = library_row(data, 500, 0, LIBRARY["gaussian, d = 3"])
    assert row["rand"] > 0.9
    assert row["spearman"] < -0.8
    assert row["after swaps"] < row["embedding"] < row["by popularity"] < row["random"]
    assert row["embedding"] < 0.75 * row["alphabetical"]


@pytest.mark.slow
def test_maps_of_digits_are_as_trustworthy_as_scikit_learns() -> None:
    maps, data = digit_maps(300, 600, 0)
    found = {name: trustworthiness(data.points, points, n_neighbors=10) for name, points in maps.items()}
    pca, sne, article, tsne = found.values()
    assert article > tsne - 0.02
    assert pca + 0.05 < sne < article


@pytest.mark.slow
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.main(["--quick", "--out", str(tmp_path)])
    text = (tmp_path / "quick" / "library_embedding.md").read_text()
    assert all(name in text for name in LIBRARY)
    assert (tmp_path / "quick" / "digits_maps.png").stat().st_size > 10_000
    assert "after swaps" in capsys.readouterr().out
