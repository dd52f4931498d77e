"""Entity linking: texts with mentions of a knowledge base's entities, as batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.behavior import Behavior
from datamodules.checks import at_least
from datamodules.knowledge_base import KnowledgeBase
from datamodules.linking_batches import Candidates, LinkingEncoder
from datamodules.linking_files import LinkingText
from datamodules.linking_parts import EMBEDDED, PARTS, LinkingParts
from datamodules.linking_sampling import EvaluationTexts, TrainingTexts, entities_of
from datamodules.linking_state import Learned
from datamodules.loading import ResumableDataLoader
from datamodules.name_matcher import NameMatcher
from datamodules.segmenters import find_segmenter
from datamodules.text_batches import LengthSampler, TextStream, as_it_is

# What is learned hangs on them.
_SETTINGS = ("segmenter", "whole_words", "behavior")


class EntityLinkingDataModule(LightningDataModule):
    """Short texts, the entities of a knowledge base that they mention, and what both have in common.

    Files are in the format of CCKS 2019's entity-linking task, gzipped or not: a JSON object a line. The knowledge base
    is read once, into a cache of memory-mapped files that later runs reuse. What is left out of the files is counted
    by kind, with file and line, in `report`. All positions are characters of the text as it is written; characters are
    compared in lower case.

    What is learned from the training texts (characters, which names annotators label, what they link them to) comes
    from these alone, never from texts that are evaluated, and goes into checkpoints, so that prediction needs a
    checkpoint and the knowledge base only.

    `datamodules.linking_batches` says what batches hold.

    Order and draws are functions of (seed, epoch, text), so that a run can be resumed anywhere, and W processes on
    batches of B see what one on batches of W * B sees.

    Args:
        knowledge: path of the knowledge base; or "embedded", an example written for this project, 60 entities that
            share names and 150 Chinese texts, which are then used for each part that has no path.
        train: path of the training texts; None to evaluate or predict with a checkpoint.
        validation: path of the validation texts; None to hold some of the training texts out.
        test: path of the test texts.
        predict: path of texts to predict on, whose mentions may be absent; they are read as they are predicted on.
        val_fraction: part of the training texts that is held out where there is no `validation`.
        cache_dir: folder for the cache; None for litspaces/knowledge in $XDG_CACHE_HOME or ~/.cache.
        segmenter: cuts texts and descriptions into words: "chinese" (rjieba, which leaves English words whole),
            "whitespace", or the import path of a function from a line to its tokens.
        whole_words: whether a name matches whole words only, if it begins or ends with Latin letters or digits.
        word_vectors: path of word vectors in word2vec's format, text or binary, gzipped or not; None for none.
        tokenizer: of a transformers model that reads texts and descriptions, by its name or folder; None for none.
        behavior: whether names that annotators hardly ever label are left out of the matches.
        max_length: characters of a text that are searched for mentions.
        max_description: characters of a description that the network reads; features see all of it.
        batch_size: texts in a batch of one process.
        candidates: entities that a training mention is scored against, at most. With 1, as in the article, it is
            drawn uniformly from all of the mention's name, and positives are rare where many share it; with more, the
            right one is among them.
        balance: with one candidate, probability of taking the right one; None for the article's way.
        min_count: characters that occur fewer times in training texts and descriptions are unknown.
        num_workers: worker processes that make training and evaluation batches.
        rows_per_batch: the most candidate rows that are scored at once when evaluating.
        seed: seed of the split, the order and the draws.

    Attributes:
        kb: the knowledge base (after `setup`, like all that follow).
        characters: those with a number, by it: 0 padding, 1 unknown.
        word_vectors: (V, d) float32, row 0 for words without one; None without word vectors.
        behavior: which names the training texts label, and what they link them to; None where nothing was learned.
        report: what was read and what is wrong in it; also logged.
        skip_predictions: how many of the first texts to predict on are left out, all processes' together.

    Raises:
        ValueError: for a wrong argument, and later for a damaged file or a checkpoint of another knowledge base.
        FileNotFoundError: later, where there is no such file.
    """

    def __init__(
        self,
        knowledge: str = "embedded",
        *,
        train: str | None = None,
        validation: str | None = None,
        test: str | None = None,
        predict: str | None = None,
        val_fraction: float = 0.1,
        cache_dir: str | None = None,
        segmenter: str = "chinese",
        whole_words: bool = False,
        word_vectors: str | None = None,
        tokenizer: str | None = None,
        behavior: bool = True,
        max_length: int = 256,
        max_description: int = 256,
        batch_size: int = 64,
        candidates: int = 1,
        balance: float | None = None,
        min_count: int = 2,
        num_workers: int = 0,
        rows_per_batch: int = 256,
        seed: int = 0,
    ) -> None:
        super().__init__()
        # Attributes of the same names hold what is learned.
        self.save_hyperparameters(logger=False)
        for name in ("max_length", "max_description", "batch_size", "candidates", "min_count", "rows_per_batch"):
            at_least(name, self.hparams[name], 1)
        at_least("num_workers", num_workers, 0)
        for name in ("val_fraction", "balance"):
            if not 0 <= (self.hparams[name] or 0) <= 1:
                raise ValueError(f"{name} is {self.hparams[name]}, but has to be from 0 to 1")
        if balance is not None and candidates > 1:
            raise ValueError(f"balance is for candidates=1, but candidates is {candidates}")
        self.skip_predictions = 0
        example = EMBEDDED if knowledge == "embedded" else {}
        self._knowledge = example.get("knowledge", knowledge)
        self._paths = {part: self.hparams[part] or example.get(part) for part in PARTS}
        self._learned: Learned | None = None
        self._encoder: LinkingEncoder | None = None

    @cached_property
    def kb(self) -> KnowledgeBase:
        """The knowledge base."""
        hp = self.hparams
        return KnowledgeBase.open(self._knowledge, hp["cache_dir"], segmenter=hp["segmenter"])

    @cached_property
    def _parts(self) -> LinkingParts:
        hp = self.hparams
        split = {"val_fraction": hp["val_fraction"], "seed": hp["seed"]}
        return LinkingParts(self._paths, self.kb, self._knowledge, limit=hp["max_length"], **split)

    @cached_property
    def matcher(self) -> NameMatcher:
        """Finds its names in texts."""
        return self.kb.matcher(whole_words=self.hparams["whole_words"])

    @property
    def report(self) -> str:
        """What was read, and what is wrong in it."""
        return self._parts.report

    @property
    def characters(self) -> list[str]:
        """The characters with a number."""
        return [] if self._learned is None else self._learned.characters

    @property
    def word_vectors(self) -> Tensor | None:
        """The words' vectors (V, d)."""
        return None if self._learned is None else self._learned.word_vectors

    @property
    def behavior(self) -> Behavior | None:
        """What the training texts label."""
        return None if self._learned is None else self._learned.behavior

    def prepare_data(self) -> None:
        """Reads the knowledge base into the cache, once on each machine."""
        _ = self.kb

    def setup(self, stage: str) -> None:
        """Opens the knowledge base; to fit, reads the texts and learns from those to train on."""
        _ = self.kb
        if stage == "fit":
            self._require("train")
            self._learn()
            # What is wrong with them should be known before the first step.
            self._parts.texts("validation")

    def state_dict(self) -> dict[str, Any]:
        """Returns what was learned, for checkpoints; nothing where nothing was."""
        if self._learned is None:
            return {}
        return self._learned.state_dict() | {"settings": {name: self.hparams[name] for name in _SETTINGS}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes what `state_dict` returned in place of what was learned here.

        Raises:
            ValueError: it is of another knowledge base, or it was learned with other settings.
        """
        for name, value in state_dict["settings"].items():
            if value != self.hparams[name]:
                raise ValueError(f"the checkpoint has {name}={value!r}, but {name} is {self.hparams[name]!r} here")
        for name in ("word_vectors", "tokenizer"):
            if state_dict[name] is None and self.hparams[name] is not None:
                raise ValueError(f"the checkpoint has no {name}, but {name} is {self.hparams[name]!r} here")
        self._learned, self._encoder = Learned.from_state(state_dict, self.kb), None

    def train_dataloader(self) -> ResumableDataLoader:
        """Returns training batches with candidate rows, all texts of an epoch."""
        self._require("train")
        hp, texts = self.hparams, self._parts.texts("train")
        asked = {name: hp[name] for name in ("candidates", "balance", "seed")}
        dataset = TrainingTexts(texts, self.kb, self.encoder, **asked)
        fresh = not getattr(self.trainer, "overfit_batches", 0)
        return self._loader(dataset, texts, shuffle=True, fresh=fresh)

    def val_dataloader(self) -> ResumableDataLoader | list[ResumableDataLoader]:
        """Returns the validation texts, the longest first; an empty list where there are none."""
        texts = self._parts.texts("validation")
        return self._loader(EvaluationTexts(texts, self.encoder), texts, shuffle=False) if texts else []

    def test_dataloader(self) -> ResumableDataLoader:
        """Returns the test texts, the longest first."""
        self._require("test")
        texts = self._parts.texts("test")
        return self._loader(EvaluationTexts(texts, self.encoder), texts, shuffle=False)

    def predict_dataloader(self) -> TextStream[LinkingText]:
        """Returns the texts to predict on, in order, as they are read, less the first `skip_predictions`."""
        self._require("predict")
        skip = self.skip_predictions
        return TextStream(
            lambda: self._parts.stream("predict"), self.encoder.encode, self.hparams["batch_size"], skip=skip
        )

    def _learn(self) -> Learned:
        """What was learned; to evaluate, a checkpoint may bring it until it is needed."""
        if self._learned is None:
            if self._paths["train"] is None:
                raise ValueError("nothing was learned from training texts yet: give train, or a checkpoint")
            names = ("segmenter", "min_count", "word_vectors", "tokenizer")
            settings = {name: self.hparams[name] for name in names}
            self._learned = Learned.from_texts(self._parts.texts("train"), self.kb, self.matcher, **settings)
        return self._learned

    @property
    def encoder(self) -> LinkingEncoder:
        """Makes batches.

        Raises:
            ValueError: nothing was learned, and there are no training texts.
        """
        if self._encoder is None:
            learned, hp = self._learn(), self.hparams
            names = ("max_length", "max_description", "rows_per_batch")
            self._encoder = LinkingEncoder(
                self.kb,
                self.matcher,
                characters=learned.characters,
                words=learned.words,
                allowed=learned.behavior.allowed if hp["behavior"] else None,
                segmenter=find_segmenter(hp["segmenter"]),
                tokenizer=learned.tokenizer,
                **{name: hp[name] for name in names},
            )
        return self._encoder

    def encode(self, texts: Sequence[LinkingText]) -> dict[str, Any]:
        """Returns a batch of texts without rows."""
        return self.encoder.encode(texts)

    def rows(
        self, texts: Sequence[LinkingText], mentions: Sequence[Candidates], width: int
    ) -> Iterator[tuple[dict[str, Tensor], NDArray[np.int64]]]:
        """Yields rows of mentions and candidates, `rows_per_batch` at a time; see `LinkingEncoder.rows`."""
        return self.encoder.rows(texts, mentions, width)

    def candidates_of(self, text: LinkingText, start: int, end: int, restricted: bool) -> NDArray[np.int64]:
        """Returns the rows of the entities that characters `start` to `end` of a text may mean, (K,).

        Args:
            text: whose characters these are.
            start: the first one.
            end: the one after the last.
            restricted: whether a name that training texts link at least twice to some entities means these only
                (article 6, step 6); otherwise all entities of the name.
        """
        return entities_of(self.kb, text, start, end, self.behavior if restricted else None)

    def _require(self, part: str) -> None:
        if self._paths[part] is None:
            raise ValueError(f"{part} is None, but has to be the path of a file with texts")

    def _loader(
        self, dataset: Dataset[Any], texts: Sequence[LinkingText], *, shuffle: bool, fresh: bool = True
    ) -> ResumableDataLoader:
        hp = self.hparams
        lengths = [min(len(text.text), hp["max_length"]) for text in texts]
        sampler = LengthSampler(lengths, hp["batch_size"], seed=hp["seed"], shuffle=shuffle, fresh=fresh)
        return ResumableDataLoader(dataset, sampler, num_workers=hp["num_workers"], collate_fn=as_it_is)
