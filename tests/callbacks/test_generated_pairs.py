"""Tables of what a module asks."""

import csv
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn

from callbacks import ExponentialMovingAverage, GeneratedPairs
from tests.callbacks.modules import TinyGAN, lightning_noise, quiet_trainer

pytestmark = lightning_noise


class Asking(pl.LightningModule):
    """Asks about the letters of a passage, as many as it has; scores tell the weight, the mode and the random state."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))

    def ask(self, passage: list[str], n: int = 4, seed: int = 0) -> list[list[SimpleNamespace]]:
        assert not self.training
        score = float(self.weight) + float(torch.rand(())) + seed
        return [[SimpleNamespace(question=f"{c}?", answer=c, score=score) for c in text[:n]] for text in passage]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return 0 * self.weight

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class Records:
    """A loader of batches of passages."""

    def __init__(self, *batches: list[str]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for passages in self.batches:
            yield {"records": [SimpleNamespace(passage=passage) for passage in passages]}

    def __len__(self) -> int:
        return len(self.batches)


VALIDATION = Records(["泼水节", "泼水节", ""], ["abcdef"], ["g"])


def tables(folder: Path) -> list[list[list[str]]]:
    found = []
    for path in sorted((folder / "media").glob("pairs-step=*.csv")):
        with path.open(encoding="utf-8") as file:
            found.append(list(csv.reader(file)))
    return found


def validate(folder: Path, *callbacks: pl.Callback, loader: Any = VALIDATION) -> list[list[str]]:
    trainer = quiet_trainer(default_root_dir=folder, callbacks=list(callbacks))
    trainer.validate(Asking(), loader, verbose=False)
    return tables(folder)[-1]


def test_the_first_passages_of_the_validation(tmp_path: Path) -> None:
    header, *rows = validate(tmp_path, GeneratedPairs(num_passages=3, n=2))
    assert header == ["passage", "question", "answer", "score"]
    assert [row[:3] for row in rows] == [
        ["泼水节", "泼?", "泼"],
        ["泼水节", "水?", "水"],
        ["", "", ""],
        ["abcdef", "a?", "a"],
        ["abcdef", "b?", "b"],
    ]


def test_passages_of_ones_own(tmp_path: Path) -> None:
    rows = validate(tmp_path, GeneratedPairs(["xy"], num_passages=1, n=9), loader=Records([]))
    assert [row[:3] for row in rows[1:]] == [["xy", "x?", "x"], ["xy", "y?", "y"]]


def test_no_trace_in_the_random_state_and_the_same_table_again(tmp_path: Path) -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = validate(tmp_path, GeneratedPairs(seed=5))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(4)
    assert validate(tmp_path, GeneratedPairs(seed=5)) == first
    assert validate(tmp_path, GeneratedPairs(seed=6)) != first


def test_averaged_weights(tmp_path: Path) -> None:
    average = ExponentialMovingAverage("")
    average.load_state_dict({"average": {"weight": torch.tensor(9.0)}, "steps": 1, "updates": 1})
    raw, averaged = validate(tmp_path, GeneratedPairs())[1], validate(tmp_path, average, GeneratedPairs())[1]
    assert float(averaged[3]) == pytest.approx(float(raw[3]) + 8)


def test_one_table_for_each_validation(tmp_path: Path) -> None:
    trainer = quiet_trainer(
        default_root_dir=tmp_path, callbacks=[GeneratedPairs(num_passages=1)], max_epochs=2, num_sanity_val_steps=1
    )
    model = Asking()
    trainer.fit(model, Records(["a"], ["b"]), VALIDATION)
    assert [path.name for path in sorted((tmp_path / "media").iterdir())] == [
        "pairs-step=0000002.csv",
        "pairs-step=0000004.csv",
    ]
    assert model.training
    assert {row[0] for table in tables(tmp_path) for row in table[1:]} == {"泼水节"}


@pytest.mark.parametrize("loader", [Records([]), [torch.zeros(1)], [{"records": [1]}]])
def test_batches_without_passages_are_refused(tmp_path: Path, loader: Any) -> None:
    with pytest.raises(ValueError, match="batches have no records with a passage: name passages"):
        validate(tmp_path, GeneratedPairs(), loader=loader)


def test_modules_that_cannot_ask_are_refused(tmp_path: Path) -> None:
    trainer = quiet_trainer(default_root_dir=tmp_path, callbacks=[GeneratedPairs()])
    with pytest.raises(TypeError, match=r"GeneratedPairs needs a module with ask\(\), which TinyGAN doesn't have"):
        trainer.validate(TinyGAN(), VALIDATION, verbose=False)


@pytest.mark.parametrize("arguments", [{"n": 0}, {"num_passages": 0}, {"passages": []}])
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must (be at least 1|have one at least)"):
        GeneratedPairs(**arguments)
