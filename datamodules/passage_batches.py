"""Batches of passages, answers and questions as tokens.

A batch has B rows; each part is padded for itself, with 0 on the right:

- "passage" (B, P) int64: [CLS], the tokens of a piece of a passage, [SEP]; "passage_mask" (B, P) bool;
- "answer" (B, A) int64: the tokens of an answer, [SEP]; "answer_mask" (B, A) bool;
- "question" (B, Q) int64 and "question_mask" (B, Q) bool, likewise;
- "records", when evaluating: the texts as `PassagePair`; when predicting, as `PassageInput`: there are no answers and
  no questions then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.linking_features import mask_of, padded
from datamodules.passage_cache import PassagePairs
from datamodules.passage_cutting import Piece
from datamodules.passage_tokenizer import PassageTokenizer


class PassageInput(NamedTuple):
    """A piece of a passage to ask about.

    Attributes:
        number: from 0 on, counted through all passages.
        passage: the piece.
    """

    number: int
    passage: str


class PassageBatches:
    """Makes batches; what they hold is said above.

    Args:
        tokenizer: has the numbers of [CLS] and [SEP].
    """

    def __init__(self, tokenizer: PassageTokenizer) -> None:
        self._cls, self._sep = tokenizer.cls, tokenizer.sep

    def pairs(self, parts: Sequence[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]) -> dict[str, Tensor]:
        """Returns a batch of the tokens of passages, answers and questions."""
        passages, answers, questions = ([row[part] for row in parts] for part in range(3))
        return (
            self._padded("passage", passages, self._cls)
            | self._padded("answer", answers)
            | self._padded("question", questions)
        )

    def inputs(self, pieces: Sequence[tuple[int, Piece]]) -> dict[str, Any]:
        """Returns a batch of numbered pieces to predict on."""
        batch = self._padded("passage", [piece.tokens for _, piece in pieces], self._cls)
        return batch | {"records": [PassageInput(number, piece.text) for number, piece in pieces]}

    def _padded(self, name: str, rows: Sequence[NDArray[Any]], *first: int) -> dict[str, Tensor]:
        whole = [np.concatenate([np.array(first, np.int64), row, [self._sep]]) for row in rows]
        mask = mask_of([len(row) for row in whole])
        return {name: torch.from_numpy(padded(whole)), f"{name}_mask": torch.from_numpy(mask)}


class PairRows(Dataset[Any]):
    """Pairs of a part; a list of row numbers of `LengthSampler` is fetched as one batch.

    Args:
        pairs: N of them.
        batches: makes them.
        texts: whether batches have "records".
    """

    def __init__(self, pairs: PassagePairs, batches: PassageBatches, *, texts: bool) -> None:
        self._pairs = pairs
        self._batches = batches
        self._texts = texts

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitems__(self, rows: Sequence[int]) -> dict[str, Any]:
        """Returns the batch of these row numbers."""
        numbers = [row % len(self) for row in rows]
        batch: dict[str, Any] = self._batches.pairs([self._pairs.tokens(number) for number in numbers])
        return batch | {"records": [self._pairs.record(number) for number in numbers]} if self._texts else batch
