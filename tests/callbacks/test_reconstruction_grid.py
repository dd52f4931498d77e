from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from callbacks import ExponentialMovingAverage, ReconstructionGrid
from callbacks.image_grid import tile
from tests.callbacks.modules import (
    IdentityAutoencoder,
    Images,
    TinyAutoencoder,
    TinyGAN,
    lightning_noise,
    quiet_trainer,
)
from tests.callbacks.test_image_grid import LikeWandb

pytestmark = lightning_noise


class Recording(TinyAutoencoder):
    """Notes the weights with which it decodes, and how many images it encodes, outside of training."""

    weight = torch.empty(0)
    encoded = 0

    def encode(self, x: Tensor) -> Tensor:
        self.encoded += 0 if torch.is_grad_enabled() else len(x)
        return super().encode(x)

    def decode(self, z: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            assert not self.training
            self.weight = self.decoder[0].weight.clone()  # type: ignore[union-attr]
        return super().decode(z)


def pixels(path: Path) -> Tensor:
    """A picture of images (rows, columns, 8, 8) with gaps, in [-1, 1]."""
    shown = torch.from_numpy(np.asarray(Image.open(path)).copy()) / 127.5 - 1
    return torch.nn.functional.pad(shown, (0, 1, 0, 1)).unfold(0, 8, 9).unfold(1, 8, 9)


def fit(
    folder: Path,
    callbacks: list[pl.Callback],
    dropout: float = 0.5,
    ckpt_path: Path | None = None,
    **arguments: Any,
) -> Recording:
    torch.manual_seed(0)
    module = Recording()
    module.encoder[2].p = dropout  # type: ignore[assignment]
    trainer = quiet_trainer(default_root_dir=folder, callbacks=callbacks, **({"max_epochs": 2} | arguments))
    trainer.fit(module, Images(), ckpt_path=ckpt_path)
    return module


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "media").iterdir())


def test_an_identity_shows_the_first_images_twice_and_straight_lines(tmp_path: Path) -> None:
    data = Images()
    # Two images a batch: six images are read from three batches.
    data.batch_size = 2
    trainer = quiet_trainer(default_root_dir=tmp_path, callbacks=[ReconstructionGrid(3, 5)])
    trainer.validate(IdentityAutoencoder(), data, verbose=False)
    assert names(tmp_path) == ["interpolations-step=0000000.png", "reconstructions-step=0000000.png"]
    images = data.data.tensors[0][:6, 0]
    interpolations, rows = (pixels(tmp_path / "media" / name) for name in names(tmp_path))
    assert rows.shape == (4, 3, 8, 8)
    expected = torch.stack([images[:3], images[:3], images[3:], images[3:]])
    assert (rows - expected).abs().max() < 0.005
    assert interpolations.shape == (3, 5, 8, 8)
    for column in range(5):
        between = images[:3] * (1 - column / 4) + images[3:] * column / 4
        assert (interpolations[:, column] - between).abs().max() < 0.005


def test_interpolations_end_at_the_reconstructions(tmp_path: Path) -> None:
    module = fit(tmp_path, [ReconstructionGrid(2, 3)], max_epochs=1)
    assert module.encoded == 4, "once for both pictures"
    interpolations, rows = (pixels(tmp_path / "media" / name) for name in names(tmp_path))
    assert (interpolations[:, 0] - rows[1]).abs().max() < 0.009
    assert (interpolations[:, -1] - rows[3]).abs().max() < 0.009
    assert (rows[1] - rows[0]).abs().max() > 0.1
    with torch.no_grad():
        reconstructed = module.eval().reconstruct(Images().data.tensors[0][:2])
    assert (rows[1] - reconstructed[:, 0]).abs().max() < 0.005


