"""Tokens of passages, answers and questions: of a pretrained network's vocabulary, or of one that texts give."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.normalizing import SURROGATE
from datamodules.pieces import load_tokenizer

# Those that sequences are made of; the first ones of a vocabulary that is trained or simplified.
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
_CJK = [
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
]


class PassageTokenizer:
    """A tokenizer that says where in the text each token stands.

    Args:
        text: all of it, as the `tokenizers` library writes it in JSON.

    Attributes:
        tokens: the vocabulary in the order of its numbers, V of them; "" where a number has none.
        cls: number of [CLS].
        sep: number of [SEP].
        unknown: number of [UNK].

    Raises:
        ValueError: the vocabulary lacks [UNK], [CLS] or [SEP], or its number 0 is not [PAD].
    """

    def __init__(self, text: str) -> None:
        from tokenizers import Tokenizer

        self._text = text
        self._tokenizer: Any = Tokenizer.from_str(text)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        # "[SEP]" in a text is four or five tokens like others, and ends nothing.
        self._tokenizer.encode_special_tokens = True
        numbers = self._tokenizer.get_vocab()
        missing = [token for token in SPECIAL if token not in numbers]
        if missing or numbers["[PAD]"]:
            what = f"lacks {', '.join(missing)}" if missing else f"has [PAD] as number {numbers['[PAD]']}, not 0"
            raise ValueError(f"the tokenizer's vocabulary {what}; give the tokenizer of a network like BERT")
        self.tokens = [""] * (max(numbers.values()) + 1)
        for token, number in numbers.items():
            self.tokens[number] = token
        self.unknown, self.cls, self.sep = (numbers[token] for token in SPECIAL[1:])

    def to_str(self) -> str:
        """Returns all of it in JSON, of which another one can be made."""
        return self._text

    def __call__(self, texts: Sequence[str]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Returns of each text the numbers of its tokens (N,), and where they stand in it (N, 2), without [CLS].

        A token's place is its first character and the one after its last.
        """
        # The tokenizer takes no half of a surrogate pair; one character in place of each keeps the places.
        plain = [SURROGATE.sub("\ufffd", text) for text in texts]
        encodings = self._tokenizer.encode_batch(plain, add_special_tokens=False)
        return [(np.array(e.ids, np.int64), np.array(e.offsets, np.int64).reshape(-1, 2)) for e in encodings]


def pretrained(name: str) -> str:
    """Returns the tokenizer of a transformers model, by its name or the folder it is in, in JSON.

    Raises:
        ValueError: there is none, or it cannot say where a token stands.
    """
    return str(load_tokenizer(name, "token").backend_tokenizer.to_str())


def trained(texts: Iterable[str], size: int) -> str:
    """Returns a WordPiece tokenizer whose vocabulary texts give, in JSON; the same for the same texts.

    Ideographs are tokens of their own, letters are as they are written, and the vocabulary has all characters of
    the texts, if they fit into it; of the others the most frequent ones.

    Args:
        texts: to train on.
        size: V, of the vocabulary at most.
    """
    from tokenizers import Tokenizer, models, trainers

    tokenizer: Any = _word_piece({token: number for number, token in enumerate(SPECIAL)})
    words = Counter[str]()
    for text in texts:
        normal = tokenizer.normalizer.normalize_str(SURROGATE.sub("\ufffd", text))
        words.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal))
    letters = Counter[str]()
    for word, count in words.items():
        for place, letter in enumerate(word):
            letters[f"##{letter}" if place else letter] += count
            # Other texts may have it at another place of a word; ideographs and punctuation are words of their own.
            if not _is_cjk_or_punctuation(letter):
                letters[letter if place else f"##{letter}"] += 0
    # The trainer numbers letters as its hash table has them, in each process otherwise, and breaks ties by number:
    # those that are given have numbers already.
    known = SPECIAL + sorted(letters, key=lambda letter: (-letters[letter], letter))[: max(size - len(SPECIAL), 0)]
    if len(known) < size:
        trainer = trainers.WordPieceTrainer(vocab_size=size, min_frequency=2, special_tokens=known, show_progress=False)
        learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        learner.pre_tokenizer = tokenizer.pre_tokenizer
        learner.train_from_iterator((f"{word} " * count for word, count in words.items()), trainer)
        numbers = learner.get_vocab()
        known += sorted(set(numbers) - set(known), key=numbers.__getitem__)
    return str(_word_piece({token: number for number, token in enumerate(known)}).to_str())


def simplified(text: str) -> tuple[str, list[int]]:
    """Drops from a tokenizer the tokens that its texts hardly ever need; [PAD], [UNK], [CLS] and [SEP] become 0 to 3.

    Dropped are those of several characters that contain an ideograph or punctuation: words of Chinese that a tokenizer
    that cuts between ideographs never gives, and special ones.

    Source: article 8 and bert4keras, which leaves 13,584 of the 21,128 tokens of Google's Chinese BERT so.

    Args:
        text: a WordPiece tokenizer in JSON.

    Returns:
        The new one in JSON, and the old number of each token by its new one.

    Raises:
        ValueError: it is no WordPiece tokenizer.
    """
    whole = json.loads(text)
    if whole["model"]["type"] != "WordPiece":
        raise ValueError(f"simplify_vocabulary is for WordPiece tokenizers; this is one of {whole['model']['type']}")
    old: dict[str, int] = whole["model"]["vocab"]
    others = sorted((token for token in old if token not in SPECIAL), key=old.__getitem__)
    kept = [token for token in SPECIAL if token in old] + [token for token in others if _is_kept(token)]
    numbers = {token: number for number, token in enumerate(kept)}
    whole["model"]["vocab"] = numbers
    whole["added_tokens"] = [
        entry | {"id": numbers[entry["content"]]} for entry in whole["added_tokens"] if entry["content"] in numbers
    ]
    # It names tokens by their numbers, and nobody asks for it.
    whole["post_processor"] = None
    return json.dumps(whole, ensure_ascii=False), [old[token] for token in kept]


def _word_piece(numbers: dict[str, int]) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokenizer: Any = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def _is_kept(token: str) -> bool:
    return len(token) == 1 or not any(map(_is_cjk_or_punctuation, token.removeprefix("##")))


def _is_cjk_or_punctuation(character: str) -> bool:
    code = ord(character)
    # As BERT has it: the ASCII characters that are neither letters nor digits are punctuation, symbols as well.
    is_ascii = 33 <= code <= 126 and not character.isalnum()
    is_cjk = any(first <= code <= last for first, last in _CJK)
    return is_ascii or is_cjk or unicodedata.category(character).startswith("P")
