"""Text of any source as batches of consecutive words, for word vectors."""

import shutil
import tempfile
import weakref
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from datamodules.cache_folders import cache_folder
from datamodules.checks import at_least
from datamodules.loading import ShardedSampler
from datamodules.segmenters import Segmenter, find_segmenter, segmenter_key
from datamodules.text_sources import TextSource, open_sentences, open_text, segmented
from datamodules.token_cache import Corpus, open_cached, write_corpus
from datamodules.token_loader import CorpusPart, TokenLoader, TokenStream
from datamodules.vocabulary import WordNumbers, choose_vocabulary


class TextDataModule(LightningDataModule):
    """Batches of B consecutive words of a text: {"tokens" (B,), "sentences" (B,), "by_distance" (W,)}.

    `tokens` are ids, `sentences` numbers that change where the sentence does, both int64. Words of one sentence at a
    distance of 1 to W are contexts of each other, and `by_distance`, float32, is what such a pair counts:
    (W - distance + 1) / W. Where word2vec draws each word's window from 1 to W (Mikolov et al. 2013,
    arXiv 1310.4546), that is the mean over the draws; nothing is drawn here, and a gradient is less noisy.

    A line is a sentence, and no window reaches into another. The text is read and segmented once, into a cache of
    memory-mapped files that later runs reuse until the text or the segmenter changes (the folder can be deleted at
    any time); neither text nor tokens are in memory as a whole, only the distinct words are. Words outside of the
    vocabulary and a part of the frequent ones (`subsample`, anew in each epoch) are left out before windows are laid,
    as word2vec does. All draws are functions of (seed, epoch, position), so that a run can be resumed anywhere, and N
    processes on batches of B see what one on batches of N * B sees, but that windows end where a process's part of
    the batch does.

    An epoch has as many tokens as the draws keep on average, in batches of the same size; those that fill no batch
    are left out. A text too small for one batch makes one smaller batch. Validation uses every word of the held-out
    sentences.

    Args:
        source: "docstrings" (about 1.3 million words of English, from the documentation inside of NumPy, SciPy,
            scikit-learn and torchmetrics: another text with other versions of them); or one or more paths of UTF-8
            files, gzipped or not, of folders of them (all files below that are not hidden) or patterns such as
            "texts/*.gz"; or "hf:" and the path or the name (NAME or NAME:CONFIGURATION) of a Hugging Face data set, of
            which the training split is read, each line of each row as a sentence. Lines of over a mebibyte or 65,536
            tokens become several sentences.
        sentences: in place of `source`, from Python: an iterable of strings, or of lists of tokens, which are not
            segmented. It is read once, by every process, into a temporary folder.
        column: the column of a Hugging Face data set; by default "text", or the only one of strings.
        segmenter: "whitespace"; "chinese" (words by rjieba); the import path of a function from a line to its tokens,
            or of a class without arguments whose instances are such functions; from Python, the function itself,
            whose tokens are kept in a temporary folder only.
        lowercase: whether capitals are made small.
        keep_punctuation: by default punctuation and symbols are taken off the ends of a token ("(see" becomes "see",
            "don't" stays), and a token that has no letter, digit or ideograph is left out; if true, tokens stay as
            the segmenter gives them.
        min_count: words that occur fewer times in the training sentences are left out.
        max_vocabulary: the most frequent so many words are used; None for all.
        subsample: threshold t on a word's frequency f: an occurrence is kept with probability sqrt(t/f) + t/f; 0
            keeps all.
        window: W, the largest distance of a context.
        batch_size: tokens in a batch of one process.
        shuffle: whether sentences come in an order drawn for each epoch, mixed over about 17 million words; those of
            more than 16 windows are cut. If false, the text stays in order.
        val_fraction: part of the sentences that is held out for validation; which ones does not hang on `seed`.
        seed: seed of order and subsampling.
        cache_dir: folder for the cache; None for litspaces/text in $XDG_CACHE_HOME or ~/.cache.

    Attributes:
        items: the words in the order of their ids, the most frequent first (after `setup`, like all that follow).
        counts: how often each occurs in the training sentences, before subsampling, (N,) float64.
        labels: None: words have no classes.
        label_names: [].
        num_tokens: words of the training sentences that are in the vocabulary, repetitions included.
        num_unknown: those that are not.

    Raises:
        ValueError: for a wrong argument, and later for text that is not UTF-8 or has too few words.
        FileNotFoundError: later, where the source does not exist.
    """

    def __init__(
        self,
        source: str | list[str] = "docstrings",
        *,
        sentences: Iterable[str | list[str]] | None = None,
        column: str | None = None,
        segmenter: str | Segmenter = "whitespace",
        lowercase: bool = True,
        keep_punctuation: bool = False,
        min_count: int = 5,
        max_vocabulary: int | None = None,
        subsample: float = 1e-3,
        window: int = 5,
        batch_size: int = 8192,
        shuffle: bool = True,
        val_fraction: float = 0.01,
        seed: int = 0,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__()
        at_least("min_count", min_count, 1)
        at_least("max_vocabulary", max_vocabulary, 1)
        at_least("subsample", subsample, 0)
        at_least("window", window, 1)
        at_least("batch_size", batch_size, 1)
        if not 0 <= val_fraction < 1:
            raise ValueError(f"val_fraction is {val_fraction}, but has to be at least 0 and below 1")
        self.source = source
        self.sentences = sentences
        self.column = column
        self.segmenter = segmenter
        self.lowercase = lowercase
        self.keep_punctuation = keep_punctuation
        self.min_count = min_count
        self.max_vocabulary = max_vocabulary
        self.subsample = subsample
        self.window = window
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.val_fraction = val_fraction
        self.seed = seed
        self.cache_dir = cache_dir
        self.items: list[str] = []
        self.counts: Tensor = torch.zeros(0, dtype=torch.float64)
        self.labels: Tensor | None = None
        self.label_names: list[str] = []
        self.num_tokens = 0
        self.num_unknown = 0

    def prepare_data(self) -> None:
        """Reads the text into the cache, once on each machine; not where the cache is each process's own."""
        if self.sentences is None and isinstance(self.segmenter, str):
            _ = self._corpus

    def setup(self, stage: str) -> None:
        """Opens the cache and chooses the vocabulary, at its first call."""
        if self.items:
            return
        counts = CorpusPart(self._corpus, self.val_fraction, held_out=False).counts()
        self._vocabulary = choose_vocabulary(
            self._corpus.words,
            counts,
            min_count=self.min_count,
            max_vocabulary=self.max_vocabulary,
            name=self._text.name,
        )
        self.items, self.counts = self._vocabulary.items, self._vocabulary.counts
        self.num_tokens = int(self.counts.sum())
        self.num_unknown = int(counts.sum()) - self.num_tokens

    def train_dataloader(self) -> TokenLoader:
        """Returns the training sentences, thinned out."""
        overfit = getattr(self.trainer, "overfit_batches", 0) > 0
        return self._loader(held_out=False, fresh=not overfit)

    def val_dataloader(self) -> TokenLoader | list[TokenLoader]:
        """Returns the held-out sentences in order; an empty list where there are none."""
        return self._loader(held_out=True, fresh=False) if self.val_fraction else []

    def test_dataloader(self) -> TokenLoader | list[TokenLoader]:
        """Returns the held-out sentences."""
        return self.val_dataloader()

    def predict_dataloader(self) -> TokenLoader | list[TokenLoader]:
        """Returns the held-out sentences."""
        return self.val_dataloader()

    def _loader(self, *, held_out: bool, fresh: bool) -> TokenLoader:
        self.setup("fit")
        stream = TokenStream(
            CorpusPart(self._corpus, self.val_fraction, held_out=held_out),
            self._vocabulary,
            subsample=0 if held_out else self.subsample,
            window=self.window,
            shuffle=self.shuffle and not held_out,
            seed=self.seed,
        )
        if not stream.size:
            what = f"val_fraction={self.val_fraction} holds out" if held_out else f"subsample={self.subsample} keeps"
            raise ValueError(f"{what} none of the words of {self._text.name}; give a larger one, or 0")
        sampler = ShardedSampler(stream.size, self.batch_size, shuffle=False, drop_last=False)
        sampler.drop_last = not held_out and sampler.num_batches > 1
        return TokenLoader(stream, sampler, fresh=fresh)

    @cached_property
    def _text(self) -> TextSource:
        if self.sentences is not None:
            return open_sentences(self.sentences)
        return open_text(self.source, self.column)

    @cached_property
    def _corpus(self) -> Corpus:
        segmenter = segmenter_key(self.segmenter)
        if self._text.key is not None and segmenter is not None:
            key = [self._text.key, segmenter, self.lowercase, self.keep_punctuation]
            return open_cached(cache_folder(self.cache_dir, "text"), key, self._write)
        folder = Path(tempfile.mkdtemp(prefix="litspaces-text-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._write(folder)
        return Corpus(folder)

    def _write(self, folder: Path) -> None:
        numbers = WordNumbers(lowercase=self.lowercase, keep_punctuation=self.keep_punctuation)
        rank_zero_info(f"Reading {self._text.name}; its tokens are kept in {folder.with_suffix('')}")
        if not write_corpus(folder, segmented(self._text, find_segmenter(self.segmenter)), numbers):
            raise ValueError(f"{self._text.name} has no words")
