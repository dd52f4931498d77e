"""Borrowing records: what is counted, what is left out, and the library that comes with the project."""

import csv
import gzip
import inspect
import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules import BorrowingDataModule
from datamodules.pairs import PairBatch, PairDistribution
from datamodules.records import count_pairs

LOANS = [("ann", "abacab"), ("ben", "ba"), ("cat", "c"), ("dan", "cddb")]


def write_loans(path: Path, loans: list[tuple[str, str]], header: str = "reader,item") -> str:
    path.write_text("\n".join([header, *(f"{who},{what}" for who, items in loans for what in items)]) + "\n")
    return str(path)


def write_items(path: Path) -> str:
    path.write_text(
        "item,shelf,title,subject\nb,1,Bees,Animals\na,2,Apples,Plants\nc,3,Crows,Animals\nz,4,Zinc,Metals\n"
    )
    return str(path)


def ready(*args: Any, **kwargs: Any) -> BorrowingDataModule:
    module = BorrowingDataModule(*args, **({"val_fraction": 0} | kwargs))
    module.setup("fit")
    return module


def counted(distribution: PairDistribution, items: list[str], total: int) -> dict[str, int]:
    """How often each pair was counted, by names such as "ab"."""
    names = [items[i] + items[j] for i, j in zip(distribution.center, distribution.context, strict=True)]
    return dict(zip(names, np.rint(distribution.weight * total).astype(int).tolist(), strict=True))


def naive(context: str, window: int) -> Counter[str]:
    """The pairs of LOANS by two loops."""
    pairs: Counter[str] = Counter()
    for _, items in LOANS:
        for a, i in enumerate(items):
            for b, j in enumerate(items):
                near = {"next": b == a + 1, "window": 0 < abs(b - a) <= window, "all": a != b}[context]
                pairs[i + j] += near and i != j
    return +pairs


@pytest.mark.parametrize(("context", "window"), [("next", 9), ("window", 1), ("window", 2), ("window", 9), ("all", 1)])
def test_pairs_are_counted(context: Any, window: int, tmp_path: Path) -> None:
    module = ready(write_loans(tmp_path / "loans.csv", LOANS), context=context, window=window)
    expected = naive(context, window)
    assert counted(module.distribution, module.items, expected.total()) == dict(expected)


def test_next_is_what_the_article_says(tmp_path: Path) -> None:
    """ann: a>b, b>a, a>c, c>a, a>b; ben: b>a; dan: c>d, d>b."""
    module = ready(write_loans(tmp_path / "loans.csv", LOANS))
    expected = {"ab": 2, "ba": 2, "ac": 1, "ca": 1, "cd": 1, "db": 1}
    assert counted(module.distribution, module.items, 8) == expected
    assert module.items[:2] == ["a", "b"]
    assert dict(zip(module.items, module.counts.tolist(), strict=True)) == {"a": 4, "b": 4, "c": 3, "d": 2}
    assert module.counts.dtype == torch.float64
    assert module.labels is None
    assert module.left_out == {"train readers with a single loan": 1, "train pairs of an item with itself": 1}


def test_large_counts_agree_with_a_table() -> None:
    generator = np.random.default_rng(0)
    readers = np.sort(generator.integers(0, 400, 5000))
    items = generator.integers(0, 60, 5000)
    table = np.zeros((60, 60))
    for distance in (1, 2, 3):
        same = readers[:-distance] == readers[distance:]
        np.add.at(table, (items[:-distance][same], items[distance:][same]), 1)
    assert np.array_equal(count_pairs(readers, items, 60, "window", 3).toarray(), table + table.T)
    longest = np.bincount(readers).max()
    window = count_pairs(readers, items, 60, "window", longest).toarray()
    assert np.array_equal(count_pairs(readers, items, 60, "all", 1).toarray(), window)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".jsonl", ".jsonl.gz"])
def test_all_forms_of_a_file_are_one(suffix: str, tmp_path: Path) -> None:
    rows = [(who, what) for who, items in LOANS for what in items]
    text = "who,what\n" + "".join(f"{who},{what}\n" for who, what in rows)
    if "json" in suffix:
        text = "".join(json.dumps({"what": what, "who": who}) + "\n" for who, what in rows)
    path = tmp_path / f"loans{suffix}"
    path.write_bytes(gzip.compress(text.encode()) if suffix.endswith(".gz") else text.encode())
    module = ready(str(path), reader_column="who", item_column="what")
    expected = ready(write_loans(tmp_path / "expected.csv", LOANS))
    assert module.items == expected.items
    assert np.array_equal(module.distribution.weight, expected.distribution.weight)


