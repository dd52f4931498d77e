"""A checkpoint fits a model whose tables are not made yet, if all that is known of them agrees."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule

from runner.compatibility import check_checkpoint
from runner.errors import UserError


class Table(LightningModule):
    """A table of vectors, of which the number may not be known yet."""

    def __init__(self, rows: int, dim: int) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.zeros(rows, dim))


@pytest.mark.parametrize(("rows", "dim", "fits"), [(0, 3, True), (5, 3, True), (4, 3, False), (0, 2, False)])
def test_an_empty_dimension_takes_any_size(rows: int, dim: int, fits: bool, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": Table(5, 3).state_dict()}, path)
    if fits:
        check_checkpoint(path, Table(rows, dim))
    else:
        with pytest.raises(UserError, match=rf"table is \(5, 3\) there and \({rows}, {dim}\) here"):
            check_checkpoint(path, Table(rows, dim))


class Rebuilt(LightningModule):
    """A module that makes one of its two tables as a checkpoint has it."""

    rebuilt_on_load = ("rebuilt",)

    def __init__(self, rebuilt: LightningModule | None, kept: int) -> None:
        super().__init__()
        self.kept = Table(kept, 3)
        if rebuilt is not None:
            self.rebuilt = rebuilt


def test_what_is_rebuilt_from_the_checkpoint_takes_any(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": Rebuilt(Table(5, 3), 2).state_dict()}, path)
    check_checkpoint(path, Rebuilt(Table(4, 2), 2))
    check_checkpoint(path, Rebuilt(None, 2))
    with pytest.raises(UserError, match=r"kept.table is \(2, 3\) there and \(1, 3\) here"):
        check_checkpoint(path, Rebuilt(Table(5, 3), 1))
