"""Streams and batches of tokens: order, draws, parts, resume, several processes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules import token_cache, token_loader
from datamodules.loading import ShardedSampler
from datamodules.token_cache import Corpus, write_corpus
from datamodules.token_loader import CorpusPart, TokenLoader, TokenStream, _cut
from datamodules.vocabulary import Vocabulary, WordNumbers, choose_vocabulary

NUM_SENTENCES = 300


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts here have several chunks."""
    monkeypatch.setattr(token_cache, "CHUNK_TOKENS", 200)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Sentence i is 1 to 8 times the word s<i % 50>, then the word "all"."""
    (tmp_path / "corpus").mkdir()
    sentences = [[f"s{number % 50}"] * (1 + number * 7 % 8) + ["all"] for number in range(NUM_SENTENCES)]
    write_corpus(tmp_path / "corpus", sentences, WordNumbers())
    return Corpus(tmp_path / "corpus")


def vocabulary_of(corpus: Corpus, **options: Any) -> Vocabulary:
    defaults = {"min_count": 1, "max_vocabulary": None, "name": "text"}
    return choose_vocabulary(corpus.words, corpus.counts, **defaults | options)


def stream_of(corpus: Corpus, **options: Any) -> TokenStream:
    """All sentences in order with all tokens, unless the options say otherwise."""
    part = CorpusPart(corpus, options.pop("val_fraction", 0.0), held_out=options.pop("held_out", False))
    vocabulary = options.pop("vocabulary", None) or vocabulary_of(corpus)
    defaults = {"subsample": 0.0, "window": 5, "shuffle": False, "seed": 0}
    return TokenStream(part, vocabulary, **defaults | options)


def loader_of(
    stream: TokenStream, batch_size: int = 64, *, fresh: bool = True, drop_last: bool = True, **process: int
) -> TokenLoader:
    sampler = ShardedSampler(stream.size, batch_size, shuffle=False, drop_last=drop_last, **process)
    return TokenLoader(stream, sampler, fresh=fresh)


def equal(batches: list[dict[str, Tensor]], others: list[dict[str, Tensor]]) -> bool:
    """Whether two sequences of batches are the same, bit by bit."""
    return len(batches) == len(others) and all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
        for a, b in zip(batches, others, strict=True)
    )


def joined(batches: list[dict[str, Tensor]], name: str = "tokens") -> Tensor:
    return torch.cat([batch[name] for batch in batches])


def test_every_token_in_order(corpus: Corpus) -> None:
    vocabulary = vocabulary_of(corpus)
    batches = list(loader_of(stream_of(corpus), drop_last=False))
    assert all(batch.keys() == {"tokens", "sentences", "by_distance"} for batch in batches)
    for batch in batches[:-1]:
        assert batch["tokens"].dtype == batch["sentences"].dtype == torch.int64
        assert len(batch["tokens"]) == len(batch["sentences"]) == 64
    words = [vocabulary.items[token] for token in joined(batches).tolist()]
    assert words == [corpus.words[token] for token in corpus.tokens.tolist()]
    lengths = np.diff(corpus.starts)
    assert joined(batches, "sentences").tolist() == np.repeat(np.arange(NUM_SENTENCES), lengths).tolist()


def test_batches_are_equally_large_and_independent(corpus: Corpus) -> None:
    loader = loader_of(stream_of(corpus))
    batches = list(loader)
    assert len(batches) == len(loader) == len(corpus.tokens) // 64
    assert {len(batch["tokens"]) for batch in batches} == {64}
    expected = [{name: tensor.clone() for name, tensor in batch.items()} for batch in batches]
    for batch in loader:
        for tensor in batch.values():
            tensor.zero_()
    assert equal(list(loader), expected)


def test_batch_larger_than_chunks(corpus: Corpus) -> None:
    (batch,) = loader_of(stream_of(corpus), len(corpus.tokens))
    assert len(batch["tokens"]) == len(corpus.tokens)


def test_sentences_never_mix(corpus: Corpus) -> None:
    """Sentence i has one word but for "all": under the same number are only that and "all"."""
    vocabulary = vocabulary_of(corpus)
    batches = list(loader_of(stream_of(corpus, subsample=0.05, shuffle=True)))
    pairs = zip(joined(batches, "sentences").tolist(), joined(batches).tolist(), strict=True)
    for start, token in pairs:
        sentence = np.searchsorted(corpus.starts, start % corpus.num_tokens)
        assert vocabulary.items[token] in (f"s{sentence % 50}", "all")


def test_a_single_sentence_does_not_run_on_into_itself(tmp_path: Path) -> None:
    write_corpus(tmp_path, [["a", "b", "c"]], WordNumbers())
    chunks = stream_of(Corpus(tmp_path)).chunks(0)
    first, second = next(chunks), next(chunks)
    assert torch.equal(first[0], second[0])
    assert first[1].unique().tolist() == [0]
    assert second[1].unique().tolist() == [3]


def test_words_outside_of_the_vocabulary_make_others_neighbors(corpus: Corpus) -> None:
    vocabulary = vocabulary_of(corpus, max_vocabulary=3)
    stream = stream_of(corpus, vocabulary=vocabulary)
    assert stream.size == vocabulary.counts.sum()
    batches = list(loader_of(stream, drop_last=False))
    expected = vocabulary.ids[corpus.tokens]
    assert joined(batches).tolist() == expected[expected >= 0].tolist()


@pytest.fixture
def skewed(tmp_path: Path) -> Corpus:
    """100,000 words, half of them the same one, a quarter another one, and so on, in sentences of 20."""
    words = np.minimum(np.random.default_rng(0).geometric(0.5, 100_000), 12)
    (tmp_path / "skewed").mkdir()
    write_corpus(tmp_path / "skewed", [[f"w{n}" for n in row] for row in words.reshape(-1, 20)], WordNumbers())
    return Corpus(tmp_path / "skewed")


def test_subsampling_keeps_what_the_formula_says(skewed: Corpus) -> None:
    vocabulary = vocabulary_of(skewed)
    chunks = stream_of(skewed, subsample=1e-3).chunks(0)
    kept = torch.cat([next(chunks)[0] for _ in range(skewed.num_chunks)]).bincount()
    for counted, before in zip(kept.tolist(), vocabulary.counts.tolist(), strict=True):
        frequency = before / 100_000
        probability = min((1e-3 / frequency) ** 0.5 + 1e-3 / frequency, 1)
        spread = (before * probability * (1 - probability)) ** 0.5
        assert abs(counted - before * probability) <= 5 * spread


def test_weights_are_the_mean_of_drawn_windows(skewed: Corpus) -> None:
    drawn = torch.arange(1, 5)
    expected = [(drawn >= distance).float().mean().item() for distance in range(1, 5)]
    assert next(iter(loader_of(stream_of(skewed, window=4))))["by_distance"].tolist() == expected


def test_draws_are_anew_in_each_epoch_and_for_each_seed(corpus: Corpus) -> None:
    def epoch(number: int, *, fresh: bool = True, **options: Any) -> list[dict[str, Tensor]]:
        loader = loader_of(stream_of(corpus, **{"subsample": 0.05} | options), fresh=fresh)
        loader.sampler.set_epoch(number)
        return list(loader)

    first = epoch(0)
    assert equal(first, epoch(0))
    assert not torch.equal(joined(first), joined(epoch(1)))
    assert not torch.equal(joined(first), joined(epoch(0, seed=1)))
    assert equal(epoch(0, fresh=False), epoch(1, fresh=False))


def test_shuffled_pieces(corpus: Corpus) -> None:
    """Each sentence once and whole, in an order of each epoch's own that mixes the whole text."""
    loader = loader_of(stream_of(corpus, shuffle=True), drop_last=False)

    def epoch(number: int) -> tuple[list[int], list[list[int]]]:
        loader.sampler.set_epoch(number)
        batches = list(loader)
        tokens, sentences = joined(batches), joined(batches, "sentences")
        starts, lengths = sentences.unique_consecutive(return_counts=True)
        return starts.tolist(), [piece.tolist() for piece in tokens.split(lengths.tolist())]

    (first, pieces), (second, _) = epoch(0), epoch(1)
    in_order = joined(list(loader_of(stream_of(corpus), drop_last=False)))
    assert sorted(first) == sorted(second) == corpus.starts[:-1].tolist()
    assert first != second
    for start, piece in zip(first, pieces, strict=True):
        assert piece == in_order[start : start + len(piece)].tolist()
    follows = np.diff(np.searchsorted(corpus.starts, first)) == 1
    assert follows.mean() < 0.05


