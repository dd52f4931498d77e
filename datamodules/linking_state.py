"""What is learned from training texts and kept in checkpoints; prediction needs no more beside a knowledge base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from datamodules.behavior import Behavior
from datamodules.knowledge_base import KnowledgeBase
from datamodules.linking_files import LinkingText
from datamodules.name_matcher import NameMatcher
from datamodules.normalizing import normalize, word_pieces
from datamodules.pieces import PieceTokenizer
from datamodules.segmenters import find_segmenter
from datamodules.word_vectors import read_word_vectors


@dataclass(frozen=True)
class Learned:
    """What is learned from training texts.

    Args:
        characters: the vocabulary; see `CharacterNumbers`.
        behavior: which names are labeled, and what they are linked to.
        words: those with vectors, the first for none; empty where there are none.
        word_vectors: theirs, (V, d) float32, the first 0; or None.
        tokenizer: of a pretrained network, or None.
    """

    characters: list[str]
    behavior: Behavior
    words: list[str]
    word_vectors: Tensor | None
    tokenizer: PieceTokenizer | None

    @classmethod
    def from_texts(
        cls,
        texts: Sequence[LinkingText],
        kb: KnowledgeBase,
        matcher: NameMatcher,
        *,
        segmenter: str,
        min_count: int,
        word_vectors: str | None,
        tokenizer: str | None,
    ) -> Learned:
        """Learns from training texts, and characters and words from the knowledge base's descriptions too.

        Args:
            texts: the training part.
            kb: the knowledge base.
            matcher: of its names.
            segmenter: of the texts; see `find_segmenter`.
            min_count: characters that occur fewer times are unknown.
            word_vectors: path of a file for `read_word_vectors`, of which those words are kept that occur; or None.
            tokenizer: name or folder of a transformers model; or None.
        """
        normal = [normalize(text.text) for text in texts]
        cut = find_segmenter(segmenter)
        counts = kb.character_counts()
        counts.add(normal)
        words, vectors = list[str](), None
        if word_vectors is not None:
            occurring = set(kb.words()).union(*(word_pieces(text, cut) for text in normal))
            words, vectors = read_word_vectors(word_vectors, occurring)
        pieces = None if tokenizer is None else PieceTokenizer.from_pretrained(tokenizer)
        return cls(counts.characters(min_count), Behavior.fit(texts, matcher, kb), words, vectors, pieces)

    @classmethod
    def from_state(cls, state: dict[str, Any], kb: KnowledgeBase) -> Learned:
        """Takes what `state_dict` returned.

        Raises:
            ValueError: it is of another knowledge base.
        """
        behavior = Behavior(kb)
        behavior.load_state_dict(state["behavior"])
        pieces = None if state["tokenizer"] is None else PieceTokenizer(state["tokenizer"])
        return cls(state["characters"], behavior, state["words"], state["word_vectors"], pieces)

    def state_dict(self) -> dict[str, Any]:
        """Returns all of it as lists, strings and tensors."""
        return {
            "characters": self.characters,
            "behavior": self.behavior.state_dict(),
            "words": self.words,
            "word_vectors": self.word_vectors,
            "tokenizer": None if self.tokenizer is None else self.tokenizer.state_dict(),
        }
