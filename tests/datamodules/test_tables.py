"""Columns of CSV and JSON-lines files, and what is said of broken ones."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from datamodules.tables import column_names, line_of, read_numbers, read_texts

ROWS = [("Ada", "x"), ("Bob", "y, z"), ("Ada", "NA"), ("Ödön", "null"), ("Ada", "x")]


def csv_text(rows: list[tuple[str, str]]) -> str:
    return "who,what,rest\n" + "".join(f'{who},"{what}",0\n' for who, what in rows)


def json_text(rows: list[tuple[str, str]]) -> str:
    return "".join(json.dumps({"who": who, "rest": [0], "what": what}) + "\n" for who, what in rows)


def write(path: Path, content: str | bytes) -> str:
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.jsonl.gz", "a.ndjson", "a.json"])
def test_texts(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, csv_text(ROWS) if "csv" in name else json_text(ROWS))
    table = read_texts(path, ["what", "who"])
    assert list(table) == ["what", "who"]
    assert table["who"].values == ["Ada", "Bob", "Ödön"]
    assert table["who"].codes.tolist() == [0, 1, 0, 2, 0]
    assert table["what"].values == ["x", "y, z", "NA", "null"]
    assert table["what"].codes.dtype == np.int64
    assert line_of(path, "what", "NA") == (4 if "csv" in name else 3)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_many_blocks_have_one_numbering(name: str, tmp_path: Path) -> None:
    rows = [(f"reader {i % 4001}", f"book {i * i % 977}") for i in range(120_000)]
    path = write(tmp_path / name, csv_text(rows) if "csv" in name else json_text(rows))
    table = read_texts(path, ["who", "what"])
    for column, texts in zip(zip(*rows, strict=True), table.values(), strict=True):
        assert [texts.values[code] for code in texts.codes] == list(column)
        assert texts.values == list(dict.fromkeys(column))


def test_forms_that_are_fine(tmp_path: Path) -> None:
    marked = write(tmp_path / "marked.csv", '\ufeffwho,what\r\nAda , x\r\n\r\nBob,"two\nlines"\r\n'.encode())
    assert read_texts(marked, ["who", "what"])["what"].values == ["x", "two\nlines"]
    numbers = write(tmp_path / "numbers.jsonl", '{"who": 7, "what": 1}\n\n{"who": 12, "what": 1}\n')
    assert read_texts(numbers, ["who"])["who"].values == ["7", "12"]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_numbers(name: str, tmp_path: Path) -> None:
    text = "x,y,name\n1,2.5,a\n-3,1e3,b\n"
    lines = '{"x": 1, "y": 2.5, "name": "a"}\n{"y": 1e3, "x": -3}\n'
    found = read_numbers(write(tmp_path / name, text if "csv" in name else lines), ["y", "x"])
    assert found.tolist() == [[2.5, 1], [1000, -3]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "'.*a.csv' has no records"),
        ("a.csv", "who,what\n", "'.*a.csv' has no records"),
        ("a.csv", "1,2\n3,4\n", "line 1: has to name the columns, but holds only numbers"),
        ("a.csv", "who,waht\na,b\n", "line 1: there is no column 'what'; did you mean 'waht'"),
        ("a.csv", "who,x\na,b\n", "line 1: there is no column 'what'; there are 'who', 'x'"),
        ("a.csv", "who,what,who\na,b,c\n", "line 1: two columns have the same name"),
        ("a.csv", "who,what\na,b\nc,\n", "line 3: column 'what' is empty"),
        ("a.csv", "who,what\na,b\n  ,d\n", "line 3: column 'who' is empty"),
        ("a.csv", "who,what\na,b\n\nc\n", r"line 4: 1 field\(s\), but line 1 has 2"),
        ("a.csv", "who,what\na,b\nc,d,e\n", r"line 3: 3 field\(s\), but line 1 has 2"),
        ("a.csv", b"who,what\na,b\nc,\xe9t\xe9\n", "line 3: not UTF-8"),
        ("a.csv.gz", b"", "has no records"),
        ("a.jsonl", '{"who": 1, "what": "a"}\n{"who": 2, "what"}\n', "line 2: not JSON"),
        ("a.jsonl", '{"who": 1, "what": "a"}\n[1]\n', r"line 2: not a JSON object but '\[1\]'"),
        ("a.jsonl", '{"who": 1, "what": "a"}\n{"who": 2, "wat": "a"}\n', "'what' is empty; did you mean 'wat'"),
        ("a.jsonl", '{"who": 1, "what": "a"}\n{"who": null, "what": "a"}\n', "line 2: column 'who' is empty"),
        ("a.jsonl", '{"who": 1, "what": "a"}\n{"who": "b", "what": "a"}\n', "line 2: .*'who' holds 'b'.* whole number"),
        ("a.jsonl", '{"who": 1, "what": ["a"]}\n', "line 1: column 'what' holds "),
        ("a.txt", "who,what\n", "has to end in .csv, .jsonl, .ndjson, .json, or in one of these and .gz"),
    ],
)
def test_faults_are_named(name: str, content: str | bytes, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(ValueError, match=message) as raised:
        read_texts(path, ["who", "what"])
    assert name in str(raised.value)


@pytest.mark.parametrize(("column", "message"), [("x", "line 3: column 'x' holds 'n/a', which is no number")])
def test_texts_are_no_numbers(column: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_numbers(write(tmp_path / "a.csv", "x,y\n1,2\nn/a,3\n"), [column])
    with pytest.raises(ValueError, match="line 2: column 'x' holds 'n/a'"):
        read_numbers(write(tmp_path / "a.jsonl", '{"x": 1}\n{"x": "n/a"}\n'), [column])


def test_damaged_gzip(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    whole = gzip.compress(csv_text([(str(i * i), str(i)) for i in range(5000)]).encode())
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"after line [0-9]+: damaged gzip file"):
        read_texts(str(path), ["who"])
    path.write_bytes(whole[:-8] + bytes(8))
    with pytest.raises(ValueError, match="after line 5001: damaged gzip file"):
        read_texts(str(path), ["who"])
    path.write_bytes(b"who,what\na,b\n")
    with pytest.raises(ValueError, match=r"a.csv.gz: "):
        read_texts(str(path), ["who"])


def test_missing_file(tmp_path: Path) -> None:
    write(tmp_path / "loans.csv", csv_text(ROWS))
    with pytest.raises(FileNotFoundError, match=r"loan.csv' does not exist; did you mean '.*loans.csv'"):
        column_names(str(tmp_path / "loan.csv"))
