"""What a batch of training texts is asked: one mention of each text, and which entities it is scored against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from datamodules.behavior import Behavior
from datamodules.knowledge_base import KnowledgeBase
from datamodules.linking_batches import LinkingEncoder
from datamodules.linking_files import LinkingText
from datamodules.loading import random_generator


class EvaluationTexts(Dataset[Any]):
    """Texts to evaluate; a list of row numbers of `LengthSampler` is fetched as one batch.

    Args:
        texts: N of them.
        encoder: makes batches.
    """

    def __init__(self, texts: Sequence[LinkingText], encoder: LinkingEncoder) -> None:
        self._texts = texts
        self._encoder = encoder

    def __getitems__(self, rows: Sequence[int]) -> dict[str, Any]:
        """Returns the batch of these row numbers."""
        return self._encoder.encode([self._texts[row] for row in rows])


class TrainingTexts(Dataset[Any]):
    """Training texts; a list of row numbers of `LengthSampler` is fetched as one batch.

    Of each text one of its mentions in the knowledge base is drawn (article 6, step 4). It is scored against one
    entity, drawn uniformly from all of its name, as the article does, or with probability `balance` the right one; or
    against several at once, the right one among them, the others drawn without repetition. Draws are functions of
    (seed, epoch, text).

    Args:
        texts: N of them.
        kb: has the candidates.
        encoder: makes batches.
        candidates: entities that a mention is scored against, at most.
        balance: with one candidate, how likely it is made the right one; None for the article's way.
        seed: of the draws.
    """

    def __init__(
        self,
        texts: Sequence[LinkingText],
        kb: KnowledgeBase,
        encoder: LinkingEncoder,
        *,
        candidates: int,
        balance: float | None,
        seed: int,
    ) -> None:
        self._texts = texts
        self._kb = kb
        self._encoder = encoder
        self._candidates = candidates
        self._balance = balance
        self._seed = seed

    def __len__(self) -> int:
        return len(self._texts)

    def __getitems__(self, rows: Sequence[int]) -> dict[str, Any]:
        """Returns the batch of these row numbers."""
        texts = [self._texts[row % len(self)] for row in rows]
        batch = self._encoder.encode(texts)
        del batch["texts"]
        asked = [
            (number, start, end, entity, entity == right)
            for number, (text, row) in enumerate(zip(texts, rows, strict=True))
            for start, end, entities, right in self._draws(text, *divmod(row, len(self)))
            for entity in entities.tolist()
        ]
        spans, entities = [row[:3] for row in asked], np.array([entity for *_, entity, _ in asked], np.int64)
        batch["rows"] = self._encoder.table(texts, spans, entities, batch["mask"].shape[1])
        batch["rows"]["linked"] = torch.tensor([float(linked) for *_, linked in asked])
        return batch

    def _draws(self, text: LinkingText, epoch: int, number: int) -> list[tuple[int, int, NDArray[np.int64], int]]:
        """A mention's start and end, its candidates (K,) and the right one of them; nothing for a text without one."""
        known = [
            (mention, row)
            for mention in text.mentions
            if mention.end <= self._encoder.max_length
            and mention.entity is not None
            and (row := self._kb.row(mention.entity)) is not None
        ]
        if not known:
            return []
        generator = random_generator(self._seed, epoch, number, "candidates")
        mention, right = known[int(torch.randint(len(known), (), generator=generator))]
        # Annotators link names too that the knowledge base does not give the entity.
        same_name = entities_of(self._kb, text, mention.start, mention.end)
        others = same_name[same_name != right]
        return [(mention.start, mention.end, self._chosen(right, others, generator), right)]

    def _chosen(self, right: int, others: NDArray[np.int64], generator: torch.Generator) -> NDArray[np.int64]:
        order = others[torch.randperm(len(others), generator=generator).numpy()]
        if self._candidates > 1:
            return np.concatenate([[right], order[: self._candidates - 1]])
        chance = 1 / (len(others) + 1) if self._balance is None else self._balance
        is_right = not len(others) or float(torch.rand((), generator=generator)) < chance
        return np.array([right if is_right else order[0]])


def entities_of(
    kb: KnowledgeBase, text: LinkingText, start: int, end: int, behavior: Behavior | None = None
) -> NDArray[np.int64]:
    """Returns the rows of the entities that characters `start` to `end` of a text may mean, (K,).

    They are all that have this name, or, given a behavior, those alone that the training texts link the name to at
    least twice, where there are any (article 6, step 6).
    """
    name = kb.name_number(text.text[start:end])
    if name is None:
        return np.zeros(0, np.int64)
    linked = kb.candidates(name)[:0] if behavior is None else behavior.linked(name)
    return np.asarray(linked if len(linked) else kb.candidates(name), np.int64)
