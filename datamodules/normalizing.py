"""What a text is compared by: small letters, each at the position that it has in the text."""

import re

from datamodules.segmenters import Segmenter

SURROGATE = re.compile("[\ud800-\udfff]")
_OUTER = re.compile(r"^[\s《》]+|[\s《》]+$")


def normalize(text: str) -> str:
    """Returns a text of the same length in small letters, so that positions in it are positions in `text`.

    A letter whose small form has another length (İ) stays; a small letter hangs on no neighbor, as a final sigma
    does in `str.lower`. Half a surrogate pair, which no library beyond Python takes, becomes U+FFFD.
    """
    lowered = text.lower()
    if not text.isascii() and (len(lowered) != len(text) or "Σ" in text):
        lowered = "".join(small if len(small := character.lower()) == 1 else character for character in text)
    return lowered if lowered.isascii() else SURROGATE.sub("\ufffd", lowered)


def normalize_name(name: str) -> str:
    """Returns a name as names are compared: normalized, without 《》 and white space around it."""
    return _OUTER.sub("", normalize(name))


def word_pieces(text: str, segmenter: Segmenter) -> list[str]:
    """Returns the words of a text and what is between them, so that they joined are the text.

    Args:
        text: whose words are wanted.
        segmenter: gives words in the order of the text; what it leaves out, such as white space, is a piece as well.

    Raises:
        ValueError: a word of the segmenter is not in the text, or not after the word before.
    """
    words = list(segmenter(text))
    if "".join(words) == text:
        return [word for word in words if word]
    pieces, end = [], 0
    for word in filter(None, words):
        start = text.find(word, end)
        if start < 0:
            raise ValueError(f"segmenter changes the text: it gives {word!r}, which is not in {text[end : end + 40]!r}")
        if start > end:
            pieces.append(text[end:start])
        pieces.append(word)
        end = start + len(word)
    return [*pieces, text[end:]] if end < len(text) else pieces
