"""WeightConstraint holds after every optimizer step, on modules that know nothing of it and through run.py."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.optim import Optimizer

import run
from callbacks import WeightConstraint
from tests.callbacks.modules import Images, TinyClassifier, TinyGAN, lightning_noise, quiet_trainer
from tests.callbacks.test_weight_normalization import config, load, only_run, write
from tests.comparing import assert_same
from weight_norms import spectral_norm, unit_norms

pytestmark = lightning_noise


def holds(kind: str, weight: Tensor) -> bool:
    """Whether a weight satisfies the constraint of `CASES`, to rounding."""
    return {
        "max_norm": lambda: bool((unit_norms(weight, 0) <= 0.7 * (1 + 1e-6)).all()),
        "unit_norm": lambda: torch.allclose(unit_norms(weight, 0), torch.ones(1)),
        "non_negative": lambda: bool((weight >= 0).all()),
        "clip": lambda: bool((weight.abs() <= 0.01).all()),
        "spectral": lambda: spectral_norm(weight).item() <= 0.5 * (1 + 1e-6),
    }[kind]()


CASES: dict[str, dict[str, float]] = {
    "max_norm": {"max_norm": 0.7},
    "unit_norm": {},
    "non_negative": {},
    "clip": {},
    "spectral": {"max_norm": 0.5},
}


class Noting:
    """Notes after each step of an optimizer, before anything else can happen, which layers satisfy a constraint."""

    def __init__(self, kind: str, layers: dict[str, nn.Linear]) -> None:
        self.kind, self.layers = kind, layers
        self.notes: list[set[str]] = []

    def watch(self, optimizer: Optimizer) -> Optimizer:
        """Look right after each of its steps: hooks run in the order of their registration, so from the next hook."""
        step = optimizer.step

        def noting(*args: Any, **kwargs: Any) -> Any:
            result = step(*args, **kwargs)
            self.notes.append({name for name, layer in self.layers.items() if holds(self.kind, layer.weight)})
            return result

        optimizer.step = noting  # type: ignore[method-assign]
        return optimizer


class Noted(TinyClassifier):
    """In automatic optimization."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        nn.init.normal_(self.network.weight)
        self.noting = Noting(kind, {"network": self.network})

    def configure_optimizers(self) -> Optimizer:
        """SGD, watched."""
        return self.noting.watch(super().configure_optimizers())


class NotedGAN(TinyGAN):
    """In manual optimization: two optimizers, one of which steps twice a batch."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        layers: Any = {"generator": self.generator[0], "discriminator": self.discriminator}
        self.noting = Noting(kind, layers)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Three steps."""
        super().training_step(batch, batch_idx)
        optimizer: Any = self.optimizers()
        optimizer[0].step()

    def configure_optimizers(self) -> list[Optimizer]:
        """Of the discriminator and of the generator, watched."""
        return [self.noting.watch(optimizer) for optimizer in super().configure_optimizers()]


@pytest.mark.parametrize("kind", CASES)
def test_it_holds_after_every_step(kind: str) -> None:
    torch.manual_seed(0)
    without = Noted(kind)
    quiet_trainer().fit(without, Images())
    assert without.noting.notes[-1] == set()
    module = Noted(kind)
    quiet_trainer(callbacks=[WeightConstraint(kind, dict(CASES[kind]))]).fit(module, Images())
    assert module.noting.notes == [{"network"}] * 8


@pytest.mark.parametrize("kind", CASES)
def test_it_holds_after_every_step_in_manual_optimization(kind: str) -> None:
    torch.manual_seed(0)
    module = NotedGAN(kind)
    quiet_trainer(callbacks=[WeightConstraint(kind, dict(CASES[kind]))]).fit(module, Images())
    assert len(module.noting.notes) == 3 * 8
    # The generator's first step comes second.
    assert "discriminator" in module.noting.notes[0]
    assert all(note == {"generator", "discriminator"} for note in module.noting.notes[1:])


def test_a_step_constrains_what_its_optimizer_trains() -> None:
    """The discriminator's steps leave the generator alone, bit for bit."""
    seen: list[tuple[Tensor, Tensor]] = []

    class OnlyDiscriminator(TinyGAN):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            before = self.generator[0].weight.clone()  # type: ignore[operator, union-attr]
            self.manual_backward(self.discriminator(batch[0].flatten(1)).mean())
            optimizer: Any = self.optimizers()
            optimizer[0].step()
            seen.append((before, self.generator[0].weight.clone()))  # type: ignore[operator, union-attr]

    module = OnlyDiscriminator()
    quiet_trainer(callbacks=[WeightConstraint("clip")]).fit(module, Images())
    assert all(torch.equal(before, after) for before, after in seen)
    assert seen[0][0].abs().max() > 0.01
    assert holds("clip", module.discriminator.weight)


