"""What cuts lines into tokens, by name, by import path and as it is."""

import gzip
import importlib.metadata
import json
import re
import string
import sys
from pathlib import Path
from typing import Any

import pytest

from datamodules.segmenters import find_segmenter, segmenter_key


def test_whitespace() -> None:
    assert list(find_segmenter("whitespace")(" one  two\tthree\u3000four\r\n")) == ["one", "two", "three", "four"]


def test_chinese() -> None:
    assert list(find_segmenter("chinese")("我们在图书馆看书")) == ["我们", "在", "图书馆", "看书"]


def test_chinese_leaves_english_words_whole() -> None:
    words = find_segmenter("chinese")("the whole? (well-known)")
    assert list(words) == ["the", " ", "whole", "?", " ", "(", "well-known", ")"]


@pytest.mark.data
def test_english_words_stay_whole_without_punctuation(shared_data: Path) -> None:
    with gzip.open(shared_data / "el/wordnet/develop.json.gz", "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    letters = re.compile("[A-Za-z]+")
    for text in texts:
        words = [word for word in find_segmenter("chinese")(text) if letters.search(word)]
        assert [run for word in words for run in letters.findall(word)] == letters.findall(text)
        assert [word.strip(string.punctuation) for word in words] == words


@pytest.mark.parametrize(("path", "tokens"), [("builtins.list", list("a b")), ("shlex.split", ["a", "b"])])
def test_function_by_its_path(path: str, tokens: list[str]) -> None:
    assert list(find_segmenter(path)("a b")) == tokens


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that exists in this test only."""
    path = tmp_path / "own_segmenters.py"
    path.write_text("class Commas:\n    def __call__(self, line):\n        return line.split(',')\n\nnothing = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_segmenters", raising=False)
    return path


def test_class_by_its_path(own_module: Path) -> None:
    assert list(find_segmenter("own_segmenters.Commas")("a,b c")) == ["a", "b c"]


def test_function_itself() -> None:
    assert find_segmenter(str.splitlines) is str.splitlines
    assert segmenter_key(str.splitlines) is None


@pytest.mark.parametrize(
    ("segmenter", "message"),
    [
        ("chinesse", "segmenter is 'chinesse', .*did you mean 'chinese'"),
        ("xyz", "has to be 'whitespace', 'chinese' or an import path as package.function$"),
        ("no_such_module.cut", "cannot be imported: No module named 'no_such_module'"),
        ("shlex.splitt", "shlex has no 'splitt'; did you mean 'split'"),
        ("own_segmenters.nothing", "is no function"),
        (3, "segmenter is 3, but has to be"),
    ],
)
def test_errors(own_module: Path, segmenter: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_segmenter(segmenter)


def test_key_follows_the_code(own_module: Path) -> None:
    before = segmenter_key("own_segmenters.Commas")
    assert segmenter_key("own_segmenters.Commas") == before
    own_module.write_text(own_module.read_text() + "# edited\n")
    assert segmenter_key("own_segmenters.Commas") != before
    assert segmenter_key("whitespace") == ["whitespace"]
    assert segmenter_key("builtins.list") == ["builtins.list"]
    assert segmenter_key("chinese") == ["chinese", importlib.metadata.version("rjieba")]
