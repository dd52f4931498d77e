"""Long passages are cut into pieces at sentence ends, and a question goes with the pieces that its answer is in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datamodules.passage_files import Answer

# A period ends no sentence inside of a number or a name of an address; what closes a quotation belongs to it.
_SENTENCE = re.compile(r"(?:\n|[。！？!?…；;]|\.(?=[”’」』）)\"']*(?:\s|$)))+[”’」』）)\"']*\s*")
_CLAUSE = re.compile(r"[，、,：:]\s*|\s+")


class Piece(NamedTuple):
    """Consecutive tokens of a passage.

    Attributes:
        text: theirs, without white space around it.
        start: position of its first character in the passage.
        tokens: their numbers, (P,).
    """

    text: str
    start: int
    tokens: NDArray[np.int64]


def cut(passage: str, tokens: NDArray[np.int64], offsets: NDArray[np.int64], limit: int) -> tuple[list[Piece], int]:
    """Returns the pieces of a passage, and how many cuts are in the midst of a sentence.

    A piece takes as many whole sentences as it can hold. One that does not fit is cut at a comma or a space, or where
    it reaches the limit if it has none.

    Source: article 8, which cuts passages of over 128 tokens at sentence ends.

    Args:
        passage: as written.
        tokens: the numbers of its tokens, (N,).
        offsets: the first character of each and the one after its last, (N, 2).
        limit: most tokens of a piece.
    """
    pieces, start, torn = [], 0, 0
    ends = [_boundaries(pattern, passage, offsets) for pattern in (_SENTENCE, _CLAUSE)] if len(tokens) > limit else []
    while start < len(tokens):
        end = len(tokens)
        if end - start > limit:
            # Sentence ends first: any of them is better than a comma, and that than nothing.
            inside = [_last(found, start, start + limit) for found in ends]
            torn += inside[0] is None
            end = next((found for found in inside if found is not None), start + limit)
        first, last = int(offsets[start, 0]), int(offsets[end - 1, 1])
        pieces.append(Piece(passage[first:last], first, tokens[start:end]))
        start = end
    return pieces, torn


def answers_in(piece: Piece, answers: Sequence[Answer]) -> list[str]:
    """Returns those of the answers that stand in a piece: at their place if it is known, else anywhere."""
    return [answer.text for answer in answers if _is_in(piece, answer)]


def _is_in(piece: Piece, answer: Answer) -> bool:
    if answer.start is None:
        return answer.text in piece.text
    start = answer.start - piece.start
    return start >= 0 and piece.text.startswith(answer.text, start)


def _boundaries(pattern: re.Pattern[str], passage: str, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of the tokens that begin after a match, or are cut by its end."""
    return np.searchsorted(offsets[:, 0], [match.end() for match in pattern.finditer(passage)])


def _last(boundaries: NDArray[np.int64], start: int, most: int) -> int | None:
    """The last boundary after `start` up to `most`, or None."""
    found: Any = boundaries[(boundaries > start) & (boundaries <= most)]
    return int(found[-1]) if len(found) else None
