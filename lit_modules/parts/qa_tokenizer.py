"""Texts to numbers of tokens and back, by nothing but a tokenizer's JSON text: what a checkpoint can hold."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from tokenizers import Tokenizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
# Characters that no space belongs beside: Chinese ones and their punctuation, full width, dashes and quotes.
_WIDE = "\u2010-\u205f\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
# In English: before these, after those, and within numbers.
_UNSPACED = re.compile(
    rf"(?<=[{_WIDE}]) | (?=[{_WIDE}])"
    r"| (?=[,.;:!?%)\]}'/-])|(?<=[(\[{'$#/-]) |(?<=\d \.) (?=\d)|(?<=\d ,) (?=\d\d\d\b)"
)
# Half a pair: the tokenizer takes none, and one character in its place keeps the offsets.
_SURROGATE = re.compile("[\ud800-\udfff]")


class Encoded(NamedTuple):
    """A text's tokens.

    Attributes:
        numbers: of the tokens, without special ones.
        offsets: where each starts and ends in the text, in characters.
    """

    numbers: list[int]
    offsets: list[tuple[int, int]]


class QATokenizer:
    """A WordPiece tokenizer.

    Args:
        json: the tokenizer, as ``tokenizers.Tokenizer.to_str`` gives it.

    Attributes:
        json: the same.
        tokens: all of them, by their numbers; "" where a number has none.
        cls: number of [CLS].
        sep: number of [SEP].
        unwritten: numbers that stand for nothing that could be written: [PAD], [CLS], [UNK], [MASK], no token.
        continuing: numbers of the tokens that go on with a word.

    Raises:
        ValueError: it lacks one of :data:`SPECIAL`, or "[PAD]" is not number 0.
    """

    def __init__(self, json: str) -> None:
        self.json, self._tokenizer = json, Tokenizer.from_str(json)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        # "[SEP]" in a text is no end of anything.
        self._tokenizer.encode_special_tokens = True
        numbers = self._tokenizer.get_vocab()
        missing = [token for token in SPECIAL if token not in numbers]
        if missing or numbers["[PAD]"] != 0:
            raise ValueError(f"the tokenizer lacks {missing}" if missing else "the tokenizer's token 0 is not [PAD]")
        self.tokens = [""] * (1 + max(numbers.values()))
        for token, number in numbers.items():
            self.tokens[number] = token
        self.cls, self.sep = numbers["[CLS]"], numbers["[SEP]"]
        unwritten = {"", "[MASK]", *SPECIAL} - {"[SEP]"}
        self.unwritten = [number for number, token in enumerate(self.tokens) if token in unwritten]
        self.continuing = [number for number, token in enumerate(self.tokens) if token.startswith("##")]

    def encode(self, text: str) -> Encoded:
        """The tokens of a text, all of them."""
        encoding = self._tokenizer.encode(_SURROGATE.sub("\ufffd", text), add_special_tokens=False)
        return Encoded(encoding.ids, encoding.offsets)

    def decode(self, numbers: Sequence[int]) -> str:
        """The text of tokens. The tokenizer has lost which spaces there were: they are where they usually are."""
        joined = " ".join(self.tokens[number] for number in numbers)
        return _UNSPACED.sub("", joined.replace(" ##", "").removeprefix("##"))