@pytest.mark.parametrize("times", [["9", "10", "-1"], ["1.5", "2e3", "1"], ["2024-02-09", "2024-10-01", "2023-12-31"]])
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_order_column(times: list[str], suffix: str, tmp_path: Path) -> None:
    """Mixed readers, sorted by time: ann borrows c, a, b; ben b, then a. Loans of one time stay as they are."""
    rows = [("ann", "a", times[0]), ("ben", "b", times[2]), ("ann", "b", times[1]), ("ben", "a", times[2])]
    rows.append(("ann", "c", times[2]))
    names = ("reader", "item", "when")
    lines = [",".join(names), *map(",".join, rows)]
    if suffix == "jsonl":
        lines = [json.dumps(dict(zip(names, row, strict=True))) for row in rows]
    path = tmp_path / f"loans.{suffix}"
    path.write_text("\n".join(lines))
    module = ready(str(path), order_column="when")
    assert counted(module.distribution, module.items, 3) == {"ca": 1, "ab": 1, "ba": 1}


def test_a_reader_need_not_stand_together(tmp_path: Path) -> None:
    path = write_loans(tmp_path / "loans.csv", [("ann", "a"), ("ben", "b"), ("ann", "b"), ("ben", "c")])
    module = ready(path)
    assert counted(module.distribution, module.items, 2) == {"ab": 1, "bc": 1}


def test_titles_and_subjects(tmp_path: Path) -> None:
    module = ready(write_loans(tmp_path / "loans.csv", LOANS), items_file=write_items(tmp_path / "items.csv"))
    assert sorted(module.items) == ["Apples", "Bees", "Crows", "d"]
    assert module.label_names == ["Animals", "Plants", "Metals"]
    assert module.labels is not None
    assert dict(zip(module.items, module.labels.tolist(), strict=True)) == {"Apples": 1, "Bees": 0, "Crows": 0, "d": -1}
    assert module.labels.dtype == torch.int64
    (missing,) = [count for what, count in module.left_out.items() if "not in" in what]
    assert missing == 1


def test_titles_that_are_the_same(tmp_path: Path) -> None:
    items = tmp_path / "items.csv"
    items.write_text("item,title\na,Poems\nb,Poems\nc,Crows\nd,Ducks\n")
    loans = write_loans(tmp_path / "loans.csv", LOANS)
    module = ready(loans, items_file=str(items), subject_column=None)
    assert sorted(module.items) == ["Crows", "Ducks", "Poems (a)", "Poems (b)"]
    assert module.labels is None
    with pytest.raises(ValueError, match=r"items.csv, line 1: there is no column 'subject'"):
        ready(loans, items_file=str(items))


def test_items_that_come_twice(tmp_path: Path) -> None:
    items = tmp_path / "items.csv"
    items.write_text("item,title\na,A\nb,B\nb,C\n")
    with pytest.raises(ValueError, match=r"items.csv: .*'b' comes more than once in column 'item'"):
        ready(write_loans(tmp_path / "loans.csv", LOANS), items_file=str(items), subject_column=None)


def test_rare_items_are_left_out_before_pairs_are_made(tmp_path: Path) -> None:
    """Without d: dan borrows c, then b."""
    module = ready(write_loans(tmp_path / "loans.csv", LOANS), min_count=3)
    assert counted(module.distribution, module.items, 7) == {"ab": 2, "ba": 2, "ac": 1, "ca": 1, "cb": 1}
    assert module.left_out["loans of rare items"] == 2