def test_pictures_at_each_validation_of_the_same_images(tmp_path: Path) -> None:
    logger = LikeWandb()
    fit(tmp_path, [ReconstructionGrid(2, 3)], num_sanity_val_steps=1, logger=logger)
    steps = ("0000008", "0000016")
    assert names(tmp_path) == [f"{key}-step={n}.png" for key in ("interpolations", "reconstructions") for n in steps]
    first, second = (pixels(tmp_path / "media" / f"reconstructions-step={n}.png") for n in steps)
    assert torch.equal(first[::2], second[::2])
    assert not torch.equal(first[1::2], second[1::2])
    assert logger.pictures == [
        (key, step, size)
        for step in (8, 16)
        for key, size in (("reconstructions", (17, 35)), ("interpolations", (26, 17)))
    ]


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_a_resumed_run_draws_what_an_unbroken_one_draws(tmp_path: Path) -> None:
    grid = {"pairs": 2, "steps": 3, "every_n_steps": 5}
    checkpoint = ModelCheckpoint(tmp_path / "checkpoints", filename="half")
    fit(tmp_path / "unbroken", [ReconstructionGrid(**grid)], dropout=0)
    fit(tmp_path / "half", [ReconstructionGrid(**grid), checkpoint], dropout=0, max_epochs=1, enable_checkpointing=True)
    fit(tmp_path / "half", [ReconstructionGrid(**grid)], dropout=0, ckpt_path=tmp_path / "checkpoints" / "half.ckpt")
    assert len(names(tmp_path / "half")) == 6
    assert names(tmp_path / "half") == names(tmp_path / "unbroken")
    for name in names(tmp_path / "half"):
        unbroken, resumed = (pixels(tmp_path / run / "media" / name) for run in ("unbroken", "half"))
        assert torch.equal(unbroken, resumed)


@pytest.mark.filterwarnings("ignore:Your `val_dataloader`'s sampler has shuffling enabled")
def test_training_is_left_as_it_was(tmp_path: Path) -> None:
    # A shuffled loader draws its order from the global random state.
    class Shuffled(Images):
        def val_dataloader(self) -> DataLoader:
            return DataLoader(self.data, batch_size=4, shuffle=True)

    found = []
    for callbacks in ([ReconstructionGrid(2, 2, every_n_steps=2)], []):
        torch.manual_seed(0)
        module = TinyAutoencoder()
        trainer = quiet_trainer(default_root_dir=tmp_path, callbacks=callbacks, limit_val_batches=1)
        trainer.fit(module, Shuffled())
        found.append(module)
    for a, b in zip(found[0].parameters(), found[1].parameters(), strict=True):
        assert torch.equal(a, b)
    assert found[0].encoder.training
    shown = [pixels(path)[::2] for path in (tmp_path / "media").glob("reconstructions*")]
    assert len(shown) == 4
    assert all(torch.equal(picture, shown[0]) for picture in shown)


@pytest.mark.parametrize("every_n_steps", [None, 4])
def test_averaged_weights_are_used(tmp_path: Path, every_n_steps: int | None) -> None:
    ema, grid = ExponentialMovingAverage("decoder", 0.9), ReconstructionGrid(1, 2, every_n_steps)
    module = fit(tmp_path, [grid, ema], max_epochs=1)
    assert torch.equal(module.weight, ema.state_dict()["average"]["0.weight"])


@pytest.mark.parametrize(("images", "files"), [(5, 2), (1, 0)])
def test_few_validation_images_make_few_pairs(tmp_path: Path, images: int, files: int) -> None:
    trainer = quiet_trainer(default_root_dir=tmp_path, callbacks=[ReconstructionGrid()])
    trainer.validate(IdentityAutoencoder(), Images(n=images), verbose=False)
    pictures = sorted(tmp_path.rglob("*.png"))
    assert len(pictures) == files
    if files:
        assert pixels(pictures[1]).shape[:2] == (4, 2)


def test_nothing_is_drawn_without_validation(tmp_path: Path) -> None:
    fit(tmp_path, [ReconstructionGrid(every_n_steps=2)], limit_val_batches=0, max_epochs=1)
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.slow
def test_only_rank_0_of_two_processes_draws(tmp_path: Path) -> None:
    trainer = quiet_trainer(
        default_root_dir=tmp_path,
        callbacks=[ReconstructionGrid(2, 2)],
        devices=2,
        strategy="ddp_spawn",
        logger=CSVLogger(tmp_path),
    )
    data = Images()
    trainer.validate(IdentityAutoencoder(), data, verbose=False)
    (picture,) = tmp_path.rglob("reconstructions*.png")
    assert len(list(tmp_path.rglob("*.png"))) == 2
    # Lightning's sampler gives process 0 every other image.
    expected = tile(data.data.tensors[0][[0, 2, 0, 2, 4, 6, 4, 6]], 2)
    assert np.array_equal(np.asarray(Image.open(picture)), np.asarray(expected))


def test_users_mistakes_are_named() -> None:
    with pytest.raises(TypeError, match=r"ReconstructionGrid needs .* encode\(\), which TinyGAN doesn't have"):
        quiet_trainer(callbacks=[ReconstructionGrid()]).fit(TinyGAN(), Images())
    for arguments in ({"pairs": 0}, {"steps": 1}, {"every_n_steps": 0}, {"value_range": (1.0, 0.0)}):
        with pytest.raises(ValueError, match=r"at least|low < high"):
            ReconstructionGrid(**arguments)  # type: ignore[arg-type]
