"""Writes datamodules/library_loans.csv.gz, the borrowing records that come with the project.

The books (datamodules/library_books.csv) are real; the readers and their loans are made here. The library is the
planted one of article 2's page: a book's popularity is U² + 0.02 with U uniform on [0, 1), a reader's first book is
drawn by popularity, and the next one comes in 85 % of the cases from the same subject, by popularity among the other
books of it, else from the whole library, by popularity among all other books. A reader may borrow a book again later.

    python -m benchmarks.library_loans

writes the same bytes each time.
"""

import csv
import gzip
import random
from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "datamodules"
READERS = 3000
SAME_SUBJECT = 0.85
FIRST_NAMES = (
    "Ada Agnes Albert Amelia Arthur Beatrice Bernard Caroline Cecil Clara Conrad Cora Dorothy Edgar Edith Edmund"
    " Eleanor Elsie Ernest Esther Eugene Evelyn Felix Flora Frances Frederick Gilbert Grace Harold Harriet Hazel Henry"
    " Herbert Hugo Ida Irene Isaac Jasper Josephine Julian Laura Leonard Lillian Louisa Lucy Mabel Martha Matilda"
    " Miriam Nora Oliver Oscar Pearl Philip Rose Ruth Sylvia Theodore Walter Winifred"
)
LAST_NAMES = (
    "Abbott Alder Ashby Barlow Bexley Birch Blackwood Bramley Brook Carver Chandler Colby Cooper Crane Dalton Dunmore"
    " Ellery Fairfax Falkner Farrow Fielding Fletcher Garnet Goodwin Greaves Hale Harding Hartley Hawthorn Holloway"
    " Ingram Jarvis Kendall Kirby Langley Lockwood Marlow Mercer Milner Norwood Oakley Paget Pembroke Penrose Prescott"
    " Quill Radley Rowan Sawyer Sedgwick Selby Thorne Tilney Underhill Vance Wadsworth Wainwright Weaver Whitfield"
    " Yardley"
)


class Library:
    """Books by number, with their subjects and how popular they are.

    Args:
        subjects: of each book.
        generator: only its `random()` is used, whose numbers are the same in all versions of Python.
    """

    def __init__(self, subjects: Sequence[str], generator: random.Random) -> None:
        self._random = generator.random
        self._subjects = subjects
        self._popularity = [self._random() ** 2 + 0.02 for _ in subjects]

    def loans(self, count: int) -> list[int]:
        """The books that a new reader borrows, one after another."""
        shelf = range(len(self._subjects))
        books = [self._draw(shelf)]
        while len(books) < count:
            same_subject = self._random() < SAME_SUBJECT
            last = self._subjects[books[-1]]
            books.append(
                self._draw([b for b in shelf if b != books[-1] and not (same_subject and self._subjects[b] != last)])
            )
        return books

    def _draw(self, books: Sequence[int]) -> int:
        up_to = list(accumulate(self._popularity[book] for book in books))
        return books[bisect(up_to, self._random() * up_to[-1])]


def records() -> str:
    """The loans as CSV: `reader,item`, the loans of a reader in their order."""
    with (FOLDER / "library_books.csv").open(encoding="utf-8", newline="") as file:
        books = list(csv.DictReader(file))
    generator = random.Random(2)
    library = Library([book["subject"] for book in books], generator)
    names = sorted(
        (generator.random(), f"{first} {last}") for first in FIRST_NAMES.split() for last in LAST_NAMES.split()
    )
    lines = ["reader,item"]
    for _, name in names[:READERS]:
        count = 2 + int(generator.random() * 13)
        lines += [f"{name},{books[book]['item']}" for book in library.loans(count)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Writes the file."""
    path = FOLDER / "library_loans.csv.gz"
    # Neither time nor name goes into the file, so that it depends on its contents alone.
    path.write_bytes(gzip.compress(records().encode(), mtime=0))
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
