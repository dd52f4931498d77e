"""Word vectors of all formats, and files that are damaged."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.word_vectors import read_word_vectors

WORDS = ["苹果", "Apple", "的", "apple", "梨"]
VECTORS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def binary(end: bytes = b"\n") -> bytes:
    rows = zip(WORDS, VECTORS, strict=True)
    return b"5 3\n" + b"".join(word.encode() + b" " + row.astype("<f4").tobytes() + end for word, row in rows)


def text(header: bytes = b"5 3\n") -> bytes:
    rows = zip(WORDS, VECTORS.tolist(), strict=True)
    return header + b"".join(f"{word} {' '.join(map(repr, row))}\n".encode() for word, row in rows)


FILES = {
    "text": text(),
    "without header": text(b""),
    "binary": binary(),
    "binary without line feeds": binary(b""),
    "gzipped text": gzip.compress(text()),
    "gzipped binary": gzip.compress(binary()),
}


@pytest.mark.parametrize("kind", FILES)
def test_wanted_words_of_each_format(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    path.write_bytes(FILES[kind])
    words, vectors = read_word_vectors(path, {"梨", "apple", "missing"})
    assert words == ["", "apple", "梨"]
    # Of Apple and apple the first counts.
    assert torch.equal(vectors, torch.from_numpy(np.concatenate([np.zeros((1, 3), np.float32), VECTORS[[1, 4]]])))


@pytest.mark.parametrize("binary", [False, True])
def test_as_gensim_writes_and_reads_it(binary: bool, tmp_path: Path) -> None:
    from gensim.models import KeyedVectors

    vectors = KeyedVectors(3)
    vectors.add_vectors(WORDS, VECTORS)
    vectors.save_word2vec_format(tmp_path / "vectors", binary=binary)
    again = KeyedVectors.load_word2vec_format(tmp_path / "vectors", binary=binary)
    words, found = read_word_vectors(tmp_path / "vectors", {"苹果", "的", "梨"})
    assert words == ["", "苹果", "的", "梨"]
    assert np.array_equal(found[1:].numpy(), again[words[1:]])


def test_binary_words_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datamodules.word_vectors._BLOCK", 5)
    (tmp_path / "vectors").write_bytes(binary())
    words, vectors = read_word_vectors(tmp_path / "vectors", set(WORDS))
    assert words == ["", "苹果", "apple", "的", "梨"]
    assert np.array_equal(vectors[1:].numpy(), VECTORS[[0, 1, 2, 4]])


def test_word_with_a_space(tmp_path: Path) -> None:
    (tmp_path / "vectors").write_text("1 3\nnew york 1 2 3\n")
    assert read_word_vectors(tmp_path / "vectors", {"new york"})[0] == ["", "new york"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"5 3\nword 1 2\n", "line 2: expected a word and 3 numbers"),
        (b"2 3\nword 1 2 3\n", "line 1 says 2 words, but there are 1"),
        (b"word 1 2 3\nother 1 2\n", "line 2: expected a word and 3 numbers"),
        (b"word 1 2 3\nother 1 2 x\n", "line 2: expected a word and 3 numbers"),
        (b"\n", "line 1: expected the number of words and the dimension"),
        (b"", "line 1: expected the number of words and the dimension"),
        (binary()[:-3], "line 1 says 5 words, but the file ends in word 5"),
        (gzip.compress(text())[:-9], "damaged gzip file"),
        (b"other 1 2 3\n", "none of its words occurs"),
        ("梨 1 nan 3\n".encode(), "the vector of '梨' is not finite"),
    ],
)
def test_damaged_files(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "vectors").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_word_vectors(tmp_path / "vectors", {"梨", "的"})


def test_missing_file(tmp_path: Path) -> None:
    (tmp_path / "vectors.txt").touch()
    with pytest.raises(
        FileNotFoundError, match=r"word_vectors .*vector.txt' does not exist; did you mean 'vectors.txt'"
    ):
        read_word_vectors(tmp_path / "vector.txt", {"梨"})
