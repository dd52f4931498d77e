"""Passages cut at sentence ends, and which pieces an answer is in."""

import numpy as np
import pytest

from datamodules.passage_cutting import Piece, answers_in, cut
from datamodules.passage_files import Answer


def pieces(passage: str, limit: int) -> tuple[list[str], int]:
    """The pieces where each character but a space is a token, whose number is its code point."""
    places = [place for place, character in enumerate(passage) if not character.isspace()]
    tokens, offsets = np.array([ord(passage[p]) for p in places]), np.array([(p, p + 1) for p in places])
    found, torn = cut(passage, tokens, offsets.reshape(-1, 2), limit)
    for piece in found:
        assert passage[piece.start :].startswith(piece.text)
        assert "".join(map(chr, piece.tokens)) == "".join(piece.text.split())
    assert np.array_equal(np.concatenate([np.zeros(0, int), *(piece.tokens for piece in found)]), tokens)
    return [piece.text for piece in found], torn


@pytest.mark.parametrize(
    ("passage", "limit", "expected"),
    [
        ("一二。三四。五六。", 9, ["一二。三四。五六。"]),
        ("一二。三四。五六。", 8, ["一二。三四。", "五六。"]),
        ("一二。三四。五六。", 6, ["一二。三四。", "五六。"]),
        ("一二。三四。五六。", 5, ["一二。", "三四。", "五六。"]),
        ("“一。”二！？三", 5, ["“一。”", "二！？三"]),
        ("Pi is 3.14. So it is.", 9, ["Pi is 3.14.", "So it is."]),
        ('He said "no." And left\nsoon.', 14, ['He said "no."', "And left\nsoon."]),
        ("一\n二三\n四", 3, ["一\n二三", "四"]),
        ("", 3, []),
        (" \n", 3, []),
    ],
)
def test_pieces_end_with_sentences(passage: str, limit: int, expected: list[str]) -> None:
    assert pieces(passage, limit) == (expected, 0)


@pytest.mark.parametrize(
    ("passage", "limit", "expected", "torn"),
    [
        ("一二三，四五六七。八九", 5, ["一二三，", "四五六七。", "八九"], 1),
        ("一二三四五六七。", 3, ["一二三", "四五六", "七。"], 2),
        ("one two", 4, ["one", "two"], 1),
        # What is left of the sentence may share a piece with the next one.
        ("一二三四五六。七。", 4, ["一二三四", "五六。", "七。"], 1),
        ("一二三四五六。七。", 5, ["一二三四五", "六。七。"], 1),
    ],
)
def test_sentence_that_is_too_long(passage: str, limit: int, expected: list[str], torn: int) -> None:
    assert pieces(passage, limit) == (expected, torn)


def test_answers_in_a_piece() -> None:
    piece = Piece("三四。", 3, np.arange(3))
    placed = [Answer("三四", 3), Answer("三", 0), Answer("四。五", 4), Answer("四", 4), Answer("二", 2)]
    assert answers_in(piece, placed) == ["三四", "四"]
    assert answers_in(piece, [Answer("四。"), Answer("五")]) == ["四。"]