def test_long_sentences_are_cut(tmp_path: Path) -> None:
    write_corpus(tmp_path, [[f"w{n}" for n in range(20)], ["w0"] * 4], WordNumbers())
    stream = stream_of(Corpus(tmp_path), shuffle=True, window=1)
    # Pieces of 16 windows.
    assert set(joined(list(loader_of(stream, 4, drop_last=False)), "sentences").tolist()) == {0, 16, 20}
    starts, lengths = _cut(np.array([0, 20]), np.array([13, 4]), 5)
    assert (starts.tolist(), lengths.tolist()) == ([0, 5, 10, 20], [5, 5, 3, 4])
    assert [array.tolist() for array in _cut(np.array([], int), np.array([], int), 5)] == [[], []]


def test_pieces_of_many_groups_are_all_there(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_loader, "MIXED_CHUNKS", 3)
    sentences = joined(list(loader_of(stream_of(corpus, shuffle=True), drop_last=False)), "sentences")
    assert sorted(set(sentences.tolist())) == corpus.starts[:-1].tolist()


@pytest.mark.parametrize("done", [0, 1, 7, 18])
def test_resume(corpus: Corpus, done: int) -> None:
    def fresh() -> TokenLoader:
        loader = loader_of(stream_of(corpus, subsample=0.05, shuffle=True), batch_size=32)
        loader.sampler.set_epoch(3)
        return loader

    whole, cut = fresh(), fresh()
    batches, started = list(whole), iter(cut)
    assert len(batches) > 18
    for _ in range(done):
        next(started)
    resumed = fresh()
    resumed.load_state_dict(cut.state_dict())
    assert equal(list(resumed), batches[done:])
    assert equal(list(resumed), batches), "only the first epoch is resumed"


