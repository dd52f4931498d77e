"""Losses inside torch.utils.checkpoint: counted once, with the right gradient, whichever kind of checkpoint it is."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lit_modules import add_loss, add_metric, collect
from tests.lit_modules.test_free_losses import Free, Leaf, Note
from tests.lit_modules.training import parameters_differ_by


class Blocks(nn.Module):
    """Three blocks that add losses; those in the middle may be checkpointed, also one within the other."""

    def __init__(self, run: Callable[[nn.Module, Tensor], Tensor], *, nested: bool = False) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.first, self.middle, self.inner, self.last = Leaf(), Leaf(), Leaf(), Leaf()
        self.run, self.nested = run, nested

    def block(self, x: Tensor) -> Tensor:
        h = self.middle(x).tanh()
        return self.run(self.inner, h) if self.nested else self.inner(h)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.run(self.block, self.first(x)).tanh())


def plainly(block: nn.Module, x: Tensor) -> Tensor:
    return block(x)


def with_reentry(block: nn.Module, x: Tensor) -> Tensor:
    return checkpoint(block, x, use_reentrant=True)


def without_reentry(block: nn.Module, x: Tensor) -> Tensor:
    return checkpoint(block, x, use_reentrant=False)


def step(module: Any, x: Tensor) -> Tensor:
    """A loss of the step's own, through all blocks; without it nothing depends on the last one's output."""
    return module.net(x).square().mean() / 3


def trained(trainer: Any, loader: Any, net: nn.Module, **options: Any) -> tuple[dict[str, Tensor], list[Any]]:
    model, note = Free(step), Note()
    model.net = net
    trainer(max_steps=4, max_epochs=-1, callbacks=[note], **options).fit(model, loader)
    return model.state_dict(), note.rows


@pytest.mark.parametrize("run", [with_reentry, without_reentry])
@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2}, {"precision": "bf16-mixed"}])
def test_trains_as_without(trainer: Any, batches: Any, points: Tensor, run: Any, options: dict[str, Any]) -> None:
    loader = batches(points, 16)
    expected, rows = trained(trainer, loader, Blocks(plainly), **options)
    state, own_rows = trained(trainer, loader, Blocks(run), **options)
    assert parameters_differ_by(state, expected) < (1e-2 if "precision" in options else 1e-6)
    for one, other in zip(own_rows, rows, strict=True):
        assert one == pytest.approx(other, rel=2e-2 if "precision" in options else 1e-5)


def gradients(net: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Of the added losses alone, but for a millionth of the output."""
    with collect() as added:
        y = net(x)
        total = added.take()
    assert total is not None
    (1000 * total + 1e-6 * y.sum()).backward()
    return {name: parameter.grad for name, parameter in net.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("run", [with_reentry, without_reentry])
def test_gradients_are_scaled_as_the_loss(points: Tensor, run: Any) -> None:
    """As by a scaler of half precision."""
    expected, own = gradients(Blocks(plainly), points), gradients(Blocks(run), points)
    assert expected.keys() == own.keys()
    for name, grad in expected.items():
        torch.testing.assert_close(own[name], grad, rtol=1e-5, atol=1e-6, msg=name)


def test_checkpoints_within_checkpoints(points: Tensor) -> None:
    own = gradients(Blocks(without_reentry, nested=True), points)
    for name, grad in gradients(Blocks(plainly), points).items():
        torch.testing.assert_close(own[name], grad, msg=name)


class InnerOnly(nn.Module):
    """A loss in a reentrant checkpoint within a reentrant checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.outer, self.inner = nn.Linear(2, 2), Leaf()

    def forward(self, x: Tensor, run: Any = with_reentry) -> Tensor:
        return run(lambda h: run(self.inner, self.outer(h)).sin(), x)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_reentrant_checkpoints_within_each_other(points: Tensor) -> None:
    net, twin = InnerOnly(), InnerOnly()
    x = points.clone().requires_grad_()
    own = gradients(net, x)
    twin.forward = lambda x: InnerOnly.forward(twin, x, plainly)  # type: ignore[method-assign]
    for name, grad in gradients(twin, x).items():
        if name.startswith("inner"):
            torch.testing.assert_close(own[name], grad, msg=name)


def test_inputs_get_their_gradient(points: Tensor) -> None:
    for run in with_reentry, without_reentry:
        x, x_of_twin = points.clone().requires_grad_(), points.clone().requires_grad_()
        gradients(Blocks(run), x)
        gradients(Blocks(plainly), x_of_twin)
        torch.testing.assert_close(x.grad, x_of_twin.grad)


def test_only_the_checkpointed_loss(trainer: Any, batches: Any, points: Tensor) -> None:
    """The sum of the added ones has no graph of its own then."""

    class One(nn.Module):
        def __init__(self, run: Any) -> None:
            super().__init__()
            torch.manual_seed(2)
            self.first, self.block, self.run = nn.Linear(2, 2), Leaf(), run

        def forward(self, x: Tensor) -> Tensor:
            return self.run(self.block, self.first(x))

    states = [trained(trainer, batches(points, 16), One(run))[0] for run in (with_reentry, plainly)]
    assert parameters_differ_by(*states) < 1e-6


def test_a_gradient_that_cannot_come_is_an_error(points: Tensor) -> None:
    """A reentrant checkpoint is run again for its output's gradient only; the next step says that it was not."""
    net = Blocks(with_reentry)
    with collect() as added:
        net(points)
    added.take().backward()  # the last block's loss alone depends on the output
    with collect():
        pass
    block = Leaf()
    with collect() as added:
        with_reentry(block, points.clone().requires_grad_())
    added.take().backward()
    with (
        pytest.raises(RuntimeError, match=r"'size' in torch.utils.checkpoint.*got no gradient.*use_reentrant=False"),
        collect(),
    ):
        pass
    with collect():
        pass


def test_a_gradient_penalty_in_the_step(points: Tensor) -> None:
    """Its backward pass runs the checkpoint again while the losses are being collected."""
    net, x = Blocks(without_reentry), points.clone().requires_grad_()
    with collect() as added:
        (slope,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
        add_loss("penalty", slope.square().mean())
        add_metric("slope", slope.norm())
    assert [loss.name for loss in added.losses] == ["size"] * 4 + ["penalty"]
    assert len(added.metrics) == 5


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_without_gradients_nothing_is_owed(trainer: Any, batches: Any, points: Tensor) -> None:
    model, plain = Free(), Free()
    model.net = Blocks(with_reentry)
    plain.net = copy.deepcopy(model.net)
    plain.net.run = plainly
    with torch.no_grad():
        results = [trainer().validate(m, batches(points, 24), verbose=False) for m in (model, plain)]
    assert results[0] == results[1]
    with collect():
        pass
