"""The text as numbers in files: what is in them, and who writes them when."""

import multiprocessing
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from datamodules import token_cache
from datamodules.token_cache import Corpus, open_cached, write_corpus
from datamodules.vocabulary import WordNumbers

SENTENCES = [["a", "b", "a"], [], ["!", "c", "?"], ["!"], ["b"]]


def written(folder: Path, sentences: Iterable[Iterable[str]] = SENTENCES) -> Corpus:
    """The corpus of these sentences."""
    folder.mkdir()
    write_corpus(folder, sentences, WordNumbers())
    return Corpus(folder)


def write(folder: Path) -> None:
    write_corpus(folder, SENTENCES, WordNumbers())


def words_of(corpus: Corpus) -> list[list[str]]:
    """The sentences as they come back, chunk by chunk."""
    found: dict[int, list[str]] = {}
    for chunk in range(corpus.num_chunks):
        sentences = corpus.sentences(chunk)
        starts, lengths = corpus.spans(sentences)
        parts = np.split(corpus.read(starts, lengths), lengths.cumsum()[:-1])
        found |= {n: [corpus.words[token] for token in part] for n, part in zip(sentences.tolist(), parts, strict=True)}
    assert sorted(found) == list(range(corpus.num_sentences))
    return [found[number] for number in sorted(found)]


def random_sentences(count: int) -> list[list[str]]:
    """Sentences of 0 to 9 random words of 40."""
    random = np.random.default_rng(0)
    return [[f"w{word}" for word in random.integers(0, 40, random.integers(0, 10))] for _ in range(count)]


def test_contents(tmp_path: Path) -> None:
    corpus = written(tmp_path / "corpus")
    assert corpus.words == ["a", "b", "c"]
    assert corpus.tokens.tolist() == [0, 1, 0, 2, 1]
    assert corpus.starts.tolist() == [0, 3, 4, 5]
    assert corpus.counts.tolist() == [2, 2, 1]
    assert (corpus.num_tokens, corpus.num_sentences, corpus.num_chunks) == (5, 3, 1)
    starts, lengths = corpus.spans(np.array([0, 2]))
    assert (starts.tolist(), lengths.tolist()) == ([0, 4], [3, 1])
    assert corpus.read(starts, lengths).tolist() == [0, 1, 0, 1]
    assert corpus.read(starts[:0], lengths[:0]).size == 0


def test_files_are_of_plain_kinds(tmp_path: Path) -> None:
    written(tmp_path / "corpus")
    assert np.fromfile(tmp_path / "corpus" / "tokens.bin", np.int32).tolist() == [0, 1, 0, 2, 1]
    assert np.fromfile(tmp_path / "corpus" / "starts.bin", np.int64).tolist() == [0, 3, 4, 5]


@pytest.mark.parametrize("block", [1, 7, 100])
@pytest.mark.parametrize("chunk", [10, 64])
def test_corpus_of_many_blocks_and_chunks(
    tmp_path: Path, block: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_cache, "BLOCK_TOKENS", block)
    monkeypatch.setattr(token_cache, "CHUNK_TOKENS", chunk)
    sentences = random_sentences(400)
    corpus = written(tmp_path / "corpus", sentences)
    assert words_of(corpus) == [sentence for sentence in sentences if sentence]
    tokens = sum(map(len, sentences))
    assert tokens / chunk * 0.5 < corpus.num_chunks <= tokens / chunk + 1
    assert corpus.counts.tolist() == np.bincount(corpus.tokens).tolist()


def test_overlong_sentence_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_cache, "CHUNK_TOKENS", 10)
    words = [f"w{number}" for number in range(25)]
    corpus = written(tmp_path / "corpus", [["a"], words, words[:10]])
    assert words_of(corpus) == [["a"], words[:10], words[10:20], words[20:], words[:10]]


def test_memory_for_words_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_cache, "BLOCK_TOKENS", 100)
    sentences, numbers = [["often", f"rare{number}"] for number in range(500)], WordNumbers()
    with pytest.warns(UserWarning, match="more than 120 distinct tokens: words that had occurred fewer than"):
        write_corpus(tmp_path, sentences, numbers, most_words=120)
    corpus = Corpus(tmp_path)
    assert len(numbers) <= 120 + 50, "what a block adds"
    assert corpus.counts[0] == 500
    assert corpus.words[0] == "often"
    assert 0 < np.count_nonzero(corpus.counts) < 200
    assert len(corpus.tokens) == 1000


def test_cache_is_written_once(tmp_path: Path) -> None:
    folders = []

    def write_and_tell(folder: Path) -> None:
        folders.append(folder)
        write(folder)

    for key in (["a", 1], ["a", 1], ["a", 2]):
        assert open_cached(tmp_path / "new" / "cache", key, write_and_tell).words == ["a", "b", "c"]
    assert len(folders) == 2
    assert not list(tmp_path.rglob("*.unfinished"))


def test_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "tokens.bin").touch()
        raise ValueError("line 3")

    with pytest.raises(ValueError, match="line 3"):
        open_cached(tmp_path, "key", fail)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
    assert open_cached(tmp_path, "key", write).num_sentences == 3


def test_leftovers_of_a_killed_process_are_replaced(tmp_path: Path) -> None:
    open_cached(tmp_path, "key", write)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    shutil.move(folder, folder.with_suffix(".unfinished"))
    (folder.with_suffix(".unfinished") / "starts.bin").unlink()
    assert open_cached(tmp_path, "key", write).num_sentences == 3


def slow_write(folder: Path) -> None:
    """Leaves a mark beside the cache, and gives others time to come between."""
    with (folder.parent.parent / "writers").open("a") as marks:
        marks.write("one\n")
    time.sleep(0.3)
    write(folder)


def read_in_process(cache: Path) -> None:
    assert open_cached(cache, "key", slow_write).words == ["a", "b", "c"]


def test_processes_at_once(tmp_path: Path) -> None:
    forked = multiprocessing.get_context("fork")
    processes = [forked.Process(target=read_in_process, args=(tmp_path / "cache",)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert (tmp_path / "writers").read_text() == "one\n"


def test_finished_cache_can_be_read_only(tmp_path: Path) -> None:
    open_cached(tmp_path / "cache", "key", write)
    for lock in (tmp_path / "cache").glob("*.lock"):
        lock.unlink()
    assert open_cached(tmp_path / "cache", "key", slow_write).num_sentences == 3
    assert not list((tmp_path / "cache").glob("*.lock"))


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cache_dir '.*file/below' cannot be made \(Not a directory\); give another"):
        open_cached(tmp_path / "file" / "below", "key", write)
