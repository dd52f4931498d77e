"""Passages with questions about them and their answers, as batches of tokens."""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any

from lightning.pytorch import LightningDataModule

from datamodules.cache_folders import cache_folder
from datamodules.checks import at_least
from datamodules.loading import ResumableDataLoader
from datamodules.passage_batches import PairRows, PassageBatches
from datamodules.passage_cache import Limits, PassagePairs
from datamodules.passage_cutting import Piece
from datamodules.passage_parts import EMBEDDED, PARTS, PassageParts
from datamodules.passage_tokenizer import PassageTokenizer, pretrained, simplified
from datamodules.text_batches import LengthSampler, TextStream, as_it_is


class PassageDataModule(LightningDataModule):
    """Questions about passages and their answers, cut to what a network can read.

    Files are in the formats of WebQA and SogouQA, of SQuAD, DRCD and CMRC 2018, or JSON lines with "passage" (or
    "context"), "question" and "answer" (or "answers"); what a file is shows from its content, .gz or not. What is left
    out of the files is counted by kind, with file and entry, in `report`. All of it is read once, into a cache of
    memory-mapped Arrow files that later runs reuse.

    A passage of over `max_passage` tokens is cut at sentence ends, and a question goes with each piece that its answer
    stands in (article 8). A question whose answer stands in no piece is counted.

    The vocabulary comes from the training part alone, or from a pretrained network, and goes into checkpoints, so that
    prediction needs neither training files nor the network's folder.

    `datamodules.passage_batches` says what batches hold.

    Order is a function of (seed, epoch), so that a run can be resumed anywhere, and W processes on batches of B see
    what one on batches of W * B sees.

    Args:
        train: path of the training questions; None to evaluate or predict with a checkpoint; or "embedded", an example
            written for this project, 30 passages in Chinese and English with 100 questions, whose 6 last passages are
            then used for each part that has no path. Another part can be "embedded", too.
        validation: path of the questions to validate on; None to hold some of the training passages out.
        test: path of the questions to test on.
        predict: path of passages to ask about, JSON lines with "passage" or lines of text, which are read as they are
            predicted on; of a long one each piece is an input of its own.
        val_fraction: part of the training passages that is held out where there is no `validation`. Passages that have
            a question in common stay together: neither a passage nor a question is in both parts.
        cache_dir: folder for the cache; None for litspaces/passages in $XDG_CACHE_HOME or ~/.cache.
        tokenizer: of a pretrained network like BERT, by its name or folder; None to make a WordPiece vocabulary of the
            training part.
        vocabulary_size: V, tokens of a vocabulary that is made here, at most.
        simplify_vocabulary: whether to drop those of the pretrained network's tokens that have several characters,
            an ideograph or punctuation among them, and put [PAD], [UNK], [CLS] and [SEP] first.
        max_passage: tokens of a passage's piece, [CLS] and [SEP] not counted.
        max_answer: tokens of an answer, likewise; questions whose answers are longer are left out.
        max_question: tokens of a question, likewise; longer ones are left out.
        batch_size: questions in a batch of one process.
        seed: seed of the split and the order.

    Attributes:
        tokenizer_json: the tokenizer as the `tokenizers` library writes it; "" before it is known: to fit after
            `setup`, otherwise when a checkpoint brings it or a batch needs it.
        tokens: its vocabulary in the order of the numbers; [] before.
        kept: the number that each token has in the pretrained network, where the vocabulary was simplified, else None.
        report: what was read and what is wrong in it; also logged.
        skip_predictions: how many of the first pieces to predict on are left out, all processes' together.

    Raises:
        ValueError: for a wrong argument, and later for a damaged file or a checkpoint of other training data.
        FileNotFoundError: later, where there is no such file.
    """

    def __init__(
        self,
        train: str | None = "embedded",
        *,
        validation: str | None = None,
        test: str | None = None,
        predict: str | None = None,
        val_fraction: float = 0.1,
        cache_dir: str | None = None,
        tokenizer: str | None = None,
        vocabulary_size: int = 8000,
        simplify_vocabulary: bool = False,
        max_passage: int = 128,
        max_answer: int = 16,
        max_question: int = 64,
        batch_size: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        for name in ("vocabulary_size", "max_passage", "max_answer", "max_question", "batch_size"):
            at_least(name, self.hparams[name], 1)
        if not 0 <= val_fraction <= 1:
            raise ValueError(f"val_fraction is {val_fraction}, but has to be from 0 to 1")
        if simplify_vocabulary and tokenizer is None:
            raise ValueError("simplify_vocabulary is for a pretrained network's vocabulary: give its tokenizer, too")
        self.skip_predictions = 0
        self._paths: dict[str, str | None] = {part: self.hparams[part] for part in PARTS}
        for part, path in EMBEDDED.items():
            if self._paths[part] == "embedded" or (train == "embedded" and self._paths[part] is None):
                self._paths[part] = path
        self._tokenizer: PassageTokenizer | None = None
        self.kept: list[int] | None = None
        self._learned_from: list[str | int | float] = []
        self._pairs: dict[str, PassagePairs] = {}
        self._is_fitting = False

    @cached_property
    def _parts(self) -> PassageParts:
        hp = self.hparams
        cache = cache_folder(hp["cache_dir"], "passages")
        return PassageParts(self._paths, cache, val_fraction=hp["val_fraction"], seed=hp["seed"])

    @property
    def tokenizer_json(self) -> str:
        """The tokenizer in JSON."""
        return "" if self._tokenizer is None else self._tokenizer.to_str()

    @property
    def tokens(self) -> list[str]:
        """The vocabulary."""
        return [] if self._tokenizer is None else self._tokenizer.tokens

    @property
    def report(self) -> str:
        """What was read, and what is wrong in it."""
        return self._parts.report

    def prepare_data(self) -> None:
        """To fit, writes into the cache what is not there yet, once on each machine."""
        if self.trainer is not None and self.trainer.state.fn == "fit":
            self._prepare()

    def setup(self, stage: str) -> None:
        """To fit, makes the vocabulary and opens the questions to train and to validate on."""
        self._is_fitting = stage == "fit"
        if self._is_fitting:
            self._prepare()

    def _prepare(self) -> None:
        self._require("train")
        self._learn()
        for part in ("train", "validation"):
            self._open(part)

    def state_dict(self) -> dict[str, Any]:
        """Returns the tokenizer and what it was made for, for checkpoints; nothing where there is none yet."""
        if self._tokenizer is None:
            return {}
        return {"tokenizer": self.tokenizer_json, "kept": self.kept, "learned_from": self._learned_from}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes what `state_dict` returned in place of what was learned here.

        Raises:
            ValueError: this is set up to fit, with other training questions or another tokenizer.
        """
        if not state_dict:
            return
        if self._is_fitting:
            self._check(state_dict)
        if state_dict["tokenizer"] != self.tokenizer_json:
            self._tokenizer, self._pairs = PassageTokenizer(state_dict["tokenizer"]), {}
        self.kept, self._learned_from = state_dict["kept"], state_dict["learned_from"]

    def _check(self, state: dict[str, Any]) -> None:
        names = ("train", "val_fraction", "seed")
        if state["learned_from"] == self._learned_from:
            names = ("tokenizer", "vocabulary_size", "simplify_vocabulary")
            if state["tokenizer"] == self.tokenizer_json:
                return
        here = ", ".join(f"{name}={self.hparams[name]!r}" for name in names)
        what = "tokenizer" if "tokenizer" in names else "training questions"
        raise ValueError(f"the checkpoint has other {what} than {here} give; a run goes on with those it began with")

    def train_dataloader(self) -> ResumableDataLoader:
        """Returns training batches of like length, all questions of an epoch."""
        self._require("train")
        fresh = not getattr(self.trainer, "overfit_batches", 0)
        return self._loader("train", shuffle=True, fresh=fresh)

    def val_dataloader(self) -> ResumableDataLoader | list[ResumableDataLoader]:
        """Returns the questions to validate on, the longest first; an empty list where there are none."""
        if self._paths["train"] is None:
            self._require("validation")
        return self._loader("validation") if len(self._open("validation")) else []

    def test_dataloader(self) -> ResumableDataLoader:
        """Returns the questions to test on, the longest first."""
        self._require("test")
        return self._loader("test")

    def predict_dataloader(self) -> TextStream[tuple[int, Piece]]:
        """Returns the passages to predict on, piece by piece, as they are read, less the first `skip_predictions`."""
        self._require("predict")
        tokenizer, hp = self._learn(), self.hparams
        make = PassageBatches(tokenizer).inputs
        pieces = partial(self._parts.stream, tokenizer, hp["max_passage"])
        return TextStream(pieces, make, hp["batch_size"], skip=self.skip_predictions)

    def _learn(self) -> PassageTokenizer:
        """The tokenizer; to evaluate, a checkpoint may bring it until it is needed."""
        if self._tokenizer is None:
            hp = self.hparams
            if hp["tokenizer"] is None:
                if self._paths["train"] is None:
                    raise ValueError("there is no vocabulary yet: give train, a tokenizer, or a checkpoint")
                text = self._parts.tokenizer(hp["vocabulary_size"])
            else:
                text = pretrained(hp["tokenizer"])
            if hp["simplify_vocabulary"]:
                text, self.kept = simplified(text)
            self._tokenizer = PassageTokenizer(text)
            self._learned_from = [] if self._paths["train"] is None else self._parts.key("train")
        return self._tokenizer

    def _open(self, part: str) -> PassagePairs:
        if part not in self._pairs:
            hp = self.hparams
            limits = Limits(hp["max_passage"], hp["max_answer"], hp["max_question"])
            self._pairs[part] = self._parts.pairs(part, self._learn(), limits)
        return self._pairs[part]

    def _loader(self, part: str, *, shuffle: bool = False, fresh: bool = True) -> ResumableDataLoader:
        pairs, hp = self._open(part), self.hparams
        rows = PairRows(pairs, PassageBatches(self._learn()), texts=not shuffle)
        lengths = pairs.lengths.tolist()
        sampler = LengthSampler(lengths, hp["batch_size"], seed=hp["seed"], shuffle=shuffle, fresh=fresh)
        return ResumableDataLoader(rows, sampler, collate_fn=as_it_is)

    def _require(self, part: str) -> None:
        if self._paths[part] is None:
            raise ValueError(f"{part} is None, but has to be the path of a file with passages")
