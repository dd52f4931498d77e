"""The borrowing records that come with the project can be made again."""

import gzip
import itertools
import random
from collections import Counter

from benchmarks.library_loans import FOLDER, READERS, Library, records


def test_the_shipped_file_is_what_the_script_writes() -> None:
    # Not the compressed bytes: these depend on the version of zlib.
    assert gzip.decompress((FOLDER / "library_loans.csv.gz").read_bytes()) == records().encode()
    assert (FOLDER / "library_loans.csv.gz").stat().st_size < 150_000


def test_every_reader_has_a_name_and_two_loans_or_more() -> None:
    readers = Counter(line.split(",")[0] for line in records().splitlines()[1:])
    assert len(readers) == READERS
    assert min(readers.values()) == 2
    assert max(readers.values()) == 14


def test_loans_follow_the_plan() -> None:
    """Of 12 subjects with 10 books each, 85 % of the next books and one in 12 of the rest are of the same one."""
    subjects = [str(book // 10) for book in range(120)]
    library = Library(subjects, random.Random(0))
    books = library.loans(20_000)
    pairs = list(itertools.pairwise(books))
    assert all(i != j for i, j in pairs)
    same = sum(subjects[i] == subjects[j] for i, j in pairs) / len(pairs)
    assert abs(same - (0.85 + 0.15 / 12)) < 0.01
