"""Pieces of words and the characters that lie in them."""

from pathlib import Path

import pytest

from datamodules.pieces import PieceTokenizer
from tests.datamodules.linking import PIECES, write_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return write_tokenizer(tmp_path)


def test_each_character_has_its_piece(folder: str) -> None:
    tokenizer = PieceTokenizer.from_pretrained(folder)
    ((ids, places),) = tokenizer(["PLAYing 中é\ud800文"])
    assert [PIECES[number] for number in ids] == ["[CLS]", "play", "##ing", "中", "e", "文", "[SEP]"]
    # It takes é for e, and half a surrogate pair, like a space, for nothing.
    assert places.tolist() == [1, 1, 1, 1, 2, 2, 2, 0, 3, 4, 0, 5]
    assert tokenizer.padding == 0


def test_pieces_beyond_the_last_place_are_left_out(folder: str) -> None:
    ((ids, places),) = PieceTokenizer.from_pretrained(folder)(["中文" * 5])
    assert len(ids) == 8
    assert places.tolist() == [1, 2, 3, 4, 5, 6, 0, 0, 0, 0]


def test_empty_text(folder: str) -> None:
    ((ids, places),) = PieceTokenizer.from_pretrained(folder)([""])
    assert [PIECES[number] for number in ids] == ["[CLS]", "[SEP]"]
    assert not len(places)


def test_made_again_of_its_state(folder: str) -> None:
    tokenizer = PieceTokenizer.from_pretrained(folder)
    texts = ["playing 中文" * 3, "!"]
    for one, other in zip(tokenizer(texts), PieceTokenizer(tokenizer.state_dict())(texts), strict=True):
        assert all((a == b).all() for a, b in zip(one, other, strict=True))


def test_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"tokenizer '{tmp_path}' cannot be loaded"):
        PieceTokenizer.from_pretrained(str(tmp_path))


@pytest.mark.data
def test_pretrained_chinese_network(shared_data: Path) -> None:
    folder = shared_data.parent / "models" / "roformer-sim-small"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    ((ids, places),) = PieceTokenizer.from_pretrained(str(folder))(["ＡＢＣ iPhone4S 好"])
    assert len(ids) == 7
    assert places.tolist() == [1, 1, 1, 0, 2, 2, 2, 2, 2, 2, 3, 4, 0, 5]
