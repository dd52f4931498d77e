from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from callbacks import ExponentialMovingAverage, load_averaged_weights
from tests.callbacks.modules import Images, TinyClassifier, TinyGAN, lightning_noise, quiet_trainer

pytestmark = lightning_noise


class Spy(Callback):
    """Notes the generator's weights after each training batch and in each validation hook."""

    def __init__(self) -> None:
        self.trained: list[dict[str, Tensor]] = []
        self.validated: dict[str, dict[str, Tensor]] = {}

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self.trained.append(weights_of(pl_module.generator))

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self.validated["start"] = weights_of(pl_module.generator)

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.validated["epoch_end"] = weights_of(pl_module.generator)


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def averaged(snapshots: list[dict[str, Tensor]], decay: float) -> dict[str, Tensor]:
    """The recursion by hand, in float64; buffers are the last ones."""
    average = {name: value.double() for name, value in snapshots[0].items()}
    for snapshot in snapshots[1:]:
        for name, value in snapshot.items():
            is_buffer = "running" in name or "batches" in name
            new = value.double()
            average[name] = new if is_buffer else decay * average[name] + (1 - decay) * new
    return average


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name].double(), value.double(), rtol=1e-6, atol=1e-7, msg=name)


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("ema_first", [True, False])
@pytest.mark.parametrize(("every_n_steps", "start_step"), [(1, 0), (2, 0), (2, 3)])
def test_average_is_the_recursion_whatever_the_order_of_callbacks(
    ema_first: bool, every_n_steps: int, start_step: int
) -> None:
    torch.manual_seed(0)
    ema, spy = ExponentialMovingAverage("generator", 0.8, every_n_steps, start_step), Spy()
    module = TinyGAN()
    order: list[Callback] = [ema, spy] if ema_first else [spy, ema]
    quiet_trainer(max_epochs=1, callbacks=order).fit(module, Images())
    expected = averaged(spy.trained[start_step::every_n_steps], 0.8)
    assert ema.updates == len(spy.trained[start_step::every_n_steps])
    assert_close(spy.validated["start"], expected)
    assert_equal(spy.validated["epoch_end"], spy.validated["start"])
    assert_equal(weights_of(module.generator), spy.trained[-1])


@pytest.mark.parametrize(
    ("module", "arguments", "path"),
    [
        (TinyGAN(accumulate=4), {}, "generator"),
        (TinyClassifier(), {"accumulate_grad_batches": 4}, "network"),
    ],
)
def test_accumulated_batches_make_one_update(module: pl.LightningModule, arguments: dict[str, int], path: str) -> None:
    ema = ExponentialMovingAverage(path)
    quiet_trainer(max_epochs=1, callbacks=[ema], **arguments).fit(module, Images())
    assert ema.updates == 2  # 8 batches


def test_nothing_is_swapped_before_the_first_update() -> None:
    ema, spy = ExponentialMovingAverage("generator", start_step=100), Spy()
    quiet_trainer(max_epochs=1, callbacks=[spy, ema]).fit(TinyGAN(), Images())
    assert ema.updates == 0
    assert_equal(spy.validated["start"], spy.trained[-1])


def test_test_and_predict_run_with_the_average_and_restore() -> None:
    seen: dict[str, dict[str, Tensor]] = {}

    class Looks(TinyGAN):
        def test_step(self, batch: Any, batch_idx: int) -> None:
            seen["test"] = weights_of(self.generator)

        def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
            seen["predict"] = weights_of(self.generator)
            return batch[0]

    ema, module = ExponentialMovingAverage("generator", 0.8), Looks()
    trainer = quiet_trainer(max_epochs=1, callbacks=[ema])
    trainer.fit(module, Images())
    raw = weights_of(module.generator)
    trainer.test(module, Images(), verbose=False)
    trainer.predict(module, Images())
    for name in ("test", "predict"):
        assert_equal(seen[name], ema.state_dict()["average"])
    assert_equal(weights_of(module.generator), raw)


def test_exception_in_validation_restores_the_raw_weights() -> None:
    class Fails(TinyGAN):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            raise RuntimeError("no")

    spy, module = Spy(), Fails()
    with pytest.raises(RuntimeError, match="no"):
        quiet_trainer(max_epochs=1, callbacks=[spy, ExponentialMovingAverage("generator")]).fit(module, Images())
    assert_equal(weights_of(module.generator), spy.trained[-1])


