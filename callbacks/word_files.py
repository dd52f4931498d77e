"""Files of word pairs with human scores, and of analogies: plain or gzipped text in UTF-8."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from callbacks.items import nearest_name


@dataclass(frozen=True)
class WordPair:
    """Two words and how similar people find them."""

    left: str
    right: str
    score: float


@dataclass(frozen=True)
class Analogy:
    """A question of a group: `a` is to `b` as `c` is to which word? To `d`."""

    group: str
    a: str
    b: str
    c: str
    d: str


def read_word_pairs(path: str | Path) -> list[WordPair]:
    """The word pairs of a file with lines `word<TAB>word<TAB>score`, as WordSim-353, SimLex-999 and CWE-240 have them.

    Empty lines and those that start with # are no pairs, and neither is a first line whose score is no number: the
    names of the columns.

    Raises:
        FileNotFoundError: there is no such file; the message names the nearest one.
        ValueError: a line is something else, or there are no pairs; the message names file and line.
    """
    pairs: list[WordPair] = []
    is_first = True
    for number, line in numbered_lines(Path(path)):
        if line.startswith("#"):
            continue
        fields = [field.strip() for field in line.split("\t")]
        score = _number(fields[-1])
        is_header, is_first = is_first and len(fields) == 3 and score is None, False
        if is_header:
            continue
        if len(fields) != 3 or score is None or not all(fields):
            raise ValueError(f"{path}, line {number}: expected word<TAB>word<TAB>score, got {line!r}")
        pairs.append(WordPair(fields[0], fields[1], score))
    if not pairs:
        raise ValueError(f"{path} holds no word pairs")
    return pairs


def read_analogies(path: str | Path) -> list[Analogy]:
    """The questions of a file in the format of word2vec's `questions-words.txt`.

    A line `: name` begins a group; all others are four words with spaces between them.

    Raises:
        FileNotFoundError: there is no such file; the message names the nearest one.
        ValueError: a line is something else, or there are no questions; the message names file and line.
    """
    questions: list[Analogy] = []
    group = ""
    for number, line in numbered_lines(Path(path)):
        if line.startswith(":"):
            group = line[1:].strip()
            continue
        words = line.split()
        if len(words) != 4 or not group:
            wanted = "four words" if group else "a line ': group' before the first question"
            raise ValueError(f"{path}, line {number}: expected {wanted}, got {line!r}")
        questions.append(Analogy(group, *words))
    if not questions:
        raise ValueError(f"{path} holds no analogies")
    return questions


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not empty, without the white space around them, with their numbers from 1.

    Raises:
        FileNotFoundError: there is no such file; the message names the nearest one.
        ValueError: a line is not UTF-8, or the file is no gzip file though its name says so.
    """
    if not path.is_file():
        siblings = os.listdir(path.parent) if path.parent.is_dir() else []
        raise FileNotFoundError(f"there is no file {path}{nearest_name(path.name, siblings)}")
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if text := line.decode("utf-8-sig").strip():
                    yield number, text
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}, line {number}: not UTF-8 ({error.reason} at byte {error.start})") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged after line {number}: {error}") from None


def _number(text: str) -> float | None:
    """The finite number that a text is, if it is one."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
