"""What a text source is."""

import gzip
import importlib.metadata
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest

from datamodules import docstrings
from datamodules.text_sources import open_sentences, open_text, segmented

LINES = ["one two", "three", "", "four five six"]


def stripped(source: Any, column: str | None = None) -> list[str]:
    return [str(line).rstrip("\n") for line in open_text(source, column).read()]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """The lines in two files."""
    (tmp_path / "a.txt").write_text("\n".join(LINES[:2]))
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress("\n".join(LINES[2:]).encode()))
    return [str(tmp_path / "a.txt"), str(tmp_path / "b.txt.gz")]


def test_files(files: list[str], tmp_path: Path) -> None:
    assert stripped(files) == stripped(str(tmp_path)) == stripped(f"{tmp_path}/*.*") == LINES
    assert stripped(files[::-1]) == LINES[2:] + LINES[:2]
    assert open_text(files, None).key == open_text(str(tmp_path), None).key
    assert open_text(files[0], None).key != open_text(files, None).key


def test_errors_of_files(files: list[str]) -> None:
    with pytest.raises(ValueError, match="source is an empty list"):
        open_text([], None)
    with pytest.raises(ValueError, match=r"column is 'text', but only data sets \(hf:NAME\) have columns"):
        open_text(files, "text")


def table(folder: Path, **columns: list[Any]) -> str:
    datasets.Dataset.from_dict(columns).save_to_disk(folder)
    return f"hf:{folder}"


def test_hub(tmp_path: Path) -> None:
    source = table(tmp_path / "set", number=[0, 1, 2], body=["one two\nthree", None, "\nfour five six"])
    assert stripped(source) == stripped(source, "body") == ["one two", "three", "", "", "four five six"]
    two = {"text": ["a"], "title": ["b"]}
    assert stripped(table(tmp_path / "two", **two)) == ["a"]
    assert stripped(table(tmp_path / "two again", **two), "title") == ["b"]
    assert open_text(source, None).key == open_text(source, "body").key


def test_hub_takes_the_training_split(tmp_path: Path) -> None:
    parts = {name: datasets.Dataset.from_dict({"text": [name]}) for name in ("test", "train")}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "set")
    assert stripped(f"hf:{tmp_path / 'set'}") == ["train"]
    datasets.Dataset.from_dict({"text": ["in a table"]}).to_parquet(tmp_path / "a.parquet")
    assert stripped(f"hf:{tmp_path / 'a.parquet'}") == ["in a table"]


def test_errors_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = table(tmp_path / "numbers", number=[1])
    with pytest.raises(ValueError, match=r"has no column of text; name one as `column`: it has number \(int64\)"):
        open_text(numbers, None)
    several = table(tmp_path / "several", body=["a"], title=["b"])
    with pytest.raises(ValueError, match=r"has several columns of text; .* body \(string\), title \(string\)"):
        open_text(several, None)
    with pytest.raises(ValueError, match=r"no column of text 'titel'; it has .*; did you mean 'title'"):
        open_text(several, "titel")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="data set 'hf:no-one/nothing' cannot be loaded: ") as caught:
        open_text("hf:no-one/nothing", None)
    assert len(str(caught.value).splitlines()) == 1


def test_sentences() -> None:
    given = ["a b\nc", ["d e", "f"], ("g",)]
    assert list(open_sentences(given).read()) == ["a b", "c", ["d e", "f"], ("g",)]
    tokens = [list(sentence) for sentence in segmented(open_sentences(given), str.split)]
    assert tokens == [["a", "b"], ["c"], ["d e", "f"], ["g"]]
    assert open_sentences(given).key is None


@pytest.mark.parametrize("wrong", [3, {"text": "a"}, [1, 2], b"bytes"])
def test_errors_of_sentences(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"sentence 1 is .*; give strings, or lists of tokens"):
        list(open_sentences(["right", wrong]).read())


def test_a_string_is_no_text() -> None:
    with pytest.raises(ValueError, match="sentences is a single string"):
        open_sentences("a path?")
    with pytest.raises(ValueError, match=r"makes a string of a line \('ONE TWO'\)"):
        list(segmented(open_sentences(["one two"]), str.upper))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package whose documentation is the embedded text."""
    folder = tmp_path / "documented"
    (folder / "tests").mkdir(parents=True)
    (folder / "__init__.py").write_text('raise RuntimeError("imported")\n')
    (folder / "a.py").write_text(
        '"""About\n\nthis module,\nall of it."""\n\nclass Thing:\n    """A thing.\n\n    Notes\n    -----\n'
        "    Heavy.\n\n    >>> Thing()\n    Thing()\n"
        '    """\n    x = "no"\n\n    def do(self):\n        """Does."""\n\ndef no():\n    return """nothing"""\n'
    )
    (folder / "tests" / "b.py").write_text('"""A test."""')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(docstrings, "PACKAGES", {"documented": "numpy"})


@pytest.mark.usefixtures("package")
def test_docstrings() -> None:
    assert stripped("docstrings") == ["About", "this module, all of it.", "A thing.", "Notes Heavy.", "Does."]
    assert open_text("docstrings", None).key == ["docstrings", f"documented {importlib.metadata.version('numpy')}"]


def test_docstrings_of_real_packages() -> None:
    start: Iterator[str] = docstrings.docstring_paragraphs()
    text = "\n".join(next(start) for _ in range(200))
    assert "NumPy" in text
    assert ">>>" not in text
    for name, distribution in docstrings.PACKAGES.items():
        assert docstrings.package_folder(name).is_dir()
        assert importlib.metadata.version(distribution)


def test_docstrings_without_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docstrings, "PACKAGES", {"no_such_package": "no-such"})
    with pytest.raises(ModuleNotFoundError, match="needs the package no_such_package: pip install no-such"):
        list(docstrings.docstring_paragraphs())
