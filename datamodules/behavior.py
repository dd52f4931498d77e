"""What annotators label: statistics of a training set on the names of a knowledge base (article 6, steps 2, 6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.knowledge_base import KnowledgeBase
from datamodules.linking_files import LinkingText, Mention
from datamodules.name_matcher import NameMatcher

_LEAST_LINKS = 2


class Behavior:
    """Counts for each name of a knowledge base, in the training texts and nowhere else.

    Of the T texts, p label a name, and r have it in their cover (`NameMatcher.cover`) but do not label it. Names with
    (r + 1) / (p + 1) >= ratio are not allowed in a cover. NIL is no label.

    Args:
        kb: the knowledge base that the numbers are of.
        ratio: the article's 5.

    Attributes:
        allowed: (N,) bool, whether a name may be matched.
        counts: (K, 3) int64: names with labels or matches, p and r.
        links: (M, 3) int64: name, row and how many mentions link the one to the other; by name, then by which came
            first.
    """

    def __init__(self, kb: KnowledgeBase, *, ratio: float = 5.0) -> None:
        self.kb = kb
        self.ratio = ratio
        self._set(np.zeros((0, 3), np.int64), np.zeros((0, 3), np.int64))

    @classmethod
    def fit(cls, texts: Iterable[LinkingText], matcher: NameMatcher, kb: KnowledgeBase, ratio: float = 5.0) -> Behavior:
        """Returns the statistics of training texts, which are read once."""
        labeled, unlabeled, links = Counter[int](), Counter[int](), Counter[tuple[int, int]]()
        for text in texts:
            names = set()
            for name, row in _labels(text, kb):
                names.add(name)
                if row is not None:
                    links[name, row] += 1
            labeled.update(names)
            unlabeled.update({name for _, _, name in matcher.cover(text.text)} - names)
        found = cls(kb, ratio=ratio)
        seen = sorted(labeled.keys() | unlabeled.keys())
        pairs = [(name, row, count) for (name, row), count in links.items()]
        found._set(
            np.array([(name, labeled[name], unlabeled[name]) for name in seen], np.int64).reshape(-1, 3),
            np.array(sorted(pairs, key=lambda pair: pair[0]), np.int64).reshape(-1, 3),
        )
        return found

    def linked(self, name: int) -> NDArray[np.int64]:
        """Returns the rows that a name was linked to at least twice (step 6's candidates; none: all of the name)."""
        links = self._links(name)
        return links[links[:, 2] >= _LEAST_LINKS, 1]

    def most_frequent(self, name: int) -> int | None:
        """Returns the row that a name was linked to most often, the first one of several; None for none."""
        links = self._links(name)
        return int(links[links[:, 2].argmax(), 1]) if len(links) else None

    def state_dict(self) -> dict[str, Any]:
        """Returns the statistics as tensors, and which knowledge base they are of."""
        return {
            "knowledge": self.kb.fingerprint,
            "ratio": self.ratio,
            "counts": torch.from_numpy(self.counts),
            "links": torch.from_numpy(self.links),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes the statistics that `state_dict` returned.

        Raises:
            ValueError: they are of another knowledge base.
        """
        if state["knowledge"] != self.kb.fingerprint:
            raise ValueError(
                f"the statistics of the training texts are of a knowledge base with fingerprint {state['knowledge']}, "
                f"but this one has {self.kb.fingerprint}; open the one that was trained with"
            )
        self.ratio = state["ratio"]
        self._set(state["counts"].numpy(), state["links"].numpy())

    def _set(self, counts: NDArray[np.int64], links: NDArray[np.int64]) -> None:
        self.counts, self.links = counts, links
        names, labeled, unlabeled = counts.T
        self.allowed = np.ones(self.kb.num_names, bool)
        self.allowed[names[(unlabeled + 1) / (labeled + 1) >= self.ratio]] = False

    def _links(self, name: int) -> NDArray[np.int64]:
        return self.links[slice(*self.links[:, 0].searchsorted([name, name + 1]))]


def frequency_baseline(
    texts: Iterable[str], matcher: NameMatcher, behavior: Behavior, *, filtered: bool
) -> Iterator[list[Mention]]:
    """Yields the mentions of each text that no network is needed for.

    Every name of the text's cover is a mention, of the entity that the training texts link it to most often, or of
    its first entity where they never do.

    Args:
        texts: to find mentions in.
        matcher: finds names.
        behavior: of the training texts.
        filtered: whether the cover is of the allowed names only.
    """
    allowed = behavior.allowed if filtered else None
    for text in texts:
        yield [Mention(start, end, _likeliest(name, behavior)) for start, end, name in matcher.cover(text, allowed)]


def _likeliest(name: int, behavior: Behavior) -> str:
    row = behavior.most_frequent(name)
    return behavior.kb.id(int(behavior.kb.candidates(name)[0]) if row is None else row)


def _labels(text: LinkingText, kb: KnowledgeBase) -> Iterator[tuple[int, int | None]]:
    """Yields the names that a text labels, with the row each is linked to: None for an id that is unknown."""
    for start, end, entity in text.mentions:
        name = kb.name_number(text.text[start:end])
        if entity is not None and name is not None:
            yield name, kb.row(entity)
