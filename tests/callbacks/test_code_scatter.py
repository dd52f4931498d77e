from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.colors import rgb_to_hsv
from PIL import Image
from torch import Tensor
from torch.utils.data import TensorDataset

from callbacks import CodeScatter
from callbacks import code_scatter as code
from tests.callbacks.modules import Images, TinyAutoencoder, TinyGAN, lightning_noise, quiet_trainer

pytestmark = lightning_noise


class Corner(TinyAutoencoder):
    """The code of an image is its first two pixels."""

    def encode(self, x: Tensor) -> Tensor:
        return x[:, 0, 0, :2]


class Labeled(Images):
    """Images with the classes 0 to 3 in turn, or none."""

    def __init__(self, labels: bool = True) -> None:
        super().__init__()
        images = self.data.tensors[0]
        self.data = TensorDataset(images, torch.arange(len(images)) % 4) if labels else TensorDataset(images)


def drawn(monkeypatch: pytest.MonkeyPatch, folder: Path, data: Images, num_points: int = 2000) -> Tensor:
    """The rows (x, y, class) that a validation draws."""
    rows: list[Tensor] = []
    scatter = code.scatter
    monkeypatch.setattr(code, "scatter", lambda points: rows.append(points) or scatter(points))
    trainer = quiet_trainer(default_root_dir=folder, callbacks=[CodeScatter(num_points)])
    trainer.validate(Corner(), data, verbose=False)
    return rows[0]


def colors(picture: Image.Image) -> int:
    """Number of hues in a picture that cover at least 20 pixels; transparent points have many shades of one."""
    pixels = np.asarray(picture).reshape(-1, 3).astype(int)
    hues = rgb_to_hsv(pixels[np.ptp(pixels, axis=1) > 60] / 255)[:, 0]
    return int((np.histogram(hues, bins=20, range=(-0.025, 0.975))[0] >= 20).sum())


@pytest.mark.parametrize("labels", [True, False])
def test_the_codes_of_the_first_images_are_drawn_with_their_classes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, labels: bool
) -> None:
    data = Labeled(labels)
    rows = drawn(monkeypatch, tmp_path, data, num_points=10)
    images, *classes = (tensor[:10] for tensor in data.data.tensors)
    assert torch.equal(rows[:, :2], images[:, 0, 0, :2])
    assert rows[:, 2].tolist() == (classes[0].tolist() if labels else [-1] * 10)
    assert [path.name for path in tmp_path.rglob("*.png")] == ["codes-step=0000000.png"]


def test_all_validation_images_if_there_are_no_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert len(drawn(monkeypatch, tmp_path, Labeled())) == 32


def points(classes: int) -> Tensor:
    place = torch.arange(400)
    return torch.stack([place % 20 / 10 - 1, place // 20 / 10 - 1, place % classes], dim=1)


def test_each_class_has_a_color_and_one_class_needs_no_legend() -> None:
    assert colors(code.scatter(points(1))) == 1
    assert colors(code.scatter(points(4))) == 4
    assert code.scatter(points(40)).size == (600, 600)


def test_points_lie_where_their_codes_are_and_circles_around_the_origin() -> None:
    picture = np.asarray(code.scatter(torch.tensor([[3.0, 3.0, 0.0], [torch.nan, 0.0, 0.0]]))).astype(int)
    y, x = np.argwhere(np.ptp(picture, axis=2) > 60).mean(axis=0)
    # Everything between the axes' spines, whose corners are the outermost black pixels.
    black = np.argwhere(picture.max(axis=2) < 30)
    (top, _), (bottom, _) = black.min(axis=0), black.max(axis=0)
    right = black[:, 1].max()
    pixel = (bottom - top) / (2 * 3.15)
    assert right - x == pytest.approx(0.15 * pixel, abs=4)
    assert y - top == pytest.approx(0.15 * pixel, abs=4)
    gray = np.argwhere((np.ptp(picture, axis=2) == 0) & (picture[..., 0] > 90) & (picture[..., 0] < 200))
    center = np.array([(top + bottom) / 2, right - (bottom - top) / 2])
    radii = np.linalg.norm(gray - center, axis=1) / pixel
    for radius in (1, 2, 3):
        assert (abs(radii - radius) < 0.03).sum() > 50 * radius
        assert (abs(radii - radius + 0.5) < 0.03).sum() == 0


def test_pyplot_is_left_alone(tmp_path: Path) -> None:
    quiet_trainer(default_root_dir=tmp_path, callbacks=[CodeScatter()]).validate(Corner(), Images(), verbose=False)
    assert pyplot.get_fignums() == []


def test_every_n_steps_and_at_validations(tmp_path: Path) -> None:
    for every_n_steps, steps in ((None, [8, 16]), (5, [5, 10, 15])):
        folder = tmp_path / str(every_n_steps)
        trainer = quiet_trainer(default_root_dir=folder, max_epochs=2, callbacks=[CodeScatter(8, every_n_steps)])
        trainer.fit(TinyAutoencoder(), Images())
        assert sorted(path.name for path in folder.rglob("*.png")) == [f"codes-step={n:07d}.png" for n in steps]


@pytest.mark.slow
def test_only_rank_0_of_two_processes_draws(tmp_path: Path) -> None:
    trainer = quiet_trainer(default_root_dir=tmp_path, callbacks=[CodeScatter()], devices=2, strategy="ddp_spawn")
    trainer.validate(TinyAutoencoder(), Images(), verbose=False)
    assert len(list(tmp_path.rglob("*.png"))) == 1


def test_other_dimensions_are_named(tmp_path: Path) -> None:
    trainer = quiet_trainer(default_root_dir=tmp_path, callbacks=[CodeScatter()])
    with pytest.raises(ValueError, match=r"TinyAutoencoder have dimension 5: leave .* or set latent_dim=2"):
        trainer.validate(TinyAutoencoder(5), Images(), verbose=False)


@pytest.mark.parametrize("arguments", [{"num_points": 0}, {"every_n_steps": 0}])
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        CodeScatter(**arguments)


def test_a_module_without_encoder_is_named() -> None:
    with pytest.raises(TypeError, match=r"CodeScatter needs a module with encode\(\), which TinyGAN"):
        quiet_trainer(callbacks=[CodeScatter()]).fit(TinyGAN(), Images())