def test_accumulated_gradients_make_no_step() -> None:
    module = Noted("clip")
    quiet_trainer(callbacks=[WeightConstraint("clip")], accumulate_grad_batches=4).fit(module, Images())
    assert module.noting.notes == [{"network"}] * 2


def test_a_step_that_fp16_skips() -> None:
    """Infinite gradients: the loss scale is halved, weights and constraint stay as they were."""

    class Overflows(Noted):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            return loss * float("inf") if batch_idx in (0, 3) else loss

    module = Overflows("clip")
    assert not holds("clip", module.network.weight)
    # Lightning has no fp16 on CPUs of its own accord, torch has.
    fp16 = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=8.0))
    quiet_trainer(callbacks=[WeightConstraint("clip")], plugins=[fp16]).fit(module, Images())
    assert module.noting.notes == [{"network"}] * 6
    assert holds("clip", module.network.weight)
    assert module.network.weight.isfinite().all()


def test_afterwards_the_optimizer_is_free() -> None:
    class Keeps(TinyClassifier):
        def configure_optimizers(self) -> Optimizer:
            self.kept = getattr(self, "kept", None) or super().configure_optimizers()
            return self.kept

    module = Keeps()
    for _ in range(2):
        quiet_trainer(callbacks=[WeightConstraint("clip")]).fit(module, Images())
        assert not module.kept._optimizer_step_post_hooks


def test_weights_that_no_optimizer_trains() -> None:
    class Partly(TinyClassifier):
        def __init__(self) -> None:
            super().__init__()
            self.frozen = nn.Linear(2, 2)

        def configure_optimizers(self) -> Optimizer:
            return torch.optim.SGD(self.network.parameters(), 0.1)

    with pytest.raises(ValueError, match=r"no optimizer trains frozen.weight \(Linear\)"):
        quiet_trainer(callbacks=[WeightConstraint("clip", names=["frozen"])]).fit(Partly(), Images())
    with pytest.warns(UserWarning, match=r"leaves frozen.weight \(Linear\) alone until an optimizer trains it"):
        quiet_trainer(callbacks=[WeightConstraint("clip")]).fit(Partly(), Images())


def test_nothing_is_chosen_silently() -> None:
    with pytest.raises(ValueError, match="names: 'netwrk' matches no layer of TinyClassifier; the nearest: network"):
        quiet_trainer(callbacks=[WeightConstraint("clip", names=["netwrk"])]).fit(TinyClassifier(), Images())
    with pytest.raises(ValueError, match="unknown kind 'maxnorm'; the nearest: max_norm"):
        WeightConstraint("maxnorm")


# ---- Through run.py ----


def test_wgans_clipping_and_exact_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RelativisticGAN with the callback in YAML: the constraint holds, and a resumed run ends as a whole one."""
    monkeypatch.chdir(tmp_path)
    arguments = {"kind": "clip", "kind_args": {"limit": 0.02}, "names": ["discriminator.*"]}
    spectral = {"kind": "spectral", "kind_args": {"max_norm": 2.0}, "classes": ["ConvTranspose2d"]}
    callbacks = [{"class_path": "WeightConstraint", "init_args": kind} for kind in (arguments, spectral)]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder, steps in ((whole, 4), (cut, 2)):
        settings = config("RelativisticGAN", "ImageDataModule", callbacks, steps)
        settings["model"]["init_args"] = {"width": 4, "loss": "wgan"}
        settings["trainer"] |= {"default_root_dir": str(folder / "runs"), "limit_val_batches": 1}
        assert run.main(["fit", "--config", write(folder, settings)]) == 0
    assert run.main(["fit", "--config", str(cut / "toy.yaml"), "--trainer.max_steps=4", "--ckpt_path=last"]) == 0
    assert_same(load(cut), load(whole))
    rows = [(only_run(folder) / "metrics.csv").read_text() for folder in (whole, cut)]
    assert rows[0] == rows[1]
    state = load(whole)["state_dict"]
    weights = [value for name, value in state.items() if name.startswith("discriminator") and name.endswith("weight")]
    assert len(weights) == 3
    assert max(weight.abs().max().item() for weight in weights) == pytest.approx(0.02)
    assert all(isinstance(value, Tensor) for value in state.values())


def test_it_is_a_callback_like_others() -> None:
    assert isinstance(WeightConstraint("clip"), pl.Callback)
