"""Batches for entity linking: texts, and rows of a mention and an entity that it may mean.

A batch has B texts, of like length when training, L characters in the longest one:

- "characters" (B, L) int64, "mask" (B, L) bool;
- "words" (B, L) int64, with word vectors: the number of the word that each character lies in;
- "matches" (B, L, 2) float32: where names of the knowledge base start and end, on the way through the text that
  takes the fewest pieces, less those that annotators hardly ever label (article 6, step 2);
- "starts" and "ends" (B, L) float32: where mentions do;
- with a tokenizer "pieces" (B, P) int64, "piece_mask" (B, P) bool and "piece_of" (B, L) int64, the piece that each
  character lies in, 0 ([CLS]) for none;
- "texts", when evaluating: the texts as `LinkingText`;
- "rows", when training: a dict of R rows, each a mention and an entity that it may mean. A text without a
  mention in the knowledge base has none.

Rows are:

- "text_of" (R,) int64, "mention" (R, L) float32, 1 at its characters;
- "features" (R, L, 3) float32: is the character in the description, is its word, is it inside of a string that
  is one of the entity's objects;
- "entity_characters" and "entity_words" (D, M) int64, "entity_mask" (D, M) bool: D descriptions; with a tokenizer
  "entity_pieces" and "entity_piece_mask" in their place;
- "entity_of" (R,) int64: which of them is the entity's. When evaluating, rows of an entity share one; when training,
  each row has its own, for dropout of its own;
- "linked" (R,) float32, when training: whether it is the right entity.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.knowledge_base import Entity, KnowledgeBase
from datamodules.linking_features import CharacterNumbers, Overlap, code_points, mask_of, padded, spread
from datamodules.linking_files import LinkingText
from datamodules.name_matcher import NameMatcher
from datamodules.normalizing import normalize, word_pieces
from datamodules.pieces import PieceTokenizer
from datamodules.segmenters import Segmenter

# Number of the text, first character, the one after the last, and the rows of the entities that it may mean.
Candidates = tuple[int, int, int, NDArray[np.int64]]


class LinkingEncoder:
    """Makes batches of texts and of candidate rows; what they hold is said above.

    Args:
        kb: the knowledge base.
        matcher: of its names.
        characters: the vocabulary; see `CharacterNumbers`.
        words: the words with vectors in the order of their numbers, the first for none; empty where there are none.
        allowed: which names may match, (names,); None for all.
        segmenter: cuts texts as the knowledge base's descriptions were cut.
        tokenizer: of a pretrained network, which reads its pieces in place of characters; or None.
        max_length: characters of a text that are read.
        max_description: characters of a description that the network reads; features see all of it.
        rows_per_batch: the most candidate rows at a time.
    """

    def __init__(
        self,
        kb: KnowledgeBase,
        matcher: NameMatcher,
        *,
        characters: Sequence[str],
        words: Sequence[str],
        allowed: NDArray[np.bool_] | None,
        segmenter: Segmenter,
        tokenizer: PieceTokenizer | None,
        max_length: int,
        max_description: int,
        rows_per_batch: int,
    ) -> None:
        self._kb = kb
        self._matcher = matcher
        self._character_numbers = CharacterNumbers(characters)
        self._word_numbers = {word: number for number, word in enumerate(words)}
        self._allowed = allowed
        self._segmenter = segmenter
        self._tokenizer = tokenizer
        self.max_length = max_length
        self._max_description = max_description
        self._rows_per_batch = rows_per_batch
        self._overlap = Overlap()

    def encode(self, texts: Sequence[LinkingText]) -> dict[str, Any]:
        """Returns a batch of texts without rows."""
        read = [self._read(text) for text in texts]
        mask = mask_of([len(text) for text in read])
        batch: dict[str, NDArray[Any]] = {"mask": mask}
        batch["characters"] = padded([self._character_numbers(code_points(text)) for text in read])
        if self._word_numbers:
            batch["words"] = padded([self._words(word_pieces(text, self._segmenter)) for text in read])
        if self._tokenizer is not None:
            batch |= self._pieces([text.text[: self.max_length] for text in texts], mask.shape[1])
        batch |= {"matches": self._matches(read, mask), **_targets(texts, mask)}
        return {name: torch.from_numpy(array) for name, array in batch.items()} | {"texts": list(texts)}

    def rows(
        self, texts: Sequence[LinkingText], mentions: Sequence[Candidates], width: int
    ) -> Iterator[tuple[dict[str, Tensor], NDArray[np.int64]]]:
        """Yields rows of mentions and candidates, and the number of each row, (R,).

        Rows are numbered through the mentions and their candidates, but come by their description: those of an entity
        together, so that it is read once, and those of like length, for little padding.

        Args:
            texts: of a batch.
            mentions: in them.
            width: L of the batch.
        """
        spans = [mention[:3] for mention in mentions for _ in mention[3]]
        entities = np.concatenate([np.zeros(0, np.int64), *(candidates for *_, candidates in mentions)])
        lengths = np.minimum(self._kb.description_lengths[entities], self._max_description)
        order = np.lexsort((entities, lengths))
        for start in range(0, len(order), self._rows_per_batch):
            chunk = order[start : start + self._rows_per_batch]
            yield self.table(texts, [spans[row] for row in chunk], entities[chunk], width, shared=True), chunk

    def table(
        self,
        texts: Sequence[LinkingText],
        spans: Sequence[tuple[int, int, int]],
        entities: NDArray[np.int64],
        width: int,
        *,
        shared: bool = False,
    ) -> dict[str, Tensor]:
        """Returns R rows: the number of the text, start and end of each mention, and its entity (R,).

        Args:
            texts: of a batch.
            spans: the mentions.
            entities: (R,).
            width: L of the batch.
            shared: whether rows share the description of their entity.
        """
        text_of, starts, ends = np.array(spans, np.int64).reshape(-1, 3).T
        distinct, entity_of = np.unique(entities, return_inverse=True)
        meant = [self._kb.entity(entity) for entity in distinct.tolist()]
        features = self._common(texts, text_of, meant, entity_of, width)
        rows = {"text_of": text_of, "mention": _inside(starts, ends, width), "features": features}
        described = self._described(meant)
        if not shared:
            described = {name: array[entity_of] for name, array in described.items()}
            entity_of = np.arange(len(entity_of))
        rows |= {**described, "entity_of": entity_of}
        return {name: torch.from_numpy(array) for name, array in rows.items()}

    def _read(self, text: LinkingText) -> str:
        """The part of a text that is read, in normalized form."""
        return normalize(text.text[: self.max_length])

    def _words(self, pieces: Sequence[str]) -> NDArray[np.int64]:
        """The number of the word that each character lies in, 0 for one without a vector."""
        return spread([self._word_numbers.get(piece, 0) for piece in pieces], pieces, np.int64)

    def _pieces(self, texts: Sequence[str], width: int) -> dict[str, NDArray[Any]]:
        assert self._tokenizer is not None
        encoded = self._tokenizer(texts)
        ids, places = [ids for ids, _ in encoded], [places for _, places in encoded]
        piece_mask = mask_of(list(map(len, ids)))
        return {"pieces": self._filled(ids, piece_mask), "piece_mask": piece_mask, "piece_of": padded(places, width)}

    def _filled(self, ids: Sequence[NDArray[np.int64]], mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        assert self._tokenizer is not None
        return np.where(mask, padded(ids), self._tokenizer.padding)

    def _matches(self, texts: Sequence[str], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Where the names that cover the texts start and end, (B, L, 2)."""
        matches = np.zeros((*mask.shape, 2), np.float32)
        for row, text in enumerate(texts):
            for start, end, _ in self._matcher.cover(text, self._allowed):
                matches[row, start, 0] = matches[row, end - 1, 1] = 1
        return matches

    def _common(
        self,
        texts: Sequence[LinkingText],
        text_of: NDArray[np.int64],
        entities: Sequence[Entity],
        entity_of: NDArray[np.int64],
        width: int,
    ) -> NDArray[np.float32]:
        """What the text and the entity of each row have in common, (R, L, 3)."""
        read = {number: self._read(texts[number]) for number in np.unique(text_of).tolist()}
        pieces = {number: word_pieces(text, self._segmenter) for number, text in read.items()}
        words = [frozenset(entity.words) for entity in entities]
        features = np.zeros((len(text_of), width, 3), np.float32)
        for row, (number, of) in enumerate(zip(text_of.tolist(), entity_of.tolist(), strict=True)):
            description, objects = entities[of].description, entities[of].objects
            features[row, : len(read[number])] = self._overlap(
                read[number], pieces[number], description, words[of], objects
            )
        return features

    def _described(self, entities: Sequence[Entity]) -> dict[str, NDArray[Any]]:
        """What the network reads of the entities' descriptions."""
        read = [entity.description[: self._max_description] for entity in entities]
        if self._tokenizer is not None:
            ids = [ids for ids, _ in self._tokenizer(read)]
            mask = mask_of(list(map(len, ids)))
            return {"entity_pieces": self._filled(ids, mask), "entity_piece_mask": mask}
        numbers = [self._character_numbers(code_points(text)) for text in read]
        described = {"entity_characters": padded(numbers), "entity_mask": mask_of(list(map(len, read)))}
        if self._word_numbers:
            words = [self._words(entity.words)[: self._max_description] for entity in entities]
            described["entity_words"] = padded(words)
        return described


def _targets(texts: Sequence[LinkingText], mask: NDArray[np.bool_]) -> dict[str, NDArray[np.float32]]:
    """Where mentions that are not NIL start and end; those that are cut off by the end of what is read are left out."""
    starts, ends = np.zeros(mask.shape, np.float32), np.zeros(mask.shape, np.float32)
    for row, length in enumerate(mask.sum(axis=1).tolist()):
        for mention in texts[row].mentions:
            if mention.entity is not None and mention.end <= length:
                starts[row, mention.start] = ends[row, mention.end - 1] = 1
    return {"starts": starts, "ends": ends}


def _inside(starts: NDArray[np.int64], ends: NDArray[np.int64], width: int) -> NDArray[np.float32]:
    """1 at the characters of each mention, (R, L)."""
    places = np.arange(width)
    return ((places >= starts[:, None]) & (places < ends[:, None])).astype(np.float32)
