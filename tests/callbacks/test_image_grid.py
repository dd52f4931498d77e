from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from PIL import Image
from torch import Tensor

from callbacks import ExponentialMovingAverage, ImageGrid
from callbacks.image_grid import tile
from tests.callbacks.modules import Images, TinyClassifier, TinyGAN, lightning_noise, quiet_trainer

pytestmark = lightning_noise


class Recording(TinyGAN):
    """Notes each decoding: the latents, the images, the generator's mode and weights."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[dict[str, Any]] = []

    def decode(self, z: Tensor) -> Tensor:
        images = super().decode(z)
        if not torch.is_grad_enabled():
            self.calls.append(
                {
                    "step": self.global_step,
                    "z": z,
                    "images": images,
                    "training": self.generator.training,
                    "weight": self.generator.state_dict()["0.weight"].clone(),
                }
            )
        return images


class FakeLogger(Logger):
    """A logger without pictures; the subclasses take them in one way each."""

    name, version = "fake", 0

    def __init__(self) -> None:
        super().__init__()
        self.pictures: list[tuple[str, int, tuple[int, int]]] = []

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        pass

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass


class LikeWandb(FakeLogger):
    def log_image(self, key: str, images: list[Image.Image], step: int) -> None:
        self.pictures.append((key, step, images[0].size))


class LikeTensorBoard(FakeLogger):
    @property
    def experiment(self) -> Any:
        return self

    def add_image(self, tag: str, image: np.ndarray, global_step: int, dataformats: str) -> None:
        assert dataformats == "HWC"
        self.pictures.append((tag, global_step, (image.shape[1], image.shape[0])))


def fit(tmp_path: Path, callbacks: list[pl.Callback], **arguments: Any) -> Recording:
    torch.manual_seed(0)
    module = Recording()
    trainer = quiet_trainer(default_root_dir=tmp_path, callbacks=callbacks, **({"max_epochs": 2} | arguments))
    trainer.fit(module, Images())
    return module


def test_pictures_at_each_validation_of_the_same_latents(tmp_path: Path) -> None:
    module = fit(tmp_path, [ImageGrid(2, 3)], num_sanity_val_steps=1)
    # 8 batches an epoch, two optimizers: Lightning alone would count two steps a batch.
    names = sorted(path.name for path in (tmp_path / "media").iterdir())
    assert names == ["samples-step=0000016.png", "samples-step=0000032.png"]
    first, second = module.calls
    assert torch.equal(first["z"], second["z"])
    assert not first["training"]
    assert not torch.equal(first["images"], second["images"])
    picture = Image.open(tmp_path / "media" / names[1])
    assert picture.size == (3 * 9 - 1, 2 * 9 - 1)
    assert picture.mode == "L"
    shown = torch.from_numpy(np.asarray(picture).copy())[:8, :8]
    assert (shown / 127.5 - 1 - second["images"][0, 0]).abs().max() < 0.005


def test_same_latents_whatever_the_global_random_state(tmp_path: Path) -> None:
    one = fit(tmp_path, [ImageGrid(2, 2)])
    torch.manual_seed(77)
    module = Recording()
    quiet_trainer(default_root_dir=tmp_path, callbacks=[ImageGrid(2, 2)]).validate(module, Images(), verbose=False)
    assert torch.equal(one.calls[0]["z"], module.calls[0]["z"])
    assert not torch.equal(fit(tmp_path, [ImageGrid(2, 2, seed=1)]).calls[0]["z"], one.calls[0]["z"])


def test_training_is_left_as_it_was(tmp_path: Path) -> None:
    with_pictures = fit(tmp_path, [ImageGrid(2, 2, every_n_steps=2)])
    without = fit(tmp_path, [])
    for a, b in zip(with_pictures.parameters(), without.parameters(), strict=True):
        assert torch.equal(a, b)
    assert with_pictures.generator.training


@pytest.mark.parametrize("every_n_steps", [None, 4])
@pytest.mark.parametrize("ema_first", [True, False])
def test_averaged_weights_are_used(tmp_path: Path, every_n_steps: int | None, ema_first: bool) -> None:
    ema, grid = ExponentialMovingAverage("generator", 0.9), ImageGrid(1, 1, every_n_steps=every_n_steps)
    module = fit(tmp_path, [ema, grid] if ema_first else [grid, ema], max_epochs=1)
    assert torch.equal(module.calls[-1]["weight"], ema.state_dict()["average"]["0.weight"])
    assert not torch.equal(module.generator.state_dict()["0.weight"], module.calls[-1]["weight"])


def test_every_n_steps(tmp_path: Path) -> None:
    module = fit(tmp_path, [ImageGrid(1, 1, every_n_steps=5)], max_epochs=1)
    # The step moves by 2: the first ones at or after 5, 10 and 15.
    assert [call["step"] for call in module.calls] == [6, 10, 16]


def test_loggers_that_take_pictures_get_them(tmp_path: Path) -> None:
    loggers = [FakeLogger(), LikeWandb(), LikeTensorBoard()]
    fit(tmp_path, [ImageGrid(2, 3)], logger=loggers, max_epochs=1)
    assert [logger.pictures for logger in loggers] == [
        [],
        [("samples", 16, (26, 17))],
        [("samples", 16, (26, 17))],
    ]


@pytest.mark.slow
def test_wandb_keeps_a_picture_of_a_lower_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # `wandb.log(..., step=lower)` is dropped without an error.
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(save_dir=tmp_path, offline=True)
    logger.experiment.log({"x": 1}, step=1000)
    fit(tmp_path, [ImageGrid(2, 3)], logger=logger, max_epochs=1)
    assert logger.experiment.summary["samples"]["count"] == 1
    logger.experiment.finish()


class Tells(TinyGAN):
    """Leaves a file for each process that decodes."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def decode(self, z: Tensor) -> Tensor:
        (self.folder / f"decoded by {self.global_rank}").touch()
        return super().decode(z)