def test_validation_readers_are_others(tmp_path: Path) -> None:
    loans = [(f"r{n}", "abcab"[n % 3 :] + ("z" if n == 7 else "")) for n in range(20)]
    path = write_loans(tmp_path / "loans.csv", loans)
    seeds = [ready(path, val_fraction=0.25, seed=seed) for seed in range(8)]
    for module in seeds:
        val = module._distributions["val"]
        assert module.counts.sum() + val_loans(module, loans) == sum(len(items) for _, items in loans)
        assert np.isin(val.centers, module.distribution.centers).all()
    unknown = [module.left_out.get("validation loans of items not trained on") for module in seeds]
    assert [count == 1 for count in unknown] == ["z" not in module.items for module in seeds]
    assert 1 in unknown
    assert None in unknown
    assert np.array_equal(seeds[0].counts, ready(path, val_fraction=5, seed=0).counts)
    (batch,) = seeds[0].val_dataloader()
    val = seeds[0]._distributions["val"]
    assert batch["entropy"].item() == pytest.approx(val.conditional_entropy)
    assert batch["weight"].sum().item() == pytest.approx(1)


def val_loans(module: BorrowingDataModule, loans: list[tuple[str, str]]) -> int:
    held_out = module._held_out(len(loans))
    assert held_out.sum() == 5
    return sum(len(items) for (_, items), out in zip(loans, held_out, strict=True) if out)


def test_what_is_left_out_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lightning.pytorch"):
        ready(write_loans(tmp_path / "loans.csv", LOANS))
    assert "loans.csv: left out: 1 train readers with a single loan" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"context": "nxt"}, "context is 'nxt', but has to be .*; did you mean 'next'"),
        ({"window": 0}, "window is 0"),
        ({"min_count": 0}, "min_count is 0"),
        ({"val_fraction": -0.1}, "val_fraction is -0.1"),
        ({"val_fraction": 4}, "val_fraction takes 4 of 4 readers"),
        ({"min_count": 99}, "loans.csv: 0 train readers: there is not a single pair"),
        ({"reader_column": "raeder"}, "loans.csv, line 1: there is no column 'raeder'; did you mean 'reader'"),
        ({"order_column": "item"}, "line 5: column 'item' holds 'c', but numbers elsewhere"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    loans = [("ann", "12"), ("ben", "1c")] if "order_column" in arguments else LOANS
    with pytest.raises(ValueError, match=message):
        ready(write_loans(tmp_path / "loans.csv", loans), **arguments)


def test_all_arguments_are_documented() -> None:
    documented = inspect.getdoc(BorrowingDataModule) or ""
    missing = [name for name in inspect.signature(BorrowingDataModule).parameters if f"    {name}:" not in documented]
    assert missing == []


class TestEmbedded:
    """The library that comes with the project."""

    def test_it_is_as_its_page_says(self) -> None:
        module = BorrowingDataModule()
        module.setup("fit")
        assert len(set(module.items)) == 120
        assert module.labels is not None
        assert torch.bincount(module.labels).tolist() == [10] * 12
        assert len(module.label_names) == 12
        assert module.left_out == {}
        everyone = ready()
        assert everyone.counts.sum() == 24_264
        assert "Moby-Dick" in everyone.items

    def test_most_next_books_are_of_the_same_subject(self) -> None:
        module = ready()
        assert module.labels is not None
        subjects = module.labels.numpy()
        pairs = module.distribution
        same = pairs.weight[subjects[pairs.center] == subjects[pairs.context]].sum()
        # 0.85, and from the rest of the draws one in about 13.
        assert same == pytest.approx(0.86, abs=0.01)
        assert pairs.mutual_information > 1.9

    def test_books_are_real_and_readers_are_many(self) -> None:
        with (Path(inspect.getfile(BorrowingDataModule)).parent / "library_books.csv").open(newline="") as file:
            books = list(csv.DictReader(file))
        assert len({book["title"] for book in books}) == 120
        assert all(book["author"] for book in books)

    def test_batches_train_a_unigram_model(self) -> None:
        module = BorrowingDataModule()
        module.setup("fit")
        logits = torch.zeros(120, requires_grad=True)
        optimizer = torch.optim.Adam([logits], 0.1)

        def cost(batch: PairBatch) -> torch.Tensor:
            f = -logits.log_softmax(0)[batch["context"]]
            return (batch["weight"] * f).sum() / batch["weight"].sum()

        for batch in module.train_dataloader():
            optimizer.zero_grad()
            loss = cost(batch)
            loss.backward()
            optimizer.step()
        assert loss.item() == pytest.approx(module.distribution.context_entropy, abs=1e-3)
