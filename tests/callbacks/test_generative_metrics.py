from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar, TQDMProgressBar
from torch import Tensor, nn

from callbacks import ExponentialMovingAverage, GenerativeMetrics, KerasProgressBar
from callbacks.feature_metrics import METRICS, FeatureMetrics
from callbacks.non_finite_guard import NonFiniteError
from tests.callbacks.modules import (
    Flatten,
    Images,
    ImagesWithReference,
    TinyClassifier,
    TinyGAN,
    lightning_noise,
    quiet_trainer,
)
from tests.callbacks.terminal import FakeTerminal, attach, screen

pytestmark = lightning_noise

NAMES = [f"val/{name}" for name in METRICS]


class Recording(TinyGAN):
    """Notes the samples it gives and the weights they come from."""

    def __init__(self) -> None:
        super().__init__()
        self.samples: list[Tensor] = []

    def sample(self, n: int) -> Tensor:
        assert not self.generator.training
        assert not torch.is_grad_enabled()
        self.samples.append(super().sample(n))
        self.weight = self.generator.state_dict()["0.weight"].clone()
        return self.samples[-1]


def callback(**arguments: Any) -> GenerativeMetrics:
    defaults: dict[str, Any] = {"num_samples": 40, "batch_size": 16, "features": Flatten()}
    return GenerativeMetrics(**(defaults | arguments))


def by_hand(real: Tensor, fake: Tensor) -> dict[str, float]:
    bundle = FeatureMetrics(METRICS, len(fake), 64, nearest_k=3, device=torch.device("cpu"))
    bundle.add_real(real.flatten(1))
    bundle.finish_real()
    bundle.add_fake(fake.flatten(1))
    return {f"val/{name}": value.item() for name, value in bundle.compute().items()}


def values(trainer: Any) -> dict[str, float]:
    return {name: trainer.callback_metrics[name].item() for name in NAMES}


@pytest.mark.parametrize("data", [Images(n=40), ImagesWithReference()])
def test_logged_values_are_those_of_samples_and_reference(data: Images) -> None:
    module = Recording()
    trainer = quiet_trainer(max_epochs=2, callbacks=[callback()], num_sanity_val_steps=1)
    trainer.fit(module, data)
    assert [len(samples) for samples in module.samples] == [16, 16, 8] * 2
    real = data.reference if isinstance(data, ImagesWithReference) else data.data.tensors[0]
    expected = by_hand(real, torch.cat(module.samples[3:]))
    assert values(trainer) == pytest.approx(expected, rel=1e-5)
    if isinstance(data, ImagesWithReference):
        assert data.passes == 1


def test_samples_depend_on_seed_and_step_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def samples(global_seed: int) -> Tensor:
        torch.manual_seed(0)
        module = Recording()
        torch.manual_seed(global_seed)
        quiet_trainer(callbacks=[callback()]).validate(module, Images(), verbose=False)
        assert not torch.equal(module.samples[0], module.samples[1])
        return torch.cat(module.samples)

    first = samples(1)
    assert torch.equal(first, samples(2))
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    assert not torch.equal(first, samples(1))


def test_training_is_left_as_it_was() -> None:
    def fit(callbacks: list[Any]) -> TinyGAN:
        torch.manual_seed(0)
        module = TinyGAN()
        quiet_trainer(max_epochs=2, callbacks=callbacks).fit(module, Images())
        return module

    with_metrics, without = fit([callback()]), fit([])
    for a, b in zip(with_metrics.parameters(), without.parameters(), strict=True):
        assert torch.equal(a, b)
    assert with_metrics.generator.training


def test_samples_are_drawn_in_evaluation_mode_by_a_module_that_validates_in_training_mode() -> None:
    class StaysInTraining(Recording):
        def on_validation_model_eval(self) -> None:
            pass

    module = StaysInTraining()
    quiet_trainer(callbacks=[callback()]).fit(module, Images())
    assert module.samples
    assert module.generator.training


def test_averaged_weights_are_sampled() -> None:
    ema, module = ExponentialMovingAverage("generator", 0.9), Recording()
    quiet_trainer(max_epochs=1, callbacks=[callback(), ema]).fit(module, Images())
    assert torch.equal(module.weight, ema.state_dict()["average"]["0.weight"])


def test_nothing_enters_the_module_or_its_checkpoint(tmp_path: Path) -> None:
    module = TinyGAN()
    metrics = GenerativeMetrics(num_samples=40, features="digits")
    best = ModelCheckpoint(tmp_path, monitor="val/fid", filename="best")
    trainer = quiet_trainer(max_epochs=1, callbacks=[metrics, best], enable_checkpointing=True)
    trainer.fit(module, Images())
    checkpoint = torch.load(tmp_path / "best.ckpt", weights_only=True)
    fresh = TinyGAN()
    assert checkpoint["state_dict"].keys() == fresh.state_dict().keys()
    assert len(list(module.parameters())) == len(list(fresh.parameters()))
    assert not any("GenerativeMetrics" in key for key in checkpoint["callbacks"])