@pytest.mark.parametrize("path", ["generator", ""])
def test_checkpoint_saved_while_swapped_holds_raw_and_averaged_weights(tmp_path: Path, path: str) -> None:
    class Saves(Callback):
        def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.before = weights_of(pl_module)
            trainer.save_checkpoint(tmp_path / "during.ckpt")
            self.after = weights_of(pl_module)

    saves, spy, ema = Saves(), Spy(), ExponentialMovingAverage(path, 0.5)
    module = TinyGAN()
    quiet_trainer(max_epochs=1, callbacks=[saves, spy, ema]).fit(module, Images())
    checkpoint = torch.load(tmp_path / "during.ckpt", weights_only=True)
    assert_equal(checkpoint["state_dict"], weights_of(module))
    assert_equal(saves.after, saves.before)
    (state,) = checkpoint["callbacks"].values()
    inner = module.get_submodule(path).state_dict()
    assert state["average"].keys() == inner.keys()
    assert any(not torch.equal(state["average"][name], value) for name, value in inner.items())

    fresh = TinyGAN()
    load_averaged_weights(fresh, tmp_path / "during.ckpt")
    assert_equal(weights_of(fresh.get_submodule(path)), state["average"])


def test_resume_is_bit_exact(tmp_path: Path) -> None:
    def run(callbacks: list[Callback], epochs: int, ckpt_path: Path | None = None) -> TinyGAN:
        module = TinyGAN()
        module.generator[2] = nn.Identity()  # no random numbers but those of the latents
        module.latents = lambda n: torch.linspace(-1, 1, 4 * n).view(n, 4)  # type: ignore[method-assign]
        torch.manual_seed(5)
        for parameter in module.parameters():
            nn.init.normal_(parameter)
        quiet_trainer(max_epochs=epochs, callbacks=callbacks).fit(module, Images(), ckpt_path=ckpt_path)
        return module

    whole, first, second = (ExponentialMovingAverage("generator", 0.9, 3, 1) for _ in range(3))
    run([whole], 3)

    class SaveAtEnd(Callback):
        def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            trainer.save_checkpoint(tmp_path / "one.ckpt")

    run([first, SaveAtEnd()], 1)
    run([second], 3, tmp_path / "one.ckpt")
    assert second.updates == whole.updates > first.updates
    assert_equal(second.state_dict()["average"], whole.state_dict()["average"])


def test_resumed_batches_without_a_step_are_not_counted(tmp_path: Path) -> None:
    trainer = quiet_trainer(callbacks=[ExponentialMovingAverage("generator")])
    trainer.fit(TinyGAN(accumulate=4), Images())
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    ema = ExponentialMovingAverage("generator")
    quiet_trainer(max_epochs=2, callbacks=[ema]).fit(TinyGAN(accumulate=4), Images(), ckpt_path=tmp_path / "x.ckpt")
    assert ema.updates == 4


def test_validate_from_a_checkpoint_uses_its_average(tmp_path: Path) -> None:
    trainer = quiet_trainer(max_epochs=1, callbacks=[ema := ExponentialMovingAverage("generator", 0.8)])
    trainer.fit(TinyGAN(), Images())
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    spy, module = Spy(), TinyGAN()
    trainer = quiet_trainer(callbacks=[spy, ExponentialMovingAverage("generator", 0.8)])
    trainer.validate(module, Images(), ckpt_path=tmp_path / "x.ckpt", verbose=False)
    assert_equal(spy.validated["start"], ema.state_dict()["average"])


def test_compiled_submodule_and_half_precision() -> None:
    class Compiled(TinyGAN):
        def __init__(self) -> None:
            super().__init__()
            self.generator = torch.compile(self.generator, backend="eager")  # type: ignore[assignment]

    ema, module = ExponentialMovingAverage("generator", 0.8), Compiled()
    quiet_trainer(max_epochs=1, callbacks=[ema]).fit(module, Images())
    assert ema.state_dict()["average"].keys() == TinyGAN().generator.state_dict().keys()

    ema = ExponentialMovingAverage("network", 0.999)
    quiet_trainer(max_epochs=1, precision="bf16-true", callbacks=[ema]).fit(TinyClassifier(), Images())
    assert all(value.dtype == torch.float32 for value in ema.state_dict()["average"].values())


def test_wrong_path_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="TinyGAN has no submodule 'generater'; the nearest: generator"):
        quiet_trainer(max_epochs=1, callbacks=[ExponentialMovingAverage("generater")]).fit(TinyGAN(), Images())


def test_average_of_another_network_is_refused(tmp_path: Path) -> None:
    trainer = quiet_trainer(max_epochs=1, callbacks=[ExponentialMovingAverage("generator")])
    trainer.fit(TinyGAN(), Images())
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    other = TinyGAN()
    other.generator = nn.Linear(2, 2)  # type: ignore[assignment]
    with pytest.raises(ValueError, match="those of another network"):
        load_averaged_weights(other, tmp_path / "x.ckpt")


def test_checkpoint_without_average_is_refused(tmp_path: Path) -> None:
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(TinyGAN(), Images())
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match="holds no averaged weights"):
        load_averaged_weights(TinyGAN(), tmp_path / "x.ckpt")


@pytest.mark.parametrize("arguments", [{"every_n_steps": 0}, {"start_step": -1}, {"decay": 1.5}])
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"every_n_steps|decay"):
        ExponentialMovingAverage("generator", **arguments)
