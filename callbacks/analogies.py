"""Questions such as "Athens is to Greece as Oslo is to which word?", answered by adding vectors."""

from __future__ import annotations

from collections import Counter

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from callbacks.item_evaluation import ItemEvaluation
from callbacks.items import folded, numbered
from callbacks.progress import progress
from callbacks.tables import Cell, publish_table
from callbacks.word_files import read_analogies

_COLUMNS = ("group", "right", "known", "unknown", "accuracy")
# Questions answered at a time; they share words, since files list all pairs of a pair.
_CHUNK = 128


class WordAnalogies(ItemEvaluation):
    """Logs val/analogy, the share of analogies "a is to b as c is to d" that the vectors answer right.

    The answer is the word whose vector has the largest cosine with b - a + c, all of length 1 (3CosAdd; Mikolov et
    al., Linguistic regularities in continuous space word representations, 2013), a, b and c themselves left out.
    Questions with an unknown word are left out too: val/analogy_oov is their number. A table, "analogy", has the
    groups of the file: `callbacks.tables.publish_table` says where it goes.

    `callbacks.word_files.read_analogies` says what the file looks like.

    Args:
        path: the file, plain or gzipped.
        restrict: only the first so many items are known, which in a vocabulary are the most frequent; None for all.
            The fewer, the easier.
        ignore_case: whether words that differ in case only are the same; of several such items the first counts.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an argument is out of its range, the file is broken, or (when training starts) no question is
            known.
    """

    def __init__(self, path: str, restrict: int | None = 30000, ignore_case: bool = True) -> None:
        if restrict is not None and restrict < 1:
            raise ValueError(f"restrict must be at least 1, got {restrict}")
        self.path = path
        self.restrict = restrict
        self.ignore_case = ignore_case
        self._questions = read_analogies(path)

    def check(self, items: list[str]) -> None:
        """Refuse items that no question is about."""
        self._known(items)

    def measure(self, trainer: pl.Trainer, items: list[str], vectors: Tensor) -> dict[str, float]:
        """The accuracy over all known questions, and the number of the others."""
        rows, asked = self._known(items)
        spellings = self._spellings(items).to(vectors.device)
        first, vectors = spellings[:, 0], vectors[: len(spellings)]
        rows = rows.to(vectors.device)
        answered: list[Tensor] = []
        with progress(trainer, "Analogies", len(rows)) as advance:
            for chunk in rows.split(_CHUNK):
                answered.append(first[answers(vectors, spellings, chunk[:, :3])] == first[chunk[:, 3]])
                advance(len(chunk))
        right = torch.cat(answered).cpu()
        publish_table(trainer, self.folder, "analogy", _COLUMNS, self._groups(asked, right))
        return {"analogy": right.float().mean().item(), "analogy_oov": len(self._questions) - len(asked)}

    def _known(self, items: list[str]) -> tuple[Tensor, list[str]]:
        """The known questions: their words' numbers (Q, 4), and their groups."""
        numbers = numbered(items[: self.restrict], self.ignore_case)
        rows: list[list[int]] = []
        groups: list[str] = []
        for question in self._questions:
            words = (question.a, question.b, question.c, question.d)
            row = [numbers.get(folded(word, self.ignore_case), -1) for word in words]
            if min(row) >= 0:
                rows.append(row)
                groups.append(question.group)
        if not rows:
            first = self._questions[0]
            raise ValueError(
                f"{self.path}: no question has words that are all among the first {len(items[: self.restrict])} items"
                f" of the module; {first.a!r}, {first.b!r}, {first.c!r}, {first.d!r} is one"
            )
        return torch.tensor(rows), groups

    def _spellings(self, items: list[str]) -> Tensor:
        """For each known item the items that are the same word, (N, S), the first one first and again as a filler."""
        words = [folded(item, self.ignore_case) for item in items[: self.restrict]]
        same: dict[str, list[int]] = {}
        for number, word in enumerate(words):
            same.setdefault(word, []).append(number)
        most = max(map(len, same.values()))
        return torch.tensor([same[word] + same[word][:1] * (most - len(same[word])) for word in words])

    def _groups(self, asked: list[str], right: Tensor) -> list[list[Cell]]:
        """The rows of the table."""
        total = Counter(question.group for question in self._questions)
        known = Counter(asked)
        hits = Counter(group for group, hit in zip(asked, right.tolist(), strict=True) if hit)
        rows: list[list[Cell]] = []
        for group in total:
            accuracy = round(hits[group] / known[group], 4) if known[group] else ""
            rows.append([group, hits[group], known[group], total[group] - known[group], accuracy])
        return rows


def answers(vectors: Tensor, spellings: Tensor, questions: Tensor) -> Tensor:
    """The items, (Q,), that questions (a, b, c), (Q, 3), are answered with.

    Args:
        vectors: (N, d).
        spellings: (N, S), for each item the items that are the same word; such are left out together.
        questions: (Q, 3), numbers of items.
    """
    vectors = F.normalize(vectors, dim=1)
    # A word that is in many questions is compared with all others once.
    words, place = questions.unique(return_inverse=True)
    cosine = vectors[words] @ vectors.T
    a, b, c = place.unbind(dim=1)
    scores = cosine[b] - cosine[a] + cosine[c]
    scores.scatter_(1, spellings[questions].flatten(1), -torch.inf)
    return scores.argmax(dim=1)
