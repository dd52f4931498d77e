"""Texts to tokens and back, by a tokenizer's JSON text alone."""

import json

import pytest
from tokenizers import Tokenizer

from lit_modules.parts.qa_tokenizer import SPECIAL, QATokenizer
from tests.lit_modules.passage_data import tokenizer_of

WORDS = ["the", "##re", "don", "t", "cost", "##s", "3", "14", "1", "000", "in", "1999", "20", "well", "known"]
TOKENIZER = tokenizer_of([*"泼水节？'$.,%()?-“”", *WORDS])


def test_tokens_are_by_their_numbers() -> None:
    tokenizer = QATokenizer(TOKENIZER)
    assert tokenizer.tokens[:5] == [*SPECIAL, "泼"]
    assert (tokenizer.cls, tokenizer.sep) == (2, 3)
    assert tokenizer.unwritten == [0, 1, 2]
    assert [tokenizer.tokens[number] for number in tokenizer.continuing] == ["##re", "##s"]
    assert tokenizer.json == TOKENIZER


def test_numbers_without_a_token_and_the_mask_are_never_written() -> None:
    made = json.loads(tokenizer_of(["[MASK]", "a", "b"]))
    made["model"]["vocab"] |= {"b": 8}
    tokenizer = QATokenizer(json.dumps(made))
    assert tokenizer.tokens[4:] == ["[MASK]", "a", "", "", "b"]
    assert tokenizer.unwritten == [0, 1, 2, 4, 6, 7]


def test_special_tokens_in_a_text_are_plain_text() -> None:
    made = Tokenizer.from_str(tokenizer_of(["[", "]", "sep"]))
    made.add_special_tokens(list(SPECIAL))
    made.enable_truncation(2)
    tokenizer = QATokenizer(made.to_str())
    assert [tokenizer.tokens[number] for number in tokenizer.encode("[SEP]").numbers] == ["[", "sep", "]"]


@pytest.mark.parametrize("text", ["泼水 节，There 泼", "泼水节\ud83d？there", "", " "])
def test_offsets_are_of_the_text_itself(text: str) -> None:
    tokenizer = QATokenizer(TOKENIZER)
    numbers, offsets = tokenizer.encode(text)
    for number, (start, end) in zip(numbers, offsets, strict=True):
        token = tokenizer.tokens[number].removeprefix("##")
        assert token == "[UNK]" or token == text[start:end].lower()
    assert set(range(len(text))) - {place for start, end in offsets for place in range(start, end)} == {
        place for place, character in enumerate(text) if character in " \ud83d"
    }


@pytest.mark.parametrize(
    "text",
    [
        "泼水节？",
        "there costs",
        "don't there 1,000 well-known (the) costs $3.14%?",
        "in 1999, 20 costs",
        "泼the costs水",
        "“泼水”节",
        "",
    ],
)
def test_decoding_puts_spaces_where_they_were(text: str) -> None:
    tokenizer = QATokenizer(TOKENIZER)
    assert tokenizer.decode(tokenizer.encode(text).numbers) == text


def test_a_piece_of_a_word_is_decoded_alone() -> None:
    tokenizer = QATokenizer(TOKENIZER)
    assert tokenizer.decode([tokenizer.tokens.index("##re")]) == "re"


def test_tokenizers_that_cannot_be_used() -> None:
    for change, message in (
        (lambda vocabulary: vocabulary.pop("[CLS]"), r"lacks \['\[CLS\]'\]"),
        (lambda vocabulary: vocabulary.update({"[PAD]": 1, "[UNK]": 0}), r"token 0 is not \[PAD\]"),
    ):
        made = json.loads(TOKENIZER)
        change(made["model"]["vocab"])
        with pytest.raises(ValueError, match=message):
            QATokenizer(json.dumps(made))
