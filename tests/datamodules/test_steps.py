import pytest
import torch

from datamodules import StepsDataModule
from datamodules.loading import TensorLoader


def numbers(loader: TensorLoader) -> list[list[int]]:
    return [batch[0].tolist() for batch in loader]


def test_batches_hold_their_numbers() -> None:
    data = StepsDataModule(3)
    assert numbers(data.train_dataloader()) == [[0], [1], [2]]
    assert len(data.train_dataloader()) == 3
    for loader in data.val_dataloader(), data.test_dataloader(), data.predict_dataloader():
        assert numbers(loader) == [[0]]


def test_it_goes_on_in_the_middle() -> None:
    loader = StepsDataModule(3).train_dataloader()
    batches = iter(loader)
    next(batches)
    resumed = StepsDataModule(3).train_dataloader()
    resumed.load_state_dict(loader.state_dict())
    assert numbers(resumed) == [[1], [2]]


def test_each_process_gets_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch.distributed, "is_initialized", lambda: True)
        patch.setattr(torch.distributed, "get_world_size", lambda: 2)
        patch.setattr(torch.distributed, "get_rank", lambda: 1)
        assert numbers(StepsDataModule(3).train_dataloader()) == [[1], [3], [5]]


def test_no_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="steps_per_epoch=0 must be at least 1"):
        StepsDataModule(0)
