"""The profile of a step has shares that make sense."""

import gzip
from pathlib import Path

import pytest

from benchmarks import word_vectors_profile as benchmark
from benchmarks.word_vectors_contestants import ADAGRAD, OURS, write_corpus


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with an English text that is long enough for the warm-up."""
    (tmp_path / "text").mkdir()
    with gzip.open(tmp_path / "text/en_mixed.txt.gz", "wt", encoding="utf-8") as file:
        file.writelines(" ".join(f"w{(7 * line + word) % 500}" for word in range(300)) + "\n" for line in range(1000))
    return tmp_path


def test_shares_are_of_the_recorded_time(data: Path) -> None:
    recorder = benchmark.measure(write_corpus("english", data, data, 1), ADAGRAD, 3)
    shares = recorder.shares(100)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert 0.3 < sum(shares.values()) < 1
    assert {"aten::bmm", "aten::index_add_", "aten::index_select"} <= set(shares)
    assert list(recorder.shares(8)) == list(shares)[:8]


def test_quick(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.main(["--quick", "--data", str(data), "--out", str(data)])
    report = (data / "quick" / "word_vectors_profile.md").read_text()
    assert report.strip() in capsys.readouterr().out
    assert all(f"{method}, " in report for method in OURS)
    assert "| bmm |" in report
