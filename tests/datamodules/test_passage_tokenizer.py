"""Vocabularies: made of texts, taken from a network, simplified."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from datamodules.passage_tokenizer import SPECIAL, PassageTokenizer, pretrained, simplified, trained
from tests.datamodules.linking import write_tokenizer

TEXTS = ["泼水节又名宋干节。", "The players were playing; the player played.", "播放 player"] * 3


def tokens_of(tokenizer: PassageTokenizer, text: str) -> list[str]:
    ((numbers, offsets),) = tokenizer([text])
    assert len(numbers) == len(offsets)
    return [tokenizer.tokens[number] for number in numbers]


def vocabulary(folder: Path, *tokens: str) -> str:
    (folder / "vocab.txt").write_text("\n".join(tokens))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    return pretrained(str(folder))


# ---- Made of texts ----


def test_words_and_characters_of_texts() -> None:
    tokenizer = PassageTokenizer(trained(TEXTS, 200))
    assert tokenizer.tokens[:4] == SPECIAL
    assert (tokenizer.unknown, tokenizer.cls, tokenizer.sep) == (1, 2, 3)
    assert "".join(tokens_of(tokenizer, "泼水节 名")) == "泼水节名"
    # Frequent words are whole, others are made of their pieces; capitals are kept.
    assert tokens_of(tokenizer, "The player") == ["The", "player"]
    assert "".join(tokens_of(tokenizer, "praying")).replace("##", "") == "praying"
    # T comes at the beginning of words alone, in these texts.
    assert tokens_of(tokenizer, "hT") == ["h", "##T"]
    assert tokens_of(tokenizer, "里 X") == ["[UNK]", "[UNK]"]


@pytest.mark.parametrize("size", [4, 5, 20, 60, 61, 80])
def test_size_is_kept_and_the_most_frequent_characters_stay(size: int) -> None:
    tokenizer = PassageTokenizer(trained(TEXTS, size))
    assert len(tokenizer.tokens) == len(set(tokenizer.tokens)) <= size
    assert size < 20 or {"##e", "##l", "节"} <= set(tokenizer.tokens)
    assert size == 4 or tokenizer.tokens[4] == "##e"


@pytest.mark.slow
def test_other_processes_make_the_same() -> None:
    """Hash tables have another order there."""
    script = (
        "import hashlib; from datamodules.passage_tokenizer import trained; from pathlib import Path;"
        "print(hashlib.md5(trained([Path('README.md').read_text()], 900).encode()).hexdigest())"
    )
    made = [
        subprocess.run(
            [sys.executable, "-c", script], env=os.environ, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(3)
    ]
    assert len(set(made)) == 1


def test_places_are_those_of_the_text() -> None:
    ((numbers, offsets),) = PassageTokenizer(trained(TEXTS, 200))([" 泼\ud800水  player"])
    # It takes half a surrogate pair, like a space, for nothing.
    assert offsets.tolist() == [[1, 2], [3, 4], [6, 12]]
    ((numbers, offsets),) = PassageTokenizer(trained(TEXTS, 200))([""])
    assert offsets.shape == (0, 2)
    assert numbers.shape == (0,)


def test_names_of_special_tokens_are_texts_like_others() -> None:
    ((numbers, _),) = PassageTokenizer(trained([*TEXTS, "[SEP]"], 200))(["[SEP][CLS]"])
    assert not {2, 3} & set(numbers.tolist())


def test_made_again_of_its_text() -> None:
    tokenizer = PassageTokenizer(trained(TEXTS, 60))
    again = PassageTokenizer(tokenizer.to_str())
    assert again.tokens == tokenizer.tokens
    assert tokens_of(again, "player泼") == tokens_of(tokenizer, "player泼")


# ---- A network's ----


def test_network_of_a_folder(tmp_path: Path) -> None:
    tokenizer = PassageTokenizer(pretrained(write_tokenizer(tmp_path)))
    # Eight tokens are its limit, which is not that of a passage.
    assert tokens_of(tokenizer, "PLAYing 中文中文中文中文") == ["play", "##ing", *"中文中文中文中文"]


def test_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"tokenizer '{tmp_path}' cannot be loaded"):
        pretrained(str(tmp_path))


def test_vocabulary_of_another_kind(tmp_path: Path) -> None:
    text = trained(TEXTS, 60).replace("[SEP]", "</s>")
    with pytest.raises(ValueError, match=r"vocabulary lacks \[SEP\]; give the tokenizer of a network like BERT"):
        PassageTokenizer(text)
    text = vocabulary(tmp_path, "a", *SPECIAL, "[MASK]")
    with pytest.raises(ValueError, match=r"vocabulary has \[PAD\] as number 1, not 0"):
        PassageTokenizer(text)
    # Simplifying puts it where it belongs.
    assert PassageTokenizer(simplified(text)[0]).tokens == [*SPECIAL, "a"]


# ---- Simplified ----


def test_simplified_vocabulary(tmp_path: Path) -> None:
    """Dropped: 中文, ##国, ##，, [MASK], [unused1], don't and a full-width pair; kept in their order: all else."""
    old = ["[PAD]", "[unused1]", "x", "中", "中文", "##国", "##，", "[UNK]", "[SEP]", "[CLS]", "[MASK]", "play"]
    old += ["##ing", "#", "，", "don't", "！？", "é", "##1", "1.5", "2020", "。"]
    text, kept = simplified(vocabulary(tmp_path, *old))
    new = [*SPECIAL, "x", "中", "play", "##ing", "#", "，", "é", "##1", "2020", "。"]
    tokenizer = PassageTokenizer(text)
    assert tokenizer.tokens == new
    assert [old[number] for number in kept] == new
    assert tokens_of(tokenizer, "x playing，中国") == ["x", "play", "##ing", "，", "中", "[UNK]"]
    assert PassageTokenizer(text).tokens == new
    assert simplified(text) == (text, list(range(len(new))))


def test_simplified_texts_have_the_tokens_that_they_had(tmp_path: Path) -> None:
    text = vocabulary(tmp_path, *SPECIAL[:3], "中文", "中", "文", "[SEP]", "[MASK]", "play", "##ing", "!")
    small, kept = simplified(text)
    ((old, places),), ((new, others),) = (PassageTokenizer(t)(["playing 中文!中 外"]) for t in (text, small))
    assert [kept[number] for number in new] == old.tolist()
    assert places.tolist() == others.tolist()


def test_only_word_pieces_can_be_simplified() -> None:
    from tokenizers import Tokenizer, models

    with pytest.raises(ValueError, match="simplify_vocabulary is for WordPiece tokenizers; this is one of BPE"):
        simplified(Tokenizer(models.BPE()).to_str())


@pytest.mark.data
def test_small_pretrained_network(shared_data: Path) -> None:
    """Its 12,000 tokens are simplified already, but for the 102 that have no use."""
    folder = shared_data.parent / "models" / "roformer-sim-small"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    text = pretrained(str(folder))
    small, kept = simplified(text)
    tokens, new = PassageTokenizer(text).tokens, PassageTokenizer(small).tokens
    assert (len(tokens), len(new)) == (12000, 11898)
    assert [tokens[number] for number in kept] == new
    dropped = set(tokens) - set(new)
    assert {token for token in dropped if not token.startswith("[unused")} == {"[MASK]", "<S>", "<T>"}
