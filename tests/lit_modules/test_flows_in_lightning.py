"""The flows under Lightning's Trainer, on a LightningModule that knows nothing of this project and on our own."""

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor
from torch.optim import Optimizer

from lit_modules import EntropicAutoencoder, SingleLossGAN
from lit_modules.parts.loss_guided import LossGuidedFlow
from tests.lit_modules.flow_processes import Foreign, Regression
from tests.lit_modules.test_flows import FLOWS

ROOT = Path(__file__).resolve().parents[2]


def in_plain_pytorch(flow: type[Optimizer], steps: int) -> dict[str, Tensor]:
    """What the same training gives without Lightning."""
    torch.manual_seed(0)
    module = Foreign(flow)
    optimizer = module.configure_optimizers()
    for batch in Regression(steps):

        def closure(batch: Any = batch) -> Tensor:
            optimizer.zero_grad()
            loss = module.training_step(batch, 0)
            loss.backward()
            return loss

        optimizer.step(closure)
    return module.state_dict()


@pytest.mark.parametrize("flow", FLOWS)
def test_lightning_trains_as_plain_pytorch(trainer: Callable[..., Trainer], flow: type[Optimizer]) -> None:
    torch.manual_seed(0)
    module = Foreign(flow)
    trainer(max_epochs=1).fit(module, Regression(5))
    expected = in_plain_pytorch(flow, 5)
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)


class Manual(Foreign):
    """The same in manual optimization, with or without a closure."""

    def __init__(self, with_closure: bool) -> None:
        super().__init__(LossGuidedFlow)
        self.automatic_optimization = False
        self.with_closure = with_closure

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = Foreign.training_step(self, batch, batch_idx)
            self.manual_backward(loss)
            return loss

        if not self.with_closure:
            closure()
        optimizer.step(*[closure] * self.with_closure)


def test_manual_optimization_with_a_closure(trainer: Callable[..., Trainer]) -> None:
    torch.manual_seed(0)
    module = Manual(True)
    trainer(max_epochs=1).fit(module, Regression(5))
    for name, value in in_plain_pytorch(LossGuidedFlow, 5).items():
        assert torch.equal(module.state_dict()[name], value)


def test_manual_optimization_without_a_closure_is_refused(trainer: Callable[..., Trainer]) -> None:
    with pytest.raises(ValueError, match=r"LossGuidedFlow needs the loss: call step\(closure\)"):
        trainer(max_epochs=1).fit(Manual(False), Regression(5))


def test_accumulated_gradients_are_refused(trainer: Callable[..., Trainer]) -> None:
    """Lightning's closure knows the last batch's loss alone, divided by the number of batches."""
    module = Foreign(LossGuidedFlow)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(ValueError, match="as with accumulate_grad_batches: use larger batches"):
        trainer(max_epochs=1, accumulate_grad_batches=2).fit(module, Regression(4))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_what_lightnings_closure_returns_under_accumulation(trainer: Callable[..., Trainer]) -> None:
    """Why it is refused; when this changes in Lightning, it need not be."""
    returned, losses = [], []

    class Noting(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:  # type: ignore[override]
            returned.append(super().step(closure).item())

    class Told(Foreign):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            losses.append(loss.item())
            return loss

    trainer(max_epochs=1, accumulate_grad_batches=2).fit(Told(Noting), Regression(4))
    assert returned == pytest.approx([losses[1] / 2, losses[3] / 2])


def test_half_precision_with_a_gradient_scaler_is_refused(trainer: Callable[..., Trainer]) -> None:
    scaler = torch.amp.GradScaler("cpu")
    half = MixedPrecision("16-mixed", "cpu", scaler)
    with pytest.raises(ValueError, match=r"LossGuidedFlow needs the loss.*not with precision='16-mixed'"):
        trainer(max_epochs=1, plugins=[half]).fit(Foreign(LossGuidedFlow), Regression(2))


def test_bfloat16_passes_the_loss(trainer: Callable[..., Trainer]) -> None:
    module = Foreign(LossGuidedFlow)
    before = module.network[0].weight.detach().clone()
    trainer(max_epochs=1, precision="bf16-mixed").fit(module, Regression(2))
    assert not torch.equal(module.network[0].weight, before)


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_a_batch_that_is_left_out(trainer: Callable[..., Trainer]) -> None:
    """A training_step that returns None means: not this batch."""

    class LeavesOut(Foreign):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
            return None if batch_idx == 1 else super().training_step(batch, batch_idx)

    made = trainer(max_epochs=1)
    made.fit(LeavesOut(LossGuidedFlow), Regression(3))
    assert made.global_step == 3


MODULES: dict[str, tuple[type[LightningModule], dict[str, Any]]] = {
    "SingleLossGAN": (SingleLossGAN, {"network": "points", "latent_dim": 2, "width": 8}),
    "EntropicAutoencoder": (EntropicAutoencoder, {"image_size": 8, "latent_dim": 3, "network": "dense"}),
}


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("name", MODULES)
def test_modules_with_automatic_optimization_take_every_flow(
    trainer: Callable[..., Trainer], batches: Any, flow: type[Optimizer], name: str
) -> None:
    kind, arguments = MODULES[name]
    model = kind(**arguments, optimizer=flow.__name__)
    before = copy.deepcopy(model.state_dict())
    samples = torch.rand(16, 2) if name == "SingleLossGAN" else torch.rand(16, 1, 8, 8)
    trainer(max_steps=3).fit(model, batches(samples, 8))
    assert type(model.optimizers().optimizer) is flow
    for network, _ in model.named_children():
        parameters = {name: p for name, p in model.named_parameters() if name.startswith(f"{network}.")}
        assert not parameters or any(not torch.equal(p, before[name]) for name, p in parameters.items()), network


@pytest.mark.slow
def test_two_processes_equal_one_with_the_whole_batch(tmp_path: Path) -> None:
    """The loss that decides the step is averaged, and so is what is logged: ranks are bit-equal, and as one process."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for devices in ("1", "2"):
        command = [sys.executable, str(ROOT / "tests/lit_modules/flow_processes.py"), str(tmp_path), devices]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    for flow in FLOWS:
        one, first, second = (
            torch.load(tmp_path / f"{flow.__name__}-{which}.pt", weights_only=True) for which in ("1-0", "2-0", "2-1")
        )
        for name, value in one.items():
            assert torch.equal(first[name], second[name])
            torch.testing.assert_close(first[name], value, rtol=1e-5, atol=1e-6)
    one, first, second = (torch.load(tmp_path / f"point-{which}.pt") for which in ("1-0", "2-0", "2-1"))
    # The gradient's norm is that of the averaged gradient, all else is a mean.
    assert first == second == pytest.approx(one, rel=1e-3)
    assert (tmp_path / "refused.txt").read_text().startswith("LossGuidedFlow: the ranks have different gradients")
