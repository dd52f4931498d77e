"""A tiny language of passages, questions and answers, and a datamodule of them, written out token by token."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor

from lit_modules.parts.qa_tokenizer import SPECIAL
from tests.lit_modules.libraries import InOrder


def tokenizer_of(words: Sequence[str]) -> str:
    """The JSON text of a WordPiece tokenizer like BERT's, with these tokens after the special ones."""
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer.to_str()


class Record(NamedTuple):
    piece: int
    passage: str
    answer: str
    question: str
    first: bool
    answers: tuple[str, ...]
    questions: tuple[str, ...]


class Input(NamedTuple):
    number: int
    passage: str


# In "x likes a, y likes b" there are two things to ask.
NAMES, THINGS = ("ann", "bob", "cid", "dot"), ("tea", "figs", "jam", "rye")
WORDS = [*NAMES, *THINGS, "likes", "who", "what", "does", "like", ",", "?"]


def written(passages: int = 40, seed: int = 0) -> list[Record]:
    """Two pairs for each of so many passages."""
    random, made = np.random.default_rng(seed), []
    for piece in range(passages):
        names, things = random.permutation(NAMES)[:2], random.permutation(THINGS)[:2]
        said = [f"{name} likes {thing}" for name, thing in zip(names, things, strict=True)]
        questions = tuple(f"what does {name} like?" for name in names)
        for number in range(2):
            answers = tuple(map(str, things))
            made.append(
                Record(piece, ", ".join(said), answers[number], questions[number], not number, answers, questions)
            )
    return made


class TinyPassages(LightningDataModule):
    """What a question-answer generator needs of its datamodule.

    Args:
        batch_size: pairs in a batch, of all processes.
        rank: this process, which gets a part of each batch.
        world_size: number of processes.
        records: in place of those that are `written`.
        words: of the vocabulary; empty: it is not known before a state is loaded.
        kept: as a datamodule that drops tokens of an encoder's says it.
        texts: to predict on.
    """

    def __init__(
        self,
        batch_size: int = 16,
        *,
        rank: int = 0,
        world_size: int = 1,
        records: list[Record] | None = None,
        words: Sequence[str] = WORDS,
        kept: list[int] | None = None,
        texts: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size
        self.records = written() if records is None else records
        self.tokenizer_json, self.kept, self.texts = tokenizer_of(words) if words else "", kept, texts
        self.prepared: list[str] = []

    def setup(self, stage: str) -> None:
        self.prepared.append(f"setup {TrainerFn(stage).value}")

    def state_dict(self) -> dict[str, Any]:
        return {"tokenizer": self.tokenizer_json}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.prepared.append("load")
        self.tokenizer_json = state_dict["tokenizer"]

    def _parts(self) -> list[list[Record]]:
        return [
            self._own(self.records[start:][: self.batch_size]) for start in range(0, len(self.records), self.batch_size)
        ]

    def _own(self, records: list[Record]) -> list[Record]:
        start, end = (len(records) * rank // self.world_size for rank in (self.rank, self.rank + 1))
        return records[start:end]

    def train_dataloader(self) -> InOrder:
        batches = [self.batch(part) for part in self._parts()]
        return InOrder([{name: x for name, x in batch.items() if name != "records"} for batch in batches])

    def val_dataloader(self) -> InOrder:
        return InOrder([self.batch(part) for part in self._parts()])

    test_dataloader = val_dataloader

    def predict_dataloader(self) -> InOrder:
        inputs = [Input(number, text) for number, text in enumerate(self.texts)]
        return InOrder([self._padded("passage", inputs) | {"records": inputs}])

    def batch(self, records: Sequence[Record]) -> dict[str, Any]:
        parts = [self._padded(name, records) for name in ("passage", "answer", "question")]
        return parts[0] | parts[1] | parts[2] | {"records": list(records)}

    def _padded(self, name: str, records: Sequence[Any]) -> dict[str, Tensor]:
        tokenizer, prefix = Tokenizer.from_str(self.tokenizer_json), ["[CLS]"] * (name == "passage")
        texts = [getattr(record, name) for record in records]
        tokens = [[*prefix, *tokenizer.encode(text, add_special_tokens=False).tokens, "[SEP]"] for text in texts]
        width = max(map(len, tokens), default=0)
        padded, mask = torch.zeros(2, len(tokens), width, dtype=torch.int64)
        for number, row in enumerate(tokens):
            padded[number, : len(row)] = torch.tensor([tokenizer.token_to_id(token) for token in row])
            mask[number, : len(row)] = 1
        return {name: padded, f"{name}_mask": mask.bool()}
