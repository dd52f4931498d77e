"""From texts to linked mentions, with a trained network and a datamodule that has the knowledge base."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lit_modules.parts.linking_network import LinkingNetwork
from lit_modules.parts.pointers import decoded_spans

# Number of the text in its batch, first character, and the one after the last.
Span = tuple[int, int, int]


class Candidate(NamedTuple):
    """An entity that a mention may mean.

    Attributes:
        id: in the knowledge base.
        name: its subject there.
        score: the probability, as the network sees it, that the mention means it, in [0, 1].
    """

    id: str
    name: str
    score: float


class LinkedMention(NamedTuple):
    """A mention in a text and what it means.

    Attributes:
        start: number of its first character.
        end: number of the character after its last one.
        text: what stands there.
        id: of its entity.
        name: the entity's subject.
        score: the probability, as the network sees it, that this entity is meant, in [0, 1].
        runners_up: the other candidates, best first.
    """

    start: int
    end: int
    text: str
    id: str
    name: str
    score: float
    runners_up: tuple[Candidate, ...]


class Question(NamedTuple):
    """A text without known mentions."""

    id: str
    text: str
    mentions: tuple[()] = ()


class Ranking(NamedTuple):
    """A mention's candidates by score, the best first: rows of the knowledge base (K,) and scores (K,)."""

    rows: np.ndarray
    scores: np.ndarray


class MentionLinker:
    """Finds mentions in batches of texts and ranks their candidates.

    Args:
        network: trained, in evaluation mode.
        data: has ``kb``, ``encode``, ``rows`` and ``candidates_of`` as EntityLinkingDataModule has them.
        settings: gate, start_threshold, end_threshold, link_threshold and restrict_candidates.
        device: the network's.
    """

    def __init__(self, network: LinkingNetwork, data: Any, settings: Mapping[str, Any], device: torch.device) -> None:
        self.network, self.data, self.settings, self.device = network, data, settings, device

    def find(self, batch: Mapping[str, Any], encoding: Tensor) -> list[Span]:
        """The mentions that the network sees in a batch's texts, each a name of the knowledge base."""
        thresholds = self.settings["start_threshold"], self.settings["end_threshold"]
        starts, ends = (
            gate & (logits.float().sigmoid() > threshold)
            for gate, logits, threshold in zip(
                gates(batch, self.settings), self.network.spans(encoding), thresholds, strict=True
            )
        )
        spans = decoded_spans(starts, ends)
        found = [(text, *span) for text, of_text in enumerate(spans) for span in of_text]
        # A start may belong to one match and its end to another.
        return [span for span in found if len(self._candidates(batch, span))]

    def rank(self, batch: Mapping[str, Any], encoding: Tensor, spans: Sequence[Span]) -> dict[Span, Ranking]:
        """The candidates of mentions, of which those without any are left out, or beyond what is read of their text.

        Args:
            batch: of texts, with "texts" and "mask".
            encoding: of these texts, (B, L, width).
            spans: the mentions, each once.
        """
        asked = [(*span, self._candidates(batch, span)) for span in spans if span[2] <= encoding.shape[1]]
        asked = [mention for mention in asked if len(mention[3])]
        ends = np.cumsum([0, *(len(mention[3]) for mention in asked)])
        scores = np.zeros(ends[-1], np.float32)
        for rows, numbers in self.data.rows(batch["texts"], asked, encoding.shape[1]):
            logits = self.network.link(encoding, batch["mask"], self.here(rows))
            scores[numbers] = logits.float().sigmoid().cpu().numpy()
        own = (scores[start:end] for start, end in pairwise(ends))
        return {mention[:3]: _ranking(mention[3], of) for mention, of in zip(asked, own, strict=True)}

    def _candidates(self, batch: Mapping[str, Any], span: Span) -> np.ndarray:
        text, start, end = span
        restricted = self.settings["restrict_candidates"]
        found: np.ndarray = self.data.candidates_of(batch["texts"][text], start, end, restricted)
        return found

    def here(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The batch with its tensors on the network's device."""
        return {name: x.to(self.device) if isinstance(x, Tensor) else x for name, x in batch.items()}

    def kept(self, ranked: Mapping[Span, Ranking], spans: Sequence[Span]) -> list[Span]:
        """Of mentions those whose best candidate is good enough."""
        least = self.settings["link_threshold"]
        return [span for span in spans if span in ranked and ranked[span].scores[0] >= least]

    def best(self, ranked: Mapping[Span, Ranking], spans: Sequence[Span]) -> dict[Span, str]:
        """The ids of the best candidates of mentions that were ranked."""
        return {span: self.data.kb.id(int(ranked[span].rows[0])) for span in spans}

    def linked(self, batch: Mapping[str, Any]) -> dict[Span, Ranking]:
        """The mentions that are found in a batch's texts and good enough, in the order of the texts."""
        if not batch["texts"]:
            return {}
        encoding = self.network.read(batch)
        spans = self.find(batch, encoding)
        ranked = self.rank(batch, encoding, spans)
        return {span: ranked[span] for span in self.kept(ranked, spans)}

    # ---- What callers get ----

    def mentions(self, texts: Sequence[str]) -> list[list[LinkedMention]]:
        """The linked mentions of each text; all texts are read at once."""
        mentions: list[list[LinkedMention]] = [[] for _ in texts]
        batch = self.here(self.data.encode([Question(str(number), text) for number, text in enumerate(texts)]))
        for (number, start, end), ranking in self.linked(batch).items():
            mentions[number].append(self._mention(texts[number], start, end, ranking))
        return mentions

    def _mention(self, text: str, start: int, end: int, ranking: Ranking) -> LinkedMention:
        entities = [self.data.kb.entity(int(row)) for row in ranking.rows]
        scores = ranking.scores.tolist()
        best, *others = (Candidate(e.id, e.subject, score) for e, score in zip(entities, scores, strict=True))
        return LinkedMention(start, end, text[start:end], *best, tuple(others))

    def records(self, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The competition's records of a batch's texts, in order, with what stands in them in its own case."""
        texts = batch["texts"]
        found: list[list[dict[str, str]]] = [[] for _ in texts]
        linked = self.linked(batch)
        for span, entity in self.best(linked, list(linked)).items():
            number, start, end = span
            mention = {"kb_id": entity, "mention": texts[number].text[start:end], "offset": str(start)}
            found[number].append(mention)
        return [
            {"text_id": text.id, "text": text.text, "mention_data": own} for text, own in zip(texts, found, strict=True)
        ]


def gates(batch: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Where mentions may start and end, (B, L) bool each: where matches do, or without a gate anywhere in the text."""
    mask = batch["mask"]
    if not settings["gate"]:
        return mask, mask
    matches = batch["matches"] > 0
    return matches[..., 0] & mask, matches[..., 1] & mask


def _ranking(rows: np.ndarray, scores: np.ndarray) -> Ranking:
    # Of equal ones the first.
    order = np.argsort(-scores, kind="stable")
    return Ranking(rows[order], scores[order])
