"""The benchmark of large vocabularies runs, and its text is what it says."""

from collections import Counter
from pathlib import Path

import pytest

from benchmarks import word_vectors_large as benchmark


def test_text_has_all_words_by_zipfs_law(tmp_path: Path) -> None:
    benchmark.write_text(tmp_path / "text", 50_000, 1000)
    words = (tmp_path / "text").read_text().split()
    counts = Counter(words)
    assert len(words) == 50_000
    assert len(counts) == 1000
    total = sum(1 / rank for rank in range(1, 1001))
    for number in (0, 1, 9):
        assert counts[f"w{number}"] == pytest.approx(49_000 / (number + 1) / total, rel=0.15)


def test_quick(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.main(["--quick", "--out", str(tmp_path)])
    report = (tmp_path / "quick" / "word_vectors_large.md").read_text()
    assert report.strip() in capsys.readouterr().out
    assert "| cpu | 4,096 |" in report
