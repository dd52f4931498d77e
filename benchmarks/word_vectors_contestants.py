"""What benchmarks.word_vectors trains: gensim's Word2Vec and LibraryEmbedding, on the same file of words."""

from __future__ import annotations

import functools
import gzip
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor

from benchmarks.runs import Advance, bare_trainer
from callbacks import WordSimilarity
from datamodules import TextDataModule
from datamodules.segmenters import find_segmenter
from lit_modules import LibraryEmbedding

DIM, WINDOW, NEGATIVES, MIN_COUNT, SUBSAMPLE = 100, 5, 5, 5, 1e-3
ADAGRAD, SGD = OURS = "LibraryEmbedding, RowAdagrad", "LibraryEmbedding, RowSGD"
GENSIM, GENSIM_FILE = "gensim", "gensim, corpus_file"
BATCH_SIZE = 4096
# Chosen on the English text with seed 1; every number of epochs and both languages have the same.
SETTINGS: dict[str, Any] = {
    "cost": "dot",
    "tied": False,
    "normalizer": "negative",
    "dim": DIM,
    "negatives": NEGATIVES,
    "shared_negatives": 32,
    # gensim's vectors start uniform in ±1 / d, which has this standard deviation.
    "initial_scale": 1 / DIM / 3**0.5,
    "lr_schedule": "linear",
}
# AdaGrad for few epochs, bounded SGD for many.
OPTIMIZERS: dict[str, dict[str, Any]] = {
    ADAGRAD: {"optimizer": "RowAdagrad", "learning_rate": 0.25},
    SGD: {"optimizer": "RowSGD", "learning_rate": 0.025, "noise_power": 0.5},
}


@dataclass(frozen=True)
class Language:
    """A text, what cuts it into words, and word pairs with people's scores; files in a folder of data."""

    text: str
    segmenter: str
    pairs: str


LANGUAGES = {
    "english": Language("text/en_mixed.txt.gz", "whitespace", "wordsim/wordsim353.tsv.gz"),
    "chinese": Language("text/zh_modern.txt.gz", "chinese", "wordsim/cwe_240.txt.gz"),
}


@dataclass(frozen=True)
class Corpus:
    """A file of words with spaces between them, a sentence a line, that all contestants read.

    Attributes:
        path: of the file.
        words: in it, rare ones too.
        pairs: file of word pairs.
        workers: threads of gensim; torch has as many.
    """

    path: Path
    words: int
    pairs: Path
    workers: int


def write_corpus(language: str, data: Path, folder: Path, workers: int, lines: int | None = None) -> Corpus:
    """Cut a text into words, punctuation marks among them, and keep them in a file.

    Args:
        language: a name in LANGUAGES.
        data: folder of the data.
        folder: for the file.
        workers: of gensim.
        lines: of the text, the first ones; None for all.
    """
    chosen, path, words = LANGUAGES[language], folder / f"{language}.txt", 0
    segment = find_segmenter(chosen.segmenter)
    with gzip.open(data / chosen.text, "rt", encoding="utf-8") as text, path.open("w", encoding="utf-8") as file:
        for number, line in enumerate(text):
            if number == lines:
                break
            tokens = [token for token in segment(line) if not token.isspace()]
            words += len(tokens)
            file.write(" ".join(tokens) + "\n")
    return Corpus(path, words, data / chosen.pairs, workers)


# ---- Contestants ----


@dataclass(frozen=True)
class Trained:
    """Vectors of words, and what they took.

    Attributes:
        items: words.
        vectors: (N, d).
        training: seconds of the training itself.
        total: seconds with all that comes before: reading, counting words, building the model.
    """

    items: list[str]
    vectors: Tensor
    training: float
    total: float


Contestant = Callable[[Corpus, int, int, Advance], Trained]  # of a corpus, epochs and a seed


def gensim(corpus: Corpus, epochs: int, seed: int, advance: Advance, *, from_file: bool = False) -> Trained:
    """Word2Vec's skip-gram with its defaults; from a list in memory, or its workers read the file themselves."""
    from gensim.models import Word2Vec
    from gensim.models.callbacks import CallbackAny2Vec

    class EpochEnds(CallbackAny2Vec):
        def on_epoch_end(self, model: Any) -> None:
            advance(1)

    start = time.perf_counter()
    model = Word2Vec(
        vector_size=DIM,
        window=WINDOW,
        min_count=MIN_COUNT,
        sample=SUBSAMPLE,
        sg=1,
        negative=NEGATIVES,
        workers=corpus.workers,
        seed=seed,
        epochs=epochs,
    )
    if from_file:
        source: dict[str, Any] = {"corpus_file": str(corpus.path)}
    else:
        source = {"corpus_iterable": [line.split() for line in corpus.path.read_text(encoding="utf-8").split("\n")]}
    model.build_vocab(**source)
    sizes = {"total_examples": model.corpus_count, "total_words": model.corpus_total_words}
    ready = time.perf_counter()
    model.train(**source, **sizes, epochs=epochs, callbacks=[EpochEnds()])
    end = time.perf_counter()
    return Trained(model.wv.index_to_key, torch.from_numpy(model.wv.vectors), end - ready, end - start)


class _Clock(Callback):
    """When training began; advances a progress bar."""

    def __init__(self, advance: Advance) -> None:
        self.start = 0.0
        self._advance = advance

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._advance(1)


def text_of(corpus: Corpus, seed: int, cache: str) -> TextDataModule:
    """A corpus as ours reads it."""
    return TextDataModule(
        str(corpus.path),
        lowercase=False,
        keep_punctuation=True,
        min_count=MIN_COUNT,
        subsample=SUBSAMPLE,
        window=WINDOW,
        batch_size=BATCH_SIZE,
        val_fraction=0,
        seed=seed,
        cache_dir=cache,
    )


def model_of(method: str) -> LibraryEmbedding:
    """One of ours, untrained."""
    return LibraryEmbedding(**SETTINGS, **OPTIMIZERS[method])


def ours(corpus: Corpus, epochs: int, seed: int, advance: Advance, *, name: str) -> Trained:
    """LibraryEmbedding on TextDataModule's batches under a bare Trainer; the cache of the text is made anew."""
    seed_everything(seed, verbose=False)
    clock = _Clock(advance)
    with tempfile.TemporaryDirectory() as cache:
        start = time.perf_counter()
        data, model = text_of(corpus, seed, cache), model_of(name)
        trainer = bare_trainer([clock], max_epochs=epochs, limit_val_batches=0)
        trainer.fit(model, datamodule=data)
        end = time.perf_counter()
    return Trained(*model.item_vectors(), end - clock.start, end - start)


def gensim_from_file(corpus: Corpus, epochs: int, seed: int, advance: Advance) -> Trained:
    """Word2Vec whose workers read the file themselves, in C all the way."""
    return gensim(corpus, epochs, seed, advance, from_file=True)


CONTESTANTS: dict[str, Contestant] = {name: functools.partial(ours, name=name) for name in OURS} | {
    GENSIM: gensim,
    GENSIM_FILE: gensim_from_file,
}


def similarity(trained: Trained, pairs: Path) -> dict[str, float]:
    """Spearman's correlation of the vectors' cosines with people's scores, and the number of unknown pairs."""
    judge = WordSimilarity(str(pairs))
    judge.check(trained.items)
    values = judge.measure(None, trained.items, trained.vectors)  # type: ignore[arg-type]
    return {"spearman": round(values["wordsim"], 4), "unknown_pairs": values["wordsim_oov"]}
