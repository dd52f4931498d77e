import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import Logger

from callbacks import NearestItems
from callbacks.nearest_items import nearest
from tests.callbacks.items import Catalogue, Vectors, random_vectors, validate
from tests.callbacks.modules import lightning_noise, quiet_trainer

pytestmark = lightning_noise

ITEMS = ["north", "far north", "east", "south"]
VECTORS = torch.tensor([[0.0, 1.0], [0.1, 9.0], [1.0, 0.0], [0.0, -1.0]])


def table(folder: Path) -> list[list[str]]:
    with (folder / "media" / "neighbors-step=0000000.csv").open(encoding="utf-8") as file:
        return list(csv.reader(file))


def test_the_most_frequent_items_and_their_neighbors(tmp_path: Path) -> None:
    data = Catalogue(counts=torch.tensor([3.0, 1.0, 2.0, 9.0]))
    assert validate(tmp_path, NearestItems(k=2, num_items=2), ITEMS, VECTORS, data) == {}
    assert table(tmp_path) == [
        ["item", "1", "2"],
        ["south", "east (0)", "far north (-1)"],
        ["north", "far north (1)", "east (0)"],
    ]


def test_the_first_items_where_nothing_is_counted(tmp_path: Path) -> None:
    validate(tmp_path, NearestItems(k=9, num_items=2), ITEMS, VECTORS)
    header, *rows = table(tmp_path)
    assert header == ["item", "1", "2", "3"]
    assert [row[0] for row in rows] == ["north", "far north"]


def test_distances(tmp_path: Path) -> None:
    validate(tmp_path, NearestItems(["north", "east"], 2, metric="distance"), ITEMS, VECTORS)
    assert table(tmp_path)[1:] == [
        ["north", "east (1.41)", "south (2)"],
        ["east", "north (1.41)", "south (1.41)"],
    ]


@pytest.mark.parametrize("metric", ["cosine", "distance"])
def test_nearest_is_what_sorting_gives(metric: Any) -> None:
    vectors = random_vectors(50, 3).double()
    numbers, values = nearest(metric, vectors, torch.arange(50), 5)
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    similar = unit @ unit.T if metric == "cosine" else -(vectors[:, None] - vectors).norm(dim=2)
    order = similar.fill_diagonal_(-torch.inf).sort(dim=1, descending=True)
    assert torch.equal(numbers, order.indices[:, :5])
    assert torch.allclose(values, order.values[:, :5])


def test_an_unknown_item_is_refused_before_training(tmp_path: Path) -> None:
    trainer = quiet_trainer(default_root_dir=tmp_path, callbacks=[NearestItems(["nort"])])
    with pytest.raises(ValueError, match=r"NearestItems: the module has no item 'nort'; did you mean 'north'\?"):
        trainer.fit(Vectors(ITEMS, VECTORS), Catalogue())
    assert trainer.global_step == 0


def test_counts_of_other_items_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the datamodule's counts are 2, the module's items 4"):
        validate(tmp_path, NearestItems(), ITEMS, VECTORS, Catalogue(counts=torch.ones(2)))


@pytest.mark.parametrize("arguments", [{"k": 0}, {"num_items": 0}, {"metric": "dot"}])
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be (at least 1|'cosine' or 'distance')"):
        NearestItems(**arguments)


class Noting(Logger):
    """A logger that takes tables as W&B's does, or texts as TensorBoard's."""

    name, version = "noting", 0

    def __init__(self, tables: bool) -> None:
        super().__init__()
        self.noted: list[dict[str, Any]] = []
        if tables:
            self.log_table = lambda **arguments: self.noted.append(arguments)

    @property
    def experiment(self) -> "Noting":
        return self

    def add_text(self, tag: str, text: str, global_step: int) -> None:
        self.noted.append({"tag": tag, "text": text, "step": global_step})

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        pass

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        pass


@pytest.mark.parametrize("tables", [True, False])
def test_loggers_get_the_table(tmp_path: Path, tables: bool) -> None:
    logger = Noting(tables)
    trainer = quiet_trainer(default_root_dir=tmp_path, callbacks=[NearestItems(["a|b"], 1)], logger=logger)
    trainer.fit(Vectors(["a|b", "c"], VECTORS[:2]), Catalogue())
    row = ["a|b", "c (1)"]
    as_table = {"key": "neighbors", "columns": ["item", "1"], "data": [row], "step": 2}
    as_text = {"tag": "neighbors", "text": "| item | 1 |\n| --- | --- |\n| a\\|b | c (1) |", "step": 2}
    assert logger.noted == [as_table if tables else as_text]


def test_a_table_that_was_not_finished_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("csv.writer", lambda *arguments, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        validate(tmp_path, NearestItems(), ITEMS, VECTORS)
    assert list(tmp_path.rglob("*.*")) == []
