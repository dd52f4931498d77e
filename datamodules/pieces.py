"""Pieces of words, as pretrained networks read them, and which of them each character of a text lies in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.normalizing import SURROGATE

# BERT and its kin have no more places; a tokenizer that knows no limit says 10^30.
_MOST_PIECES = 512


def load_tokenizer(name: str, unit: str) -> Any:
    """Returns the tokenizer of a transformers model, by its name or the folder it is in.

    Args:
        name: of the model, or its folder.
        unit: what error messages call a part of a text that it has a number for.

    Raises:
        ValueError: there is none, or it cannot say where in a text a unit stands.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ValueError(f"tokenizer {name!r} cannot be loaded: {str(error).splitlines()[0]}") from None
    if not tokenizer.is_fast:
        raise ValueError(f"tokenizer {name!r} is written in Python and does not say where in a text a {unit} stands")
    return tokenizer


class PieceTokenizer:
    """A pretrained network's tokenizer, which says where in the text each piece stands.

    Args:
        state: of another one, from `state_dict`.
    """

    def __init__(self, state: dict[str, Any]) -> None:
        from tokenizers import Tokenizer

        self._state = state
        self._tokenizer: Any = Tokenizer.from_str(state["tokenizer"])
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(state["most_pieces"])
        self.padding: int = state["padding"]

    @classmethod
    def from_pretrained(cls, name: str) -> PieceTokenizer:
        """Returns the tokenizer of a transformers model, by its name or the folder it is in.

        Raises:
            ValueError: there is none, or it cannot say where a piece stands, or its texts begin with no [CLS].
        """
        tokenizer = load_tokenizer(name, "piece")
        if tokenizer.cls_token_id is None or tokenizer("a")["input_ids"][0] != tokenizer.cls_token_id:
            raise ValueError(f"tokenizer {name!r} puts no [CLS] first, which characters without a piece need")
        most = min(tokenizer.model_max_length, _MOST_PIECES)
        text = tokenizer.backend_tokenizer.to_str()
        return cls({"tokenizer": text, "most_pieces": most, "padding": tokenizer.pad_token_id or 0})

    def state_dict(self) -> dict[str, Any]:
        """Returns what another one can be made of: plain strings and numbers."""
        return self._state

    def __call__(self, texts: Sequence[str]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Returns of each text its pieces (P,), [CLS] first, and the place of each character's piece in them (L,).

        A character that is in no piece, such as a space or one behind the last place that the network has, gets
        place 0, that of [CLS].
        """
        # The tokenizer takes no half of a surrogate pair; one character in place of each keeps the offsets.
        encodings = self._tokenizer.encode_batch([SURROGATE.sub("\ufffd", text) for text in texts])
        return [
            (np.array(encoding.ids, np.int64), _places(encoding.offsets, len(text)))
            for text, encoding in zip(texts, encodings, strict=True)
        ]


def _places(offsets: Sequence[tuple[int, int]], length: int) -> NDArray[np.int64]:
    """The last piece that has a character, for each of a text's characters, (length,); 0 for none."""
    places = np.zeros(length, np.int64)
    for piece, (start, end) in enumerate(offsets):
        places[start:end] = piece
    return places
