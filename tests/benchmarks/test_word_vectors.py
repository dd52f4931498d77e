"""The report from made-up rows, and whole runs on a tiny text."""

import gzip
import random
from pathlib import Path

import pytest

from benchmarks import word_vectors as benchmark
from benchmarks import word_vectors_contestants as contestants
from benchmarks.reporting import Row, read_rows
from benchmarks.word_vectors_contestants import ADAGRAD, GENSIM, GENSIM_FILE, OURS, SGD
from benchmarks.word_vectors_report import Measured, fastest, times_gensim, write_report

ORIGIN = {"date": "2026-01-02", "machine": "a machine"}
WORDS = [f"w{number}" for number in range(20)]


def _quality(method: str, epochs: int, values: list[float], seconds: float) -> list[Row]:
    row = {"language": "english", "words": "1000", "workers": "2", "method": method, "epochs": str(epochs)}
    times = {"unknown_pairs": "3", "seconds": str(seconds), "seconds_end_to_end": str(seconds + 1)}
    return [row | {"seed": str(seed), "spearman": str(value)} | times | ORIGIN for seed, value in enumerate(values)]


def _speed(values: dict[str, list[float]]) -> list[Row]:
    common = {"language": "english", "words": "1000", "epochs": "5", "workers": "2"} | ORIGIN
    return [
        {"contestant": name, "round": str(number), "training": str(value), "end_to_end": str(value / 2)} | common
        for name, of_rounds in values.items()
        for number, value in enumerate(of_rounds, 1)
    ]


def test_ratios_are_medians_over_rounds() -> None:
    # The ratio of the medians would be 1.
    rows = _speed({SGD: [4.0, 2.0, 1.0], GENSIM: [2.0, 1.0, 9.0]})
    assert times_gensim(rows, SGD, "training") == 2.0


def test_the_least_time_to_be_as_good_on_average() -> None:
    rows = _quality(SGD, 20, [0.9, 0.9], 40) + _quality(SGD, 3, [0.5, 0.3], 6) + _quality(SGD, 2, [0.5, 0.29], 4)
    assert fastest(rows, 0.4) == (SGD, 3)
    assert fastest(rows, 0.41) == (SGD, 20)
    assert fastest(rows, 0.95) is None
    assert fastest(rows + _quality(ADAGRAD, 5, [0.7, 0.7], 30), 0.41) == (ADAGRAD, 5)


@pytest.mark.parametrize(
    ("at_2", "at_5", "seconds", "verdicts"),
    [
        (0.4, 0.391, 50, [f"gensim's 0.400 -0.01: {SGD} 0.391, reached.", "2 epoch(s) in 50.0 s", ", goal r"]),
        (0.4, 0.389, 51, [f"gensim's 0.400 -0.01: {SGD} 0.389, not reached.", "0.51", "target reached, goal not"]),
        (0.3, 0.4, 101, [f"1.01 ({SGD}, 5 epoch(s) in 101.0 s against 100.0 s), not reached."]),
        (0.3, 0.399, 10, ["goal 0.5: not reached, with no number of epochs tried."]),
    ],
)
def test_targets_are_judged(tmp_path: Path, at_2: float, at_5: float, seconds: float, verdicts: list[str]) -> None:
    rows = _quality(GENSIM, 5, [0.41, 0.39], 100) + _quality(SGD, 2, [at_2], seconds)
    text = write_report(tmp_path, Measured([], rows + _quality(SGD, 5, [at_5], seconds)), judge=True)
    assert all(verdict in text for verdict in verdicts), text
    assert (tmp_path / "word_vectors.md").read_text() == text


def test_tables_hold_medians_and_means(tmp_path: Path) -> None:
    speed = _speed({SGD: [300.0, 100.0, 200.0], GENSIM: [100.0, 100.0, 100.0]})
    text = write_report(tmp_path, Measured(speed, _quality(GENSIM, 5, [0.41, 0.39], 100)), judge=False)
    assert f"| {SGD} | 200 | 2.00 | 100 | 2.00 |" in text
    assert "| gensim | 5 | 0.400 ± 0.014 | 100.0 | 101.0 |" in text
    assert "3 pairs have an unknown word" in text
    assert "these numbers mean nothing" in text
    assert "reached" not in text


# ---- Whole runs ----


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with an English text of 300 lines and word pairs."""
    drawn = random.Random(0)
    lines = [" ".join(drawn.choices(WORDS, k=30)) for _ in range(300)]
    pairs = [f"{WORDS[i]}\t{WORDS[i + 1]}\t{drawn.random()}" for i in range(10)]
    for name, content in (("text/en_mixed.txt.gz", lines), ("wordsim/wordsim353.tsv.gz", [*pairs, "no\tword\t1"])):
        (tmp_path / name).parent.mkdir()
        with gzip.open(tmp_path / name, "wt", encoding="utf-8") as file:
            file.write("\n".join(content) + "\n")
    return tmp_path


def test_the_corpus_is_the_text_in_words(data: Path) -> None:
    corpus = contestants.write_corpus("english", data, data, workers=1, lines=7)
    assert corpus.words == 7 * 30
    text = gzip.decompress((data / "text/en_mixed.txt.gz").read_bytes()).decode()
    assert corpus.path.read_text().splitlines() == text.splitlines()[:7]


@pytest.mark.parametrize("name", [*OURS, GENSIM, GENSIM_FILE])
def test_contestants_learn_the_same_words(data: Path, name: str) -> None:
    pytest.importorskip("gensim")
    corpus = contestants.write_corpus("english", data, data, workers=1)
    ends: list[int] = []
    trained = contestants.CONTESTANTS[name](corpus, 2, 0, ends.append)
    assert sorted(trained.items) == sorted(WORDS)
    assert trained.vectors.shape == (20, contestants.DIM)
    assert trained.vectors.isfinite().all()
    assert 0 < trained.training < trained.total
    assert ends == [1, 1]
    assert contestants.similarity(trained, corpus.pairs)["unknown_pairs"] == 1


def test_runs_are_kept_and_not_repeated(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gensim")
    arguments = ["--quick", "--data", str(data), "--languages", "english", "--out", str(data), "--workers", "1"]
    benchmark.main(arguments)
    rows = read_rows(data / "quick/word_vectors.csv")
    assert [(row["method"], row["epochs"]) for row in rows] == [(GENSIM, "1"), (ADAGRAD, "1"), (ADAGRAD, "2")]
    assert len(read_rows(data / "quick/word_vectors_speed.csv")) == 4
    monkeypatch.setattr(benchmark, "CONTESTANTS", dict.fromkeys([*OURS, GENSIM]))
    benchmark.main([*arguments, "--parts", "quality"])
    assert read_rows(data / "quick/word_vectors.csv") == rows
    assert "Word vectors beside gensim" in capsys.readouterr().out


def test_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="gensim is not installed"):
        benchmark.main(["--quick"])
    with pytest.raises(SystemExit):
        benchmark.parse(["--rounds", "0"])
