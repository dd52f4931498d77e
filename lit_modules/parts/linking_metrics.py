"""How well mentions are found and linked: micro averages over all mentions, as the CCKS 2019 competition counts them.

A mention is (start, end) in characters, a link (start, end, id). Links to NIL, an id that is None or "NIL", are left
out of what was predicted and of what is right (a prediction where the right answer is NIL is therefore wrong). What
stands twice in a text counts once. All counts are added over texts, batches and processes, so that it makes no
difference how the texts were divided among them.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from torch import Tensor

from lit_modules.parts.counts import Counts, ratio

Mention = tuple[int, int]
Link = tuple[int, int, str | None]


class _SetF1(Counts):
    """Precision, recall and F1 of sets, one predicted and one right set for each text."""

    correct: Tensor
    predicted: Tensor
    gold: Tensor

    def __init__(self) -> None:
        super().__init__("correct", "predicted", "gold")

    def _count(self, texts: Iterable[tuple[set[Any], set[Any]]]) -> None:
        for predicted, gold in texts:
            self.count(correct=len(predicted & gold), predicted=len(predicted), gold=len(gold))

    def compute(self) -> dict[str, Tensor]:
        """ "precision", "recall" and "f1" (scalars), each 0 where nothing was predicted, or nothing was to be found."""
        return {
            "precision": ratio(self.correct, self.predicted),
            "recall": ratio(self.correct, self.gold),
            "f1": ratio(2 * self.correct, self.predicted + self.gold),
        }


class MentionF1(_SetF1):
    """Which mentions were found, wherever they were linked to."""

    def update(
        self, predicted: Sequence[Collection[Mention | Link]], gold: Sequence[Collection[Mention | Link]]
    ) -> None:
        """Add texts, for each of them what was predicted and what is right: mentions, or links without regard to ids.

        Raises:
            ValueError: there are not as many texts of the one as of the other.
        """
        self._count((_mentions(found), _mentions(right)) for found, right in _texts(predicted, gold))


class LinkingF1(_SetF1):
    """End to end: which mentions were found and linked to the right id."""

    def update(self, predicted: Sequence[Collection[Link]], gold: Sequence[Collection[Link]]) -> None:
        """Add texts, for each of them the links that were predicted and the right ones.

        Raises:
            ValueError: there are not as many texts of the one as of the other.
        """
        self._count((_links(found), _links(right)) for found, right in _texts(predicted, gold))


class LinkingAccuracy(Counts):
    """How many mentions get the right id where the right mentions are given."""

    correct: Tensor
    gold: Tensor

    def __init__(self) -> None:
        super().__init__("correct", "gold")

    def update(self, predicted: Sequence[Collection[Link]], gold: Sequence[Collection[Link]]) -> None:
        """Add texts, for each of them the links of the right mentions as predicted, and the right ones.

        A right mention without a predicted link counts as wrong, a predicted one that is no right mention not at all.

        Raises:
            ValueError: there are not as many texts of the one as of the other, or a mention has two predicted ids.
        """
        for found, right in _texts(predicted, gold):
            links, answers = _links(found), _links(right)
            if len({link[:2] for link in links}) < len(links):
                raise ValueError(f"a mention has more than one predicted id, and accuracy needs one: {sorted(links)}")
            self.count(correct=len(links & answers), gold=len(answers))

    def compute(self) -> Tensor:
        """The share of right mentions that are linked to their id (scalar); 0 where there are none."""
        return ratio(self.correct, self.gold)


def _texts(predicted: Sequence[Any], gold: Sequence[Any]) -> Iterable[tuple[Any, Any]]:
    if len(predicted) != len(gold):
        raise ValueError(f"predicted has {len(predicted)} texts and gold {len(gold)}; they have to be the same texts")
    return zip(predicted, gold, strict=True)


def _mentions(found: Collection[Mention | Link]) -> set[Mention]:
    return {mention[:2] for mention in found if len(mention) == 2 or not _is_nil(mention[2])}


def _links(found: Collection[Link]) -> set[Link]:
    return {link for link in found if not _is_nil(link[2])}


def _is_nil(entity: str | None) -> bool:
    return entity is None or entity == "NIL"
