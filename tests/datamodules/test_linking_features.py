"""Characters' numbers, padding, and what a text has in common with a description."""

from pathlib import Path

import numpy as np
import pytest

from datamodules.linking_features import CharacterCounts, CharacterNumbers, Overlap, code_points, mask_of, padded


def test_code_points_beyond_the_basic_plane() -> None:
    assert code_points("aé中😀").tolist() == [ord(character) for character in "aé中😀"]


def test_padding() -> None:
    parts = [np.array([1, 2]), np.array([], np.int64), np.array([3, 4, 5])]
    assert padded(parts).tolist() == [[1, 2, 0], [0, 0, 0], [3, 4, 5]]
    assert padded(parts, 4)[2].tolist() == [3, 4, 5, 0]
    assert mask_of([2, 0, 3]).tolist() == [[True, True, False], [False] * 3, [True] * 3]
    assert padded([]).shape == mask_of([]).shape == (0, 1)


def test_vocabulary_has_the_frequent_characters_first() -> None:
    counts = CharacterCounts()
    counts.add(["bba", "😀a"])
    counts.add(["b"])
    assert counts.characters(1) == ["<padding>", "<unknown>", "b", "a", "😀"]
    assert counts.characters(2) == ["<padding>", "<unknown>", "b", "a"]
    # 0 is padding, 1 unknown.
    assert CharacterNumbers(counts.characters(2))(code_points("ab😀<")).tolist() == [3, 2, 1, 1]


def test_counts_in_a_file(tmp_path: Path) -> None:
    counts = CharacterCounts()
    counts.save(tmp_path / "none.npy")
    counts.add(["ba😀ab", "b"])
    counts.save(tmp_path / "counts.npy")
    assert np.load(tmp_path / "counts.npy").tolist() == [[ord(character) for character in "ab😀"], [2, 3, 1]]
    for file, expected in (("none.npy", "ab"), ("counts.npy", "ba😀")):
        again = CharacterCounts.load(tmp_path / file)
        again.add(["ab"])
        assert again.characters(1) == ["<padding>", "<unknown>", *expected]


def test_overlap() -> None:
    words = ["苹果", "手机", "的", "手感"]
    description = "类别:苹果手机\n价格:四千"
    found = Overlap()("苹果手机的手感", words, description, frozenset(["苹果手机", "手机"]), ["果手", "四千"])
    assert found.tolist() == [
        [1, 0, 0],
        [1, 0, 1],
        [1, 1, 1],
        [1, 1, 0],
        [0, 0, 0],
        [1, 0, 0],
        [0, 0, 0],
    ]


def test_overlap_forgets_the_description_before() -> None:
    overlap = Overlap()
    overlap("甲", ["甲"], "甲", frozenset(), [])
    assert overlap("甲", ["甲"], "乙", frozenset(), []).sum() == 0


@pytest.mark.parametrize("seed", range(5))
def test_overlap_as_counted_by_hand(seed: int) -> None:
    """Random texts of two letters, so that objects repeat and overlap."""
    random = np.random.default_rng(seed)
    text, description = ("".join(random.choice(list("aab"), size)) for size in (30, 4))
    words = [text[start : start + 3] for start in range(0, 30, 3)]
    described, objects = frozenset(words[:3]), ["aa", "aba", description]
    expected = np.zeros((30, 3))
    for place in range(30):
        expected[place, 0] = text[place] in description
        expected[place, 1] = words[place // 3] in described
        for thing in objects:
            starts = range(max(0, place - len(thing) + 1), place + 1)
            expected[place, 2] = max(expected[place, 2], any(text[s : s + len(thing)] == thing for s in starts))
    assert np.array_equal(Overlap()(text, words, description, described, objects), expected)
