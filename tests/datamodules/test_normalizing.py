"""Small letters at the positions of the large ones, names, and words that joined are the text."""

import sys

import pytest

from datamodules.normalizing import normalize, normalize_name, word_pieces


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("ABC abc", "abc abc"),
        ("《Harry Potter》的作者", "《harry potter》的作者"),
        ("ＡＢＣ１２", "ａｂｃ１２"),
        # Two characters in small letters, so that all behind it would move.
        ("İstanbul İ", "İstanbul İ"),
        ("ΟΔΟΣ", "οδοσ"),
        ("𝐀😀𐐀", "𝐀😀𐐨"),
        ("E\u0301a\u0308", "e\u0301a\u0308"),
        ("a\ud800B\udc00", "a\ufffdb\ufffd"),
        ("", ""),
    ],
)
def test_normalize(text: str, normal: str) -> None:
    assert normalize(text) == normal


def test_every_character_keeps_its_place() -> None:
    alphabet = "".join(map(chr, range(sys.maxunicode + 1)))
    normal = normalize(alphabet)
    assert len(normal) == len(alphabet)
    for character, small in zip(alphabet[:0xD800], normal[:0xD800], strict=True):
        assert small == (character.lower() if len(character.lower()) == 1 else character)


@pytest.mark.parametrize(
    ("name", "normal"),
    [
        ("《湖上草》", "湖上草"),
        (" 《 Titanic 》\n", "titanic"),
        ("《西》与《东》", "西》与《东"),
        ("\u3000胜利\u3000", "胜利"),
        ("《》", ""),
    ],
)
def test_normalize_name(name: str, normal: str) -> None:
    assert normalize_name(name) == normal


def test_words_and_what_is_between_them() -> None:
    assert word_pieces("  two  words ", str.split) == ["  ", "two", "  ", "words", " "]
    assert word_pieces("a a", str.split) == ["a", " ", "a"]
    assert word_pieces("abc", lambda text: ["a", "", "bc"]) == ["a", "bc"]
    assert word_pieces("ab", lambda text: []) == ["ab"]
    assert word_pieces("", str.split) == []


def test_segmenter_that_changes_the_text() -> None:
    with pytest.raises(ValueError, match="segmenter changes the text: it gives 'word', which is not in ' Word'"):
        word_pieces("One Word", lambda text: ["One", "word"])