@pytest.mark.slow
def test_only_rank_0_of_two_processes_draws(tmp_path: Path) -> None:
    trainer = quiet_trainer(
        default_root_dir=tmp_path,
        callbacks=[ImageGrid(2, 2)],
        devices=2,
        strategy="ddp_spawn",
        logger=CSVLogger(tmp_path),
    )
    trainer.validate(Tells(tmp_path), Images(), verbose=False)
    assert [path.name for path in tmp_path.glob("decoded*")] == ["decoded by 0"]
    assert len(list(tmp_path.rglob("*.png"))) == 1


def test_module_without_decoder_is_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"ImageGrid needs .* latents\(\).* TinyClassifier doesn't have"):
        quiet_trainer(callbacks=[ImageGrid()]).fit(TinyClassifier(), Images())


def test_tile_places_images_row_by_row() -> None:
    images = torch.linspace(-1, 1, 6).view(6, 1, 1, 1)
    assert np.asarray(tile(images, 3))[::2, ::2].tolist() == [[0, 51, 102], [153, 204, 255]]
    colors = torch.tensor([[1.0, -1.0, 0.0]]).view(1, 3, 1, 1)
    assert np.asarray(tile(colors, 1)).tolist() == [[[255, 0, 128]]]
    assert np.asarray(tile(torch.full((1, 1, 1, 1), torch.nan), 1)).item() == 0
    assert np.asarray(tile(torch.full((1, 1, 1, 1), 0.5), 1, (0.0, 1.0))).item() == 128
    with pytest.raises(ValueError, match=r"got \(5, 1, 2, 2\)"):
        tile(torch.zeros(5, 1, 2, 2), 3)


@pytest.mark.parametrize("arguments", [{"rows": 0}, {"every_n_steps": 0}, {"value_range": (1.0, 0.0)}])
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"at least 1|low < high"):
        ImageGrid(**arguments)
