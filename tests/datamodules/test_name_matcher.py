"""Names in texts: all of them, and the cover of fewest pieces."""

import pickle
import random
from pathlib import Path

import numpy as np
import pytest

from datamodules.name_matcher import Match, NameMatcher
from tests.datamodules.knowledge import named


def shown(text: str, matches: list[Match]) -> list[str]:
    return [text[start:end] for start, end, _ in matches]


def brute_force(text: str, names: set[str]) -> list[tuple[int, int]]:
    """The names among the pieces of the best of all 2^(L-1) ways to cut a text."""
    best = None
    for cuts in range(2 ** max(len(text) - 1, 0)):
        ends = [at + 1 for at in range(len(text)) if cuts >> at & 1 or at == len(text) - 1]
        spans = list(zip([0, *ends], ends, strict=False))
        if all(end == start + 1 or text[start:end] in names for start, end in spans):
            key = (len(spans), [start - end for start, end in reversed(spans)])
            best = min(best or (key, spans), (key, spans))
    return [(start, end) for start, end in (best[1] if best else []) if text[start:end] in names]


@pytest.fixture
def matcher(tmp_path: Path) -> NameMatcher:
    return named(tmp_path, ["胜利", "胜利油田", "油田", "田里", "田", "Art", "《湖上草》", "５Ｇ"]).matcher()


def test_all_matches(matcher: NameMatcher) -> None:
    text = "在胜利油田里"
    assert [(start, end) for start, end, _ in matcher.all_matches(text)] == [(1, 3), (1, 5), (3, 5), (4, 5), (4, 6)]
    assert {matcher.index.number(text[start:end]) == name for start, end, name in matcher.all_matches(text)} == {True}
    assert matcher.all_matches("") == []


def test_cover(matcher: NameMatcher) -> None:
    assert shown("胜利油田", matcher.cover("胜利油田")) == ["胜利油田"]
    # Two pieces, not three as the greedy way from the left: the last is longest.
    assert shown("油田里", matcher.cover("油田里")) == ["田里"]
    assert matcher.cover("") == []
    assert matcher.cover("无名") == []


def test_positions_are_the_texts_own(matcher: NameMatcher) -> None:
    for before in ("İ", "😀", "e\u0301", "\ud800", "ΑΣ ", "Ａ"):
        text = f"{before}PART 《湖上草》５ｇ"
        found = matcher.cover(text)
        assert shown(text, found) == ["ART", "湖上草", "５ｇ"]
        assert found == sorted(found)


@pytest.mark.parametrize("seed", range(20))
def test_cover_is_the_best_of_all(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    names = {"".join(draw.choices("ab胜", k=draw.randint(1, 4))) for _ in range(draw.randint(1, 12))}
    matcher = named(tmp_path, sorted(names)).matcher()
    for _ in range(50):
        text = "".join(draw.choices("ab胜", k=draw.randint(0, 9)))
        assert [(start, end) for start, end, _ in matcher.cover(text)] == brute_force(text, names)
        everything = {(a, b) for a in range(len(text)) for b in range(a + 1, len(text) + 1) if text[a:b] in names}
        assert sorted((start, end) for start, end, _ in matcher.all_matches(text)) == sorted(everything)
        allowed = np.array([draw.random() < 0.5 for _ in names])
        some = {name for name in names if allowed[matcher.index.number(name)]}
        assert [(start, end) for start, end, _ in matcher.cover(text, allowed)] == brute_force(text, some)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("party art, artist smart", ["art"]),
        ("art的art2", ["art"]),
        ("ａrt éart arté art_ art's", ["art", "art"]),
        ("胜利art胜利", ["胜利", "art", "胜利"]),
        ("４５Ｇ", []),
    ],
)
def test_whole_words(tmp_path: Path, text: str, found: list[str]) -> None:
    matcher = named(tmp_path, ["art", "胜利", "５ｇ"]).matcher(whole_words=True)
    assert shown(text, matcher.cover(text)) == found
    assert shown(text, matcher.all_matches(text)) == found


def test_whole_words_leave_texts_without_letters_alone(tmp_path: Path) -> None:
    kb = named(tmp_path, ["胜利", "利油", "油田"])
    text = "在胜利油田里"
    assert kb.matcher(whole_words=True).cover(text) == kb.matcher().cover(text)


def test_numbers_of_names(matcher: NameMatcher) -> None:
    assert matcher.index.number("《Art》 ") == matcher.index.number("ART") is not None
    assert matcher.index.number("ar") is None, "a part of a name"
    assert matcher.index.number("arts") is None
    assert matcher.index.number("") is None


def test_copy_in_another_process(matcher: NameMatcher) -> None:
    copy = pickle.loads(pickle.dumps(matcher))
    assert copy.cover("胜利油田里") == matcher.cover("胜利油田里")