def test_other_value_ranges_are_brought_to_the_networks() -> None:
    class UnitRange(TinyGAN):
        def sample(self, n: int) -> Tensor:
            return (super().sample(n) + 1) / 2

    class UnitImages(Images):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return [(batch[0] + 1) / 2, batch[1]]

    found = []
    for kind, data, limits in ((TinyGAN, Images(), (-1.0, 1.0)), (UnitRange, UnitImages(), (0.0, 1.0))):
        torch.manual_seed(0)
        trainer = quiet_trainer(callbacks=[callback(value_range=limits)])
        trainer.validate(kind(), data, verbose=False)
        found.append(values(trainer))
    assert found[1] == pytest.approx(found[0], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("data", [ImagesWithReference(), Images(n=32)])
def test_two_processes_log_what_one_logs(data: Images) -> None:
    torch.manual_seed(0)
    module = TinyGAN()
    found = []
    for arguments in ({}, {"devices": 2, "strategy": "ddp_spawn"}):
        trainer = quiet_trainer(callbacks=[callback(num_samples=72)], **arguments)
        trainer.validate(module, data, verbose=False)
        found.append(values(trainer))
    # 72 samples are 5 batches: 2 for one process, 3 for the other.
    assert found[1] == pytest.approx(found[0], rel=1e-5)


@pytest.mark.slow
def test_a_process_without_samples_does_not_hang() -> None:
    torch.manual_seed(0)
    module = TinyGAN()
    found = []
    for arguments in ({}, {"devices": 2, "strategy": "ddp_spawn"}):
        trainer = quiet_trainer(callbacks=[callback(batch_size=64)], **arguments)
        trainer.validate(module, ImagesWithReference(), verbose=False)
        found.append(values(trainer))
    assert found[1] == pytest.approx(found[0], rel=1e-5)


class Diverged(TinyGAN):
    """Only the last batch of samples is bad, which one of two processes draws."""

    drawn = 0

    def sample(self, n: int) -> Tensor:
        samples = super().sample(n)
        return samples * torch.nan if n == 8 else samples


@pytest.mark.parametrize(
    "arguments", [{}, pytest.param({"devices": 2, "strategy": "ddp_spawn"}, marks=pytest.mark.slow)]
)
def test_non_finite_samples_stop_all_processes(arguments: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="samples of Diverged hold NaN or infinity at step 0"):
        quiet_trainer(callbacks=[callback()], **arguments).validate(Diverged(), Images(), verbose=False)


def test_nan_is_seen_through_a_network_that_hides_it() -> None:
    class Hides(Flatten):
        def forward(self, images: Tensor) -> Tensor:
            return images.nan_to_num().flatten(1)

    with pytest.raises(NonFiniteError, match="8 of 40 samples"):
        quiet_trainer(callbacks=[callback(features=Hides())]).validate(Diverged(), Images(), verbose=False)


@pytest.mark.parametrize("bar", [RichProgressBar(), TQDMProgressBar()])
def test_progress_is_shown(bar: Any, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = quiet_trainer(callbacks=[callback(), bar], enable_progress_bar=True)
    trainer.validate(TinyGAN(), ImagesWithReference(), verbose=False)
    shown = capsys.readouterr()
    if isinstance(bar, TQDMProgressBar):
        assert "Generating" in shown.err
        assert "Reference features" in shown.err
    else:
        assert bar.progress is not None
        assert all(task.description != "Generating" for task in bar.progress.tasks)


def test_progress_is_a_stage_of_keras_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = attach(FakeTerminal(), monkeypatch)
    trainer = quiet_trainer(callbacks=[callback(), KerasProgressBar()], enable_progress_bar=True)
    trainer.validate(TinyGAN(), ImagesWithReference(), verbose=False)
    assert "Generating" in terminal.getvalue()
    assert "Reference features" in terminal.getvalue()
    assert len(screen(terminal.getvalue(), 80)) == 2


def test_no_progress_where_the_bar_is_off(capsys: pytest.CaptureFixture[str]) -> None:
    quiet_trainer(callbacks=[callback()]).validate(TinyGAN(), Images(), verbose=False)
    assert "Generating" not in "".join(capsys.readouterr())


def test_users_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="unknown metric 'fidd'; the nearest: fid"):
        callback(metrics=["fidd"])
    with pytest.raises(ValueError, match="num_samples more than nearest_k"):
        callback(num_samples=3)
    with pytest.raises(TypeError, match=r"needs a module with sample\(\), which TinyClassifier"):
        quiet_trainer(callbacks=[callback()]).fit(TinyClassifier(), Images())

    class Wrong(nn.Module):
        num_features = 5

        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)

    with pytest.raises(ValueError, match=r"Wrong must give vectors \(4, 5\), got \(4, 64\)"):
        quiet_trainer(callbacks=[callback(features=Wrong())]).validate(TinyGAN(), Images(), verbose=False)