@pytest.mark.parametrize("drop_last", [True, False])
def test_two_processes_see_what_one_sees(corpus: Corpus, drop_last: bool) -> None:
    stream = stream_of(corpus, subsample=0.05, shuffle=True)
    one = list(loader_of(stream, 64, drop_last=drop_last))
    two = [list(loader_of(stream, 32, drop_last=drop_last, rank=rank, world_size=2)) for rank in (0, 1)]
    assert len(two[0]) == len(two[1]) == len(one)
    parts = [
        a | {name: torch.cat([a[name], b[name]]) for name in ("tokens", "sentences")} for a, b in zip(*two, strict=True)
    ]
    assert equal(parts, one)


def test_held_out_sentences(corpus: Corpus) -> None:
    def sentences(held_out: bool, val_fraction: float = 0.2) -> list[int]:
        part = CorpusPart(corpus, val_fraction, held_out=held_out)
        return [n for chunk in range(corpus.num_chunks) for n in dict.fromkeys(part.read(chunk)[1].tolist())]

    training, validation = sentences(False), sentences(True)
    assert sorted(training + validation) == list(range(NUM_SENTENCES))
    assert 30 < len(validation) < 90
    assert max(np.diff(validation)) < 40, "from all over the text"
    assert sentences(True) == validation
    assert sentences(True, 0) == []
    part = CorpusPart(corpus, 0.2, held_out=True)
    chunks = range(corpus.num_chunks)
    places = {tuple(np.unique(part.read(chunk)[1]) - corpus.sentences(chunk)[0]) for chunk in chunks}
    assert len(places) == len(chunks), "others in each chunk"
    assert len(sentences(False, 0)) == NUM_SENTENCES


@pytest.mark.parametrize("val_fraction", [0, 0.2])
@pytest.mark.parametrize("held_out", [False, True])
def test_counts_of_parts(corpus: Corpus, val_fraction: float, held_out: bool) -> None:
    part = CorpusPart(corpus, val_fraction, held_out=held_out)
    counts = np.zeros(len(corpus.words), int)
    for chunk in range(corpus.num_chunks):
        counts += np.bincount(part.read(chunk)[0], minlength=len(counts))
    assert part.counts().tolist() == counts.tolist()


def test_forgotten_words_are_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_cache, "BLOCK_TOKENS", 100)
    sentences = [["often", f"rare{number}"] for number in range(500)]
    with pytest.warns(UserWarning, match="distinct tokens"):
        write_corpus(tmp_path, sentences, WordNumbers(), most_words=120)
    counts = CorpusPart(Corpus(tmp_path), 0.2, held_out=False).counts()
    assert counts.min() == 0
    assert 350 < counts.max() < 450


def test_epoch_is_as_long_as_on_average(skewed: Corpus) -> None:
    stream = stream_of(skewed, subsample=1e-3)
    num_chunks = skewed.num_chunks
    kept = []
    for epoch in range(5):
        chunks = stream.chunks(epoch)
        kept.append(sum(next(chunks).shape[1] for _ in range(num_chunks)))
    assert len(set(kept)) > 1
    assert abs(np.mean(kept) - stream.size) < 3 * np.std(kept)
