from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from PIL import Image
from torch import Tensor

from callbacks import FlowPicture
from callbacks.flow_picture import flow_picture
from tests.callbacks.modules import Images, TinyClassifier, TinyGAN, lightning_noise, quiet_trainer

pytestmark = lightning_noise


class Moving(TinyClassifier):
    """Says at each step where it is, knowing nothing of litspaces."""

    def flow_point(self) -> dict[str, Any] | None:
        step = self.global_step - 1
        return None if step < 0 else made_up(step)


def made_up(step: int, **more: Any) -> dict[str, Any]:
    slope = {"dloss_dt": -1.0, "dloss_dt_predicted": -1.1}
    return {"step": step, "time": 0.1 * step, "loss": float(np.exp(-0.1 * step)), **slope, **more}


def trained(folder: Path, callback: FlowPicture, **settings: Any) -> pl.Trainer:
    trainer = quiet_trainer(**({"default_root_dir": folder, "max_epochs": 1, "callbacks": [callback]} | settings))
    trainer.fit(Moving(), Images(), ckpt_path=settings.get("ckpt_path"))
    return trainer


def steps(callback: FlowPicture) -> list[int]:
    return [point["step"] for point in callback.state_dict()["points"]]


def test_every_step_is_kept_and_drawn_after_validations(tmp_path: Path) -> None:
    callback = FlowPicture()
    trained(tmp_path, callback)
    assert steps(callback) == list(range(8))
    assert [path.name for path in tmp_path.rglob("*.png")] == ["flow-step=0000008.png"]
    assert pyplot.get_fignums() == []


def test_every_n_steps(tmp_path: Path) -> None:
    trained(tmp_path, FlowPicture(every_n_steps=3))
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == [f"flow-step={n:07d}.png" for n in (3, 6)]


def test_a_long_history_is_thinned_out(tmp_path: Path) -> None:
    callback = FlowPicture(max_points=3)
    trained(tmp_path, callback)
    assert steps(callback) == [0, 4]
    assert callback.state_dict()["stride"] == 4


def test_the_history_is_in_the_checkpoint_and_a_new_run_begins_anew(tmp_path: Path) -> None:
    trainer = trained(tmp_path, FlowPicture())
    trainer.save_checkpoint(tmp_path / "8.ckpt", weights_only=False)
    state = torch.load(tmp_path / "8.ckpt", weights_only=True)["callbacks"]["FlowPicture"]
    assert [point["step"] for point in state["points"]] == list(range(8))
    resumed = FlowPicture()
    trainer = quiet_trainer(default_root_dir=tmp_path, max_epochs=2, callbacks=[resumed])
    trainer.fit(Moving(), Images(), ckpt_path=tmp_path / "8.ckpt")
    assert steps(resumed) == list(range(16))
    quiet_trainer(default_root_dir=tmp_path, max_epochs=1, callbacks=[resumed]).fit(Moving(), Images())
    assert steps(resumed) == list(range(8))


def test_a_step_that_is_not_measured_is_not_kept_twice(tmp_path: Path) -> None:
    class Seldom(Moving):
        def flow_point(self) -> dict[str, Any] | None:
            return made_up(4) if self.global_step > 4 else None

    callback = FlowPicture()
    quiet_trainer(default_root_dir=tmp_path, max_epochs=1, callbacks=[callback]).fit(Seldom(), Images())
    assert steps(callback) == [4]


def test_nothing_is_drawn_before_the_first_step(tmp_path: Path) -> None:
    trainer = quiet_trainer(default_root_dir=tmp_path, callbacks=[FlowPicture()])
    trainer.validate(Moving(), Images(), verbose=False)
    assert not list(tmp_path.rglob("*.png"))


def hues(picture: Image.Image) -> set[tuple[int, int, int]]:
    """The colors of matplotlib's C0, C1 and C2 that are in a picture."""
    pixels = {tuple(pixel) for pixel in np.asarray(picture).reshape(-1, 3).tolist()}
    return pixels & {(31, 119, 180), (255, 127, 14), (44, 160, 44)}


def test_panels() -> None:
    plain = [made_up(step) for step in range(20)]
    without = flow_picture(plain)
    assert without.size == (700, 500)
    assert len(hues(without)) == 3
    with_theta = flow_picture([point | {"theta": [1.0, float(point["step"])]} for point in plain])
    assert with_theta.size == (700, 750)
    exact = flow_picture([point | {"theta": [1.0], "ode_theta": [2.0], "ode_loss": 0.5} for point in plain])
    assert exact.size == (700, 750)
    assert exact.tobytes() != with_theta.tobytes()


def test_a_loss_that_is_not_positive_and_one_point() -> None:
    assert flow_picture([made_up(0) | {"loss": -1.0}]).size == (700, 500)


@pytest.mark.parametrize(("arguments", "least"), [({"max_points": 1}, 2), ({"every_n_steps": 0}, 1)])
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], least: int) -> None:
    with pytest.raises(ValueError, match=f"at least {least}"):
        FlowPicture(**arguments)


def test_a_module_that_does_not_measure_is_named(tmp_path: Path) -> None:
    trainer = quiet_trainer(default_root_dir=tmp_path, callbacks=[FlowPicture()])
    with pytest.raises(TypeError, match=r"FlowPicture needs a module with flow_point\(\), which TinyGAN"):
        trainer.fit(TinyGAN(), Images())


def test_drawing_leaves_the_module_alone(tmp_path: Path) -> None:
    states: list[dict[str, Tensor]] = []
    for callbacks in [], [FlowPicture(every_n_steps=1)]:
        torch.manual_seed(0)
        module = Moving()
        quiet_trainer(default_root_dir=tmp_path, max_epochs=1, callbacks=callbacks).fit(module, Images())
        states.append(module.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
