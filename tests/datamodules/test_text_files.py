"""Text files: which, line by line, and what is wrong with them."""

import gzip
from pathlib import Path

import pytest

from datamodules import text_files
from datamodules.text_files import file_key, find_files, read_lines


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two texts, one in a folder below, and two hidden files."""
    for name in ("b.txt", "below/a.txt.gz", ".hidden.txt", ".git/c.txt"):
        path = tmp_path / "texts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return tmp_path / "texts"


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_find_files(folder: Path) -> None:
    assert names(find_files(str(folder))) == ["b.txt", "a.txt.gz"]
    assert names(find_files(str(folder / "b.txt"))) == ["b.txt"]
    assert names(find_files(str(folder / "*.txt"))) == ["b.txt"]
    assert names(find_files(str(folder / "**" / "*.txt*"))) == ["b.txt", "a.txt.gz"]
    assert names(find_files(str(folder / ".hidden.txt"))) == [".hidden.txt"]


def test_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert find_files("~/b.txt") == [folder / "b.txt"]


def test_files_that_are_not_there(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"does not exist; did you mean 'b\.txt'\?"):
        find_files(str(folder / "bb.txt"))
    with pytest.raises(FileNotFoundError, match="did you mean 'docstrings'"):
        find_files("docstring")
    with pytest.raises(FileNotFoundError, match="does not exist; give 'docstrings', the path"):
        find_files("/nowhere/at/all")
    with pytest.raises(FileNotFoundError, match="matches no file"):
        find_files(str(folder / "*.csv"))
    (folder / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="has no files"):
        find_files(str(folder / "empty"))


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("end", ["", "\n"])
def test_lines(tmp_path: Path, zipped: bool, end: str) -> None:
    path = tmp_path / "a.txt"
    content = "\ufeff第一\n\nthird \ufeff\r\nlast" + end
    path.write_bytes(gzip.compress(content.encode()) if zipped else content.encode())
    assert [line.rstrip("\r\n") for line in read_lines(path)] == ["第一", "", "third \ufeff", "last"]


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    assert list(read_lines(tmp_path / "a.txt")) == []


@pytest.mark.parametrize(
    "content", ["word " * 40, "图书馆" * 40, "x" * 100 + " é" * 30, "ab\n" + "0123456789 " * 9 + "\nc d"]
)
def test_long_lines_come_in_pieces(tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "LONGEST_LINE", 16)
    path = tmp_path / "a.txt"
    path.write_text(content)
    pieces = list(read_lines(path))
    assert "".join(pieces) == content
    assert max(len(piece.encode()) for piece in pieces) <= 32
    if content.startswith("word"):
        assert {word for piece in pieces for word in piece.split()} == {"word"}


@pytest.mark.parametrize("zipped", [False, True])
def test_wrong_encoding_is_named_by_file_and_line(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "old.txt"
    content = "good\n好\n".encode() + "旧的".encode("gb18030") + b"\ngood\n"
    path.write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(ValueError, match=r"old\.txt, line 3: not UTF-8 \(byte 0xbe\)\. Convert .*`iconv -f GB18030"):
        list(read_lines(path))


def test_damaged_gzip(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress("".join(f"line {n}\n" for n in range(10_000)).encode())[:-2000])
    with pytest.raises(ValueError, match=r"a\.gz, after line \d+: damaged gzip file"):
        list(read_lines(path))


def test_key_changes_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one")
    before = file_key(path)
    assert file_key(path) == before
    path.write_text("three")
    assert file_key(path) != before
