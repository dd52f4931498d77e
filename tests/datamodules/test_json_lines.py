"""Files of JSON objects: which lines are left out, and which files are errors."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from datamodules import json_lines, text_files
from datamodules.json_lines import LineError, existing_file, read_records
from datamodules.problems import Problems


def read(path: Path) -> tuple[list[Any], Problems]:
    """What can be read of a file, with line numbers."""
    problems = Problems()
    return list(read_records(path, problems, lambda line, record: (line, record))), problems


@pytest.mark.parametrize("zipped", [False, True])
def test_objects_by_line(tmp_path: Path, zipped: bool) -> None:
    content = '\ufeff{"a": "一"}\r\n\n  \n{"a": 2}'.encode()
    (tmp_path / "a").write_bytes(gzip.compress(content) if zipped else content)
    records, problems = read(tmp_path / "a")
    assert records == [(1, {"a": "一"}), (4, {"a": 2})]
    assert not problems.counts


def test_faulty_lines_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}\n{"a": \n[1]\n"x"\n' + "[" * 100_000 + '\n{"a": ' + "9" * 5000 + '}\n{"a": 2}\n')
    records, problems = read(path)
    assert [line for line, _ in records] == [1, 7]
    assert problems.counts == {
        "lines that are not JSON, left out": 3,
        "lines that are JSON but no objects {...}, left out": 2,
    }
    assert f"{path}:2 (Expecting value at character 8: '{{\"a\":')" in problems.report()[0]
    assert f"{path}:3 ('[1]'), {path}:4 ('\"x\"')" in problems.report()[1]


def test_lines_that_the_reader_of_objects_refuses(tmp_path: Path) -> None:
    (tmp_path / "a").write_text('{"a": 1}\n{"b": 1}\n')
    problems = Problems()

    def parse(line: int, record: dict[str, Any]) -> Any:
        if "a" not in record:
            raise LineError("lines without an a", f"line {line}")
        return record["a"]

    assert list(read_records(tmp_path / "a", problems, parse)) == [1]
    assert problems.report() == [f"1 lines without an a: {tmp_path}/a:2 (line 2)"]


def test_overlong_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "LONGEST_LINE", 64)
    (tmp_path / "a").write_text('{"a": 1}\n{"a": "' + "long " * 100 + '"}\n{"a": 3}\n{"a": "' + "x" * 300 + '"}')
    records, problems = read(tmp_path / "a")
    assert records == [(1, {"a": 1}), (3, {"a": 3})]
    assert problems.counts == {"lines of over a mebibyte, left out": 2}
    assert f"{tmp_path}/a:2 (" in problems.report()[0]
    assert f"{tmp_path}/a:4 (" in problems.report()[0]


def test_half_a_surrogate_pair(tmp_path: Path) -> None:
    (tmp_path / "a").write_text('{"a": "x\\ud83dy"}\n{"a": "\\ud83d\\ude00", "b": "\\u4e00"}\n')
    records, problems = read(tmp_path / "a")
    assert records == [(1, {"a": "x\ufffdy"}), (2, {"a": "😀", "b": "一"})]
    assert problems.counts == {"lines with half a surrogate pair, which is read as U+FFFD": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "it is empty"),
        ("\n \n", "it is empty"),
        ("<!DOCTYPE html>\n<html>", r"line 1 is one of the lines that are not JSON.*'<!DOCTYPE html>', an HTML or XML"),
        ('[{"a": 1},\n{"a": 2}]', r"line 1 is one of the lines that are not JSON, left out"),
        (
            '[{"a": 1}]',
            r"line 1 is one of the lines that are JSON but no objects \{...\}, left out \('\[\{\"a\": 1\}\]'",
        ),
        ("\n1\tx", "line 2 is one of the lines that are not JSON"),
    ],
)
def test_files_without_any_object(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=rf"a\.json has no line that can be used; {message}"):
        read(tmp_path / "a.json")


def test_other_files_are_not_read_to_the_end(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"no JSON\n" * json_lines.PATIENCE + b"\xff\n")
    with pytest.raises(ValueError, match="line 1 is one of the lines that are not JSON"):
        read(tmp_path / "a.json")


def test_wrong_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes('{"a": 1}\n{"a": "旧"}'.encode("gb18030"))
    with pytest.raises(ValueError, match=r"a\.json, line 2: not UTF-8 \(byte 0xbe\)"):
        read(tmp_path / "a.json")
    (tmp_path / "b.json").write_bytes('{"a": 1}'.encode("utf-16"))
    with pytest.raises(ValueError, match=r"b\.json, line 1: not UTF-8"):
        read(tmp_path / "b.json")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "train.json").touch()
    assert existing_file(str(tmp_path / "train.json"), "train") == tmp_path / "train.json"
    with pytest.raises(FileNotFoundError, match=r"train '.*trian\.json' does not exist; did you mean 'train\.json'\?"):
        existing_file(tmp_path / "trian.json", "train")
    with pytest.raises(FileNotFoundError, match=r"train '.*' is a folder, but has to be a file"):
        existing_file(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        existing_file("/nowhere/at/all", "train")
