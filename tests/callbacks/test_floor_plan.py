import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from callbacks import FloorPlan
from callbacks import floor_plan as code
from tests.callbacks.items import Catalogue, Vectors, random_vectors
from tests.callbacks.modules import lightning_noise, quiet_trainer
from tests.callbacks.test_code_scatter import colors

pytestmark = lightning_noise

N = 24
ITEMS = [f'Volume {number}, "the $ and 图"' for number in range(N)]
PLACES = np.stack(np.meshgrid(range(4), range(3), range(2), indexing="ij"), axis=-1).reshape(-1, 3).astype(float)
PAIRS = {"center": torch.arange(N), "context": torch.arange(N).flip(0), "weight": torch.ones(N)}
SUBJECTS = {"labels": torch.arange(N) // 6, "label_names": ["history", "poetry", "physics", "music"]}


@dataclass(frozen=True)
class Plan:
    positions: NDArray[np.float64]
    costs: dict[str, float]


class Library(Vectors):
    """Plans as it was told to, and keeps what it was asked."""

    def __init__(self, places: NDArray[np.float64] = PLACES) -> None:
        super().__init__(ITEMS, random_vectors(N, 3))
        self.places = places
        self.asked: list[Mapping[str, Tensor]] = []

    def floor_plan(self, pairs: Mapping[str, Tensor]) -> Plan:
        assert not self.training
        self.asked.append(pairs)
        return Plan(self.places, {"random": 7.5, "by popularity": 5.75, "after swaps": 4.75 - len(self.asked)})


def fit(folder: Path, module: Library, callback: FloorPlan, data: Catalogue, **settings: Any) -> dict[str, float]:
    trainer = quiet_trainer(default_root_dir=folder, callbacks=[callback], num_sanity_val_steps=1, **settings)
    trainer.fit(module, data)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_a_plan_is_logged_drawn_and_written(tmp_path: Path) -> None:
    module = Library()
    logged = fit(tmp_path, module, FloorPlan(), Catalogue(pairs=PAIRS, **SUBJECTS))
    assert module.asked == [PAIRS]
    assert logged == {"val/walking_cost": 3.75, "val/walking_cost_random": 7.5, "val/walking_cost_by_popularity": 5.75}
    with (tmp_path / "media" / "floor_plan.csv").open(encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["item", "subject", "x", "y", "z"]
    assert rows[7] == [ITEMS[7], "poetry", "1.0", "0.0", "1.0"]
    assert [row[0] for row in rows] == ITEMS
    assert np.array_equal(np.array([row[2:] for row in rows], float), PLACES)
    with Image.open(tmp_path / "media" / "floor_plan-step=0000002.png") as picture:
        assert picture.size == (1300, 600)


def test_without_subjects(tmp_path: Path) -> None:
    fit(tmp_path, Library(), FloorPlan(), Catalogue(pairs=PAIRS))
    assert (tmp_path / "media" / "floor_plan.csv").read_text().splitlines()[1].endswith(",,0.0,0.0,0.0")


def test_the_picture_has_the_plan_beside_random_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[Any, ...]] = []
    picture = code.floor_plan_picture
    monkeypatch.setattr(code, "floor_plan_picture", lambda *given: drawn.append(given) or picture(*given))
    fit(tmp_path, Library(), FloorPlan(), Catalogue(pairs=PAIRS, **SUBJECTS), max_epochs=2)
    (positions, shuffled, labels, names, _), (_, again, *_) = drawn
    assert np.array_equal(positions, PLACES)
    assert not np.array_equal(shuffled, PLACES)
    assert np.array_equal(shuffled, again)
    assert sorted(map(tuple, shuffled)) == sorted(map(tuple, PLACES))
    assert (labels == SUBJECTS["labels"].numpy()).all()
    assert names == SUBJECTS["label_names"]


def test_each_subject_has_a_color() -> None:
    labels = SUBJECTS["labels"].numpy()
    picture = code.floor_plan_picture(PLACES, PLACES, labels, SUBJECTS["label_names"], {"the plan": 1.0})
    halves = picture.crop((0, 0, 550, 600)), picture.crop((550, 0, 1100, 600))
    assert [colors(half) for half in halves] == [4, 4]
    one = code.floor_plan_picture(PLACES, PLACES, None, [], {"the plan": 1.0})
    assert colors(one) == 1


@pytest.mark.parametrize(("every", "planned"), [(1, [2, 4, 6, 8]), (2, [4, 8]), (5, [])])
def test_every_so_many_validations(tmp_path: Path, every: int, planned: list[int]) -> None:
    fit(tmp_path, Library(), FloorPlan(every), Catalogue(pairs=PAIRS), max_epochs=4)
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == [f"floor_plan-step={n:07d}.png" for n in planned]


def test_a_resumed_run_goes_on_counting(tmp_path: Path) -> None:
    callback = FloorPlan(3)
    trainer = quiet_trainer(default_root_dir=tmp_path, callbacks=[callback], max_epochs=2)
    trainer.fit(Library(), Catalogue(pairs=PAIRS))
    trainer.save_checkpoint(tmp_path / "c.ckpt")
    trainer = quiet_trainer(default_root_dir=tmp_path, callbacks=[FloorPlan(3)], max_epochs=4)
    trainer.fit(Library(), Catalogue(pairs=PAIRS), ckpt_path=tmp_path / "c.ckpt")
    assert [path.name for path in tmp_path.rglob("*.png")] == ["floor_plan-step=0000006.png"]


def test_validate_always_plans(tmp_path: Path) -> None:
    trainer = quiet_trainer(default_root_dir=tmp_path, callbacks=[FloorPlan(5)])
    (logged,) = trainer.validate(Library(), Catalogue(pairs=PAIRS), verbose=False)
    assert logged["val/walking_cost"] == 3.75


def test_what_cannot_be_planned_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="FloorPlan needs a datamodule with `pairs`, which Catalogue doesn't have"):
        fit(tmp_path, Library(), FloorPlan(), Catalogue())
    with pytest.raises(ValueError, match=r"a plan for 24 items has positions \(24, 3\), got \(24, 2\)"):
        fit(tmp_path, Library(PLACES[:, :2]), FloorPlan(), Catalogue(pairs=PAIRS))
    with pytest.raises(TypeError, match=r"FloorPlan needs a module with floor_plan\(\), which Vectors doesn't"):
        quiet_trainer(callbacks=[FloorPlan()]).fit(Vectors(ITEMS, random_vectors(N, 3)), Catalogue(pairs=PAIRS))
    with pytest.raises(ValueError, match="every_n_validations must be at least 1, got 0"):
        FloorPlan(0)


@pytest.mark.slow
def test_two_processes_log_the_same(tmp_path: Path) -> None:
    trainer = quiet_trainer(default_root_dir=tmp_path, callbacks=[FloorPlan()], devices=2, strategy="ddp_spawn")
    trainer.fit(Library(), Catalogue(pairs=PAIRS, **SUBJECTS))
    assert float(trainer.callback_metrics["val/walking_cost"]) == 3.75
    assert len(list(tmp_path.rglob("*.png"))) == 1
