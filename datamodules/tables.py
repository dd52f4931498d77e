"""Columns of CSV files and of files of JSON lines, plain or gzipped.

Arrow reads the files in blocks and keeps of a text column its different values and a number a record, so that a file
may be much larger than what is kept of it. Where it stops, the file is read once more, line by line, to say where.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datamodules.checks import nearest
from datamodules.text_files import read_lines

_KINDS = (".csv", ".jsonl", ".ndjson", ".json")


class Texts(NamedTuple):
    """A column of M texts.

    Attributes:
        codes: (M,) int64, the number of each record's text.
        values: the different texts, in the order in which they first come up.
    """

    codes: NDArray[np.int64]
    values: list[str]


def read_texts(path: str, columns: Sequence[str]) -> dict[str, Texts]:
    """Returns columns as texts; numbers in JSON as they are written, and no spaces around any.

    Args:
        path: a .csv file whose first line names the columns, or a .jsonl, .ndjson or .json file with an object a
            line; .gz may follow. UTF-8.
        columns: their names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no such column, an empty field, a broken line; with the file, the line and the column.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    def encode(column: Any) -> Any:
        trimmed = pc.utf8_trim_whitespace(column.cast(pa.string()))
        return pc.if_else(pc.equal(trimmed, ""), None, trimmed).dictionary_encode()

    different = list(dict.fromkeys(columns))
    table = _read(path, different, "texts", encode)
    found = {}
    for name in different:
        column = table[name].combine_chunks()
        found[name] = Texts(column.indices.to_numpy().astype(np.int64), column.dictionary.to_pylist())
    return found


def read_numbers(path: str, columns: Sequence[str]) -> NDArray[np.float64]:
    """Returns columns of numbers, (M, number of columns); NaN and inf are numbers.

    See `read_texts` for the arguments and errors, to which texts that are no numbers come.
    """
    table = _read(path, columns, "numbers", lambda column: column)
    return np.stack([table[name].to_numpy() for name in columns], axis=1)


def column_names(path: str) -> list[str]:
    """Returns the names of a file's columns; in JSON those of the first line.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: nothing is in it, or it is of no known kind.
    """
    place = Path(path).expanduser()
    if not place.is_file():
        siblings = [str(place.with_name(file.name)) for file in place.parent.iterdir()] if place.parent.is_dir() else []
        raise FileNotFoundError(f"{path!r} does not exist{nearest(path, siblings)}")
    if not _stem(place).endswith(_KINDS):
        raise ValueError(f"{path!r} has to end in {', '.join(_KINDS)}, or in one of these and .gz")
    _, first = next(_records(place), (0, {}))
    if not first:
        raise ValueError(f"{path!r} has no records")
    names = list(first)
    if all(map(_is_number, names)) and names != [str(number) for number in range(len(names))]:
        raise ValueError(f"{path}, line 1: has to name the columns, but holds only numbers")
    return names


def line_of(path: str, column: str, value: str) -> int:
    """Returns the number of the first line, from 1 on, that has `value` in `column`."""
    records = _records(Path(path).expanduser())
    return next(line for line, record in records if str(record[column]).strip() == value)


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz")


def _read(path: str, columns: Sequence[str], kind: str, encode: Any) -> Any:
    """Returns the columns as a table of Arrow whose dictionaries are the same in all blocks."""
    import pyarrow as pa

    known = column_names(path)
    for name in columns:
        if name not in known:
            hint = nearest(name, known) or f"; there are {', '.join(map(repr, known))}"
            raise ValueError(f"{path}, line 1: there is no column {name!r}{hint}")
    place = Path(path).expanduser()
    try:
        blocks = _blocks(place, columns, kind)
        table = pa.Table.from_batches(
            [pa.RecordBatch.from_arrays([encode(block[name]) for name in columns], list(columns)) for block in blocks]
        )
    except (pa.ArrowException, OSError) as error:
        _raise_first_fault(place, columns, kind)
        raise ValueError(f"{path}: {error}") from None
    if any(table[name].null_count for name in columns):
        _raise_first_fault(place, columns, kind)
    return table.unify_dictionaries()


def _blocks(path: Path, columns: Sequence[str], kind: str) -> Any:
    import pyarrow as pa

    if _stem(path).endswith(".csv"):
        from pyarrow import csv as arrow_csv

        return arrow_csv.open_csv(
            path,
            parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=list(columns),
                column_types=dict.fromkeys(columns, pa.string() if kind == "texts" else pa.float64()),
                # "NA" and "null" may be names.
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    from pyarrow import json as arrow_json

    _, first = next(_records(path))
    types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    fields = [(name, pa.float64() if kind == "numbers" else types.get(type(first[name]))) for name in columns]
    if any(field_type is None for _, field_type in fields):
        _raise_first_fault(path, columns, kind)
    return arrow_json.open_json(
        path,
        parse_options=arrow_json.ParseOptions(explicit_schema=pa.schema(fields), unexpected_field_behavior="ignore"),
    )


def _raise_first_fault(path: Path, columns: Sequence[str], kind: str) -> None:
    """Raises ValueError for the first field that cannot be used."""
    first: dict[str, type] = {}
    for line, record in _records(path):
        for name in columns:
            here = f"{path}, line {line}: column {name!r}"
            value = record.get(name)
            if value is None or not str(value).strip():
                raise ValueError(f"{here} is empty{'' if name in record else nearest(name, record)}")
            if kind == "numbers" and not _is_number(value):
                raise ValueError(f"{here} holds {value!r}, which is no number")
            if isinstance(value, bool | list | dict) or type(value) is not first.setdefault(name, type(value)):
                expected = {str: "a text", int: "a whole number", float: "a number"}.get(first.get(name, str))
                raise ValueError(f"{here} holds {value!r}, but has to hold {expected}, as in the first line")


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, bool)


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the line number, from 1 on, and the fields of each record, read in plain Python."""
    return _csv_records(path) if _stem(path).endswith(".csv") else _json_records(path)


def _csv_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = csv.reader(read_lines(path))
    header = next(rows, [])
    if len(set(header)) < len(header):
        raise ValueError(f"{path}, line 1: two columns have the same name")
    for row in filter(None, rows):
        if len(row) != len(header):
            raise ValueError(f"{path}, line {rows.line_num}: {len(row)} field(s), but line 1 has {len(header)}")
        yield rows.line_num, dict(zip(header, row, strict=True))


def _json_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in enumerate(read_lines(path), 1):
        if not text.strip():
            continue
        try:
            record = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {line}: not JSON ({error.msg} at character {error.pos + 1})") from None
        if not isinstance(record, dict):
            raise ValueError(f"{path}, line {line}: not a JSON object but {text.strip()[:40]!r}")
        yield line, record
