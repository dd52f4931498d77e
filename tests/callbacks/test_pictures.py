import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from callbacks import CodeScatter, ReconstructionGrid
from callbacks.pictures import Pictures, validation_batches
from tests.callbacks.modules import Images, TinyAutoencoder, TinyClassifier, lightning_noise, quiet_trainer

pytestmark = lightning_noise


class Noting(Pictures):
    """Draws nothing, but notes the images it would."""

    def __init__(self, every_n_steps: int | None = None) -> None:
        super().__init__(every_n_steps)
        self.images: list[Tensor] = []

    def draw(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Image.Image]:
        self.images.append(torch.cat([batch[0] for batch in validation_batches(trainer)]))
        return {}


class Negative(Images):
    """Makes negatives of the images on the device."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [-batch[0], batch[1]]


@pytest.mark.parametrize("every_n_steps", [None, 4])
def test_batches_go_through_the_datamodules_transfer_hooks(tmp_path: Path, every_n_steps: int | None) -> None:
    noting, data = Noting(every_n_steps), Negative()
    quiet_trainer(default_root_dir=tmp_path, callbacks=[noting]).fit(TinyClassifier(), data)
    assert len(noting.images) == (1 if every_n_steps is None else 2)
    for images in noting.images:
        assert torch.equal(images, -data.data.tensors[0])


def test_batches_are_those_of_the_first_loader(tmp_path: Path) -> None:
    class Two(Images):
        def val_dataloader(self) -> Any:
            return [DataLoader(self.data, batch_size=8), DataLoader(self.data, batch_size=4)]

    noting, data = Noting(), Two()
    quiet_trainer(default_root_dir=tmp_path, callbacks=[noting]).validate(TinyTwoLoaders(), data, verbose=False)
    assert torch.equal(noting.images[0], data.data.tensors[0])


class TinyTwoLoaders(TinyClassifier):
    """Validated on several loaders."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        pass


class NoteError(pl.Callback):
    """Writes what a process gets to hear of a picture into a file, and waits for the others to do so too."""

    def __init__(self, picture: Pictures, folder: Path) -> None:
        self.picture, self.folder = picture, folder

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        try:
            self.picture.on_validation_epoch_end(trainer, pl_module)
        except ValueError as error:
            (self.folder / f"{trainer.global_rank}.txt").write_text(str(error))
            dist.monitored_barrier(timeout=timedelta(seconds=20))
            raise


class Named(Images):
    """Batches that callbacks don't know for images."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return {"images": batch[0]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("picture", "data", "message"),
    [
        (CodeScatter, Images, "CodeScatter draws codes of dimension 2, those of TinyAutoencoder have dimension 5"),
        (ReconstructionGrid, Named, "ReconstructionGrid takes batches .* got dict"),
    ],
)
def test_what_cannot_be_drawn_stops_all_processes(
    tmp_path: Path, picture: Callable[[], Pictures], data: type[Images], message: str
) -> None:
    callbacks = [NoteError(picture(), tmp_path)]
    trainer = quiet_trainer(default_root_dir=tmp_path, callbacks=callbacks, devices=2, strategy="ddp_spawn")
    with pytest.raises(Exception, match=message):
        trainer.validate(TinyAutoencoder(5), data(), verbose=False)
    first, second = ((tmp_path / f"{rank}.txt").read_text() for rank in range(2))
    assert re.match(message, first)
    assert first == second
