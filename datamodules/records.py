"""Borrowing records: who borrowed what after what."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from numpy.typing import NDArray

from datamodules.checks import at_least, one_of
from datamodules.loading import random_generator
from datamodules.pairs import PairDataModule, PairDistribution, Part
from datamodules.tables import Texts, line_of, read_texts

Context = Literal["next", "window", "all"]
_HERE = Path(__file__).parent


class BorrowingDataModule(PairDataModule):
    """Batches of p(i, j), how often item j is borrowed after item i, from lists of who borrowed what.

    The article's source (b). The records that come with the project are made, by `benchmarks/library_loans.py`:
    3,000 invented readers borrow 24,264 times from 120 books. The books are real ones, classics in 12 subjects of
    10; who borrows what is drawn at random, 85 % of a reader's next books from the subject of the last one. It is
    an example whose subjects can be found again, no finding about readers.

    A batch holds complete rows, as `PairDistribution.batch` says. Pairs of an item with itself are left out.
    Validation is on readers of their own; items that no reader to train on borrowed are left out there. The fewer
    their pairs, the lower the entropy of these pairs alone: it says how low a cost could be that knows them already.

    Args:
        source: "embedded", or the path of a CSV file or a file of JSON lines with a record a loan, .gz or not.
        items_file: a file of the same kinds about the items; it may have more items and columns than are used.
        reader_column: name of the column that says who.
        item_column: name of the column that says what, in both files.
        order_column: name of the column of `source` that says when: numbers, or texts in alphabetical order, such as
            ISO dates. Loans of the same time stay in the order of the file; None for that order throughout.
        title_column: name of the column of `items_file` with the titles; None where there is none.
        subject_column: name of the column of `items_file` with the subjects; None where there is none.
        context: j comes "next" after i in a reader's list; or within a "window" around i, on both sides; or anywhere
            in it, "all".
        window: how many loans away j may be if context is "window".
        min_count: items borrowed less often are left out before pairs are made.
        val_fraction: part of the readers that is kept for validation; from 1 on, their number.
        batch_size: centers i in a batch of one process; None for all pairs in each batch.
        steps_per_epoch: training batches in an epoch if each holds all pairs.
        seed: seed of the split and of the order of the centers.

    Attributes:
        items: titles where there are any (with the item's own name where two are the same), else the items' names;
            those borrowed most come first.
        counts: (N,) float64, loans of each item to train on.
        labels: (N,) int64, the subject of each item, -1 for items that are not in `items_file`; None without one.
        label_names: the subjects.
        pairs: all pairs to train on as one batch.
        left_out: how many records of which kinds gave nothing; also logged.

    Raises:
        ValueError: for a wrong argument, and later for a damaged file.
        FileNotFoundError: later, where there is no such file.
    """

    def __init__(
        self,
        source: str = "embedded",
        *,
        items_file: str | None = None,
        reader_column: str = "reader",
        item_column: str = "item",
        order_column: str | None = None,
        title_column: str | None = "title",
        subject_column: str | None = "subject",
        context: Context = "next",
        window: int = 5,
        min_count: int = 1,
        val_fraction: float = 0.1,
        batch_size: int | None = None,
        steps_per_epoch: int = 100,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, steps_per_epoch=steps_per_epoch, seed=seed)
        one_of("context", context, ("next", "window", "all"))
        at_least("window", window, 1)
        at_least("min_count", min_count, 1)
        at_least("val_fraction", val_fraction, 0)
        embedded = source == "embedded"
        self.source = str(_HERE / "library_loans.csv.gz") if embedded else source
        self.items_file = str(_HERE / "library_books.csv") if embedded and items_file is None else items_file
        self.columns = {"reader": reader_column, "item": item_column, "order": order_column}
        self.columns |= {"title": title_column, "subject": subject_column}
        self.context = context
        self.window = window
        self.min_count = min_count
        self.val_fraction = val_fraction
        self.left_out: dict[str, int] = {}

    def build(self) -> dict[Part, PairDistribution]:
        """Reads the loans and counts the pairs."""
        self.left_out = {}
        readers, items = self._loans()
        held_out = self._held_out(len(readers.values))[readers.codes]
        counts = np.bincount(items.codes[~held_out], minlength=len(items.values))
        kept = np.argsort(-counts, kind="stable")[: int((counts >= self.min_count).sum())]
        self._describe([items.values[item] for item in kept], counts[kept])
        numbers = np.full(len(counts), -1)
        numbers[kept] = np.arange(len(kept))
        known = numbers[items.codes]
        parts: dict[Part, PairDistribution] = {"train": self._part("train", readers.codes, known, ~held_out)}
        if held_out.any():
            parts["val"] = self._part("val", readers.codes, known, held_out)
        for what, count in self.left_out.items():
            rank_zero_info(f"{self.source}: left out: {count:,} {what}")
        return parts

    def _loans(self) -> tuple[Texts, Texts]:
        """Returns who and what of each loan; a reader's loans are together, in their order."""
        names = [name for part in ("reader", "item", "order") if (name := self.columns[part]) is not None]
        texts = read_texts(self.source, names)
        readers, items = texts[names[0]], texts[names[1]]
        when = self._ranks(names[2], texts[names[2]]) if len(names) == 3 else np.arange(len(readers.codes))
        rows = np.lexsort((when, readers.codes))
        return Texts(readers.codes[rows], readers.values), Texts(items.codes[rows], items.values)

    def _ranks(self, column: str, texts: Texts) -> NDArray[Any]:
        """Returns numbers (M,) that are in the order of the texts."""
        import pyarrow as pa
        import pyarrow.compute as pc

        values = pa.array(texts.values)
        for number in (pa.int64(), pa.float64()):
            try:
                return pc.cast(values, number).to_numpy()[texts.codes]
            except pa.ArrowInvalid:
                pass
        is_number = pc.match_substring_regex(values, r"^[-+]?[0-9]+[.]?[0-9]*$").to_numpy(zero_copy_only=False)
        if is_number.any():
            text = texts.values[int(np.argmin(is_number))]
            line = line_of(self.source, column, text)
            raise ValueError(f"{self.source}, line {line}: column {column!r} holds {text!r}, but numbers elsewhere")
        return np.argsort(np.argsort(np.array(texts.values)))[texts.codes]

    def _held_out(self, readers: int) -> NDArray[np.bool_]:
        """Returns which readers are kept for validation, (readers,)."""
        count = int(self.val_fraction) if self.val_fraction >= 1 else round(self.val_fraction * readers)
        if count >= readers:
            raise ValueError(f"val_fraction takes {count} of {readers} readers and leaves none for training")
        order = torch.randperm(readers, generator=random_generator(self.seed, "split")).numpy()
        held_out = np.zeros(readers, bool)
        held_out[order[:count]] = True
        return held_out

    def _describe(self, names: list[str], counts: NDArray[np.int64]) -> None:
        """Sets items, counts and labels."""
        self.items, self.counts = names, torch.from_numpy(counts.astype(np.float64))
        if self.items_file is None:
            return
        columns = [name for part in ("item", "title", "subject") if (name := self.columns[part]) is not None]
        texts = read_texts(self.items_file, columns)
        rows = self._rows_of(names, texts[columns[0]])
        if (column := self.columns["title"]) is not None:
            titles = [texts[column].values[texts[column].codes[row]] if row >= 0 else "" for row in rows]
            self.items = _unlike(names, titles)
        if (column := self.columns["subject"]) is not None:
            self.labels = torch.from_numpy(np.where(rows >= 0, texts[column].codes[rows], -1))
            self.label_names = texts[column].values

    def _rows_of(self, names: list[str], column: Texts) -> NDArray[np.int64]:
        """Returns each item's row in the table of items, -1 for those that are not in it."""
        if len(column.values) < len(column.codes):
            name = column.values[int(np.argmax(np.bincount(column.codes)))]
            raise ValueError(
                f"{self.items_file}: item {name!r} comes more than once in column {self.columns['item']!r}"
            )
        rows = dict(zip(column.values, range(len(column.values)), strict=True))
        found = np.array([rows.get(name, -1) for name in names], np.int64)
        if missing := int((found < 0).sum()):
            self.left_out[f"titles, of items that are not in {self.items_file}"] = missing
        return found

    def _part(
        self, part: Part, readers: NDArray[np.int64], items: NDArray[np.int64], inside: NDArray[np.bool_]
    ) -> PairDistribution:
        """Returns p(i, j) of the loans that are `inside`; items are -1 where they are not known."""
        which = "loans of rare items" if part == "train" else "validation loans of items not trained on"
        known = inside & (items >= 0)
        readers, items = readers[known], items[known]
        lists = np.unique(readers, return_counts=True)[1]
        pairs = count_pairs(readers, items, len(self.items), self.context, self.window)
        same = pairs.diagonal()
        pairs.setdiag(0)
        found = {
            which: int(inside.sum() - known.sum()),
            f"{part} readers with a single loan": int((lists == 1).sum()),
            f"{part} pairs of an item with itself": int(same.sum()),
        }
        self.left_out |= {what: count for what, count in found.items() if count}
        try:
            return PairDistribution(pairs)
        except ValueError as error:
            raise ValueError(f"{self.source}: {len(lists)} {part} readers: {error}") from None


def count_pairs(
    readers: NDArray[np.int64], items: NDArray[np.int64], num_items: int, context: Context, window: int
) -> Any:
    """Returns how often item j is in the context of item i, (N, N), as a sparse array of scipy.

    Args:
        readers: (M,), who; loans of a reader stand together, in their order.
        items: (M,), what; 0 to N - 1.
        num_items: N.
        context: see `BorrowingDataModule`.
        window: see `BorrowingDataModule`.
    """
    import scipy.sparse

    shape = (num_items, num_items)
    if context == "all":
        lists = scipy.sparse.csr_array((np.ones(len(items)), (np.unique(readers, return_inverse=True)[1], items)))
        lists.resize(lists.shape[0], num_items)
        # A loan is no context of itself.
        return (lists.T @ lists - scipy.sparse.diags_array(lists.sum(axis=0))).tocsr()
    total = scipy.sparse.csr_array(shape)
    for distance in range(1, (1 if context == "next" else window) + 1):
        before = np.flatnonzero(readers[:-distance] == readers[distance:])
        pairs = items[before], items[before + distance]
        total = total + scipy.sparse.csr_array((np.ones(len(before)), pairs), shape=shape)
    return total if context == "next" else (total + total.T).tocsr()


def _unlike(names: list[str], titles: list[str]) -> list[str]:
    """Returns the titles, with the name where a title is missing or not the only one of its kind."""
    times: dict[str, int] = {}
    for title in titles:
        times[title] = times.get(title, 0) + 1
    texts = zip(names, titles, strict=True)
    return [name if not title else title if times[title] == 1 else f"{title} ({name})" for name, title in texts]
