"""Losses and metrics from anywhere: nothing forgotten, nothing counted twice."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule
from torch import Tensor, nn

from callbacks import NonFiniteGuard
from callbacks.non_finite_guard import NonFiniteError
from lit_modules import FreeLosses, add_loss, add_metric, collect
from tests.lit_modules.training import parameters_differ_by

COMPILING = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:The .grad attribute of a Tensor:UserWarning"
)


class Leaf(nn.Module):
    """Deep down: knows no LightningModule."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.linear(x)
        add_loss("size", h.square().mean(), weight=0.5)
        add_metric("norm", h.norm(dim=1).mean())
        return h


def deep() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(Leaf(), nn.Tanh(), nn.Sequential(nn.Identity(), nn.Sequential(Leaf())))


def by_hand(net: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, float]]:
    """The loss, and what is logged of it."""
    first = net[0].linear(x)
    second = net[2][1][0].linear(first.tanh())
    size = first.square().mean() + second.square().mean()
    norm = (first.norm(dim=1).mean() + second.norm(dim=1).mean()) / 2
    return 0.5 * size, {"size": size.item(), "norm": norm.item(), "loss": 0.5 * size.item()}


class Bare(LightningModule):
    """Trains on what its step makes of what it is given."""

    def __init__(self, step: Callable[[Any, Tensor], Any] | None = None) -> None:
        super().__init__()
        self.net = deep()
        self.step = step

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.step is not None:
            return self.step(self, batch[0])
        self.net(batch[0])
        return None

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.net(batch[0])

    def test_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.net(batch[0]).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class Free(FreeLosses, Bare):
    """The plugin on a finished module."""


class Twin(Bare):
    """The same without the mixin."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return by_hand(self.net, batch[0])[0]


class Note(Callback):
    """Keeps what each training step has logged."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        logged = trainer.callback_metrics.items()
        self.rows.append({k.removeprefix("train/"): v.item() for k, v in logged if k.startswith("train/")})


def test_loss_and_logs_by_hand(trainer: Any, batches: Any, points: Tensor) -> None:
    """Each step has its own values only, from any depth; equal names are added up, metrics averaged."""
    model, note = Free(), Note()
    twin = copy.deepcopy(model.net)
    optimizer = torch.optim.SGD(twin.parameters(), 0.1)
    trainer(max_steps=4, callbacks=[note]).fit(model, batches(points, 16))
    for number, x in enumerate(points.split(16)):
        loss, logged = by_hand(twin, x)
        assert note.rows[number] == pytest.approx(logged, rel=1e-5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert parameters_differ_by(model.net.state_dict(), twin.state_dict()) < 1e-6


def test_a_value_stays_what_it_was_in_its_step(trainer: Any, batches: Any, points: Tensor) -> None:
    """Whatever its type, and though its memory is written to later, as with CUDA graphs."""
    memory = torch.zeros((), dtype=torch.bfloat16)

    def step(model: LightningModule, x: Tensor) -> Tensor:
        add_metric("number", memory)
        add_metric("integer", torch.tensor(model.global_step))
        return model.net[2][1][0].linear(x).sum()

    class Rewriting(Note):
        def on_train_batch_end(self, *arguments: Any) -> None:
            memory.add_(1)
            super().on_train_batch_end(*arguments)
            types.update(value.dtype for value in arguments[0].callback_metrics.values())

    types: set[torch.dtype] = set()
    note = Rewriting()
    trainer(max_steps=4, callbacks=[note]).fit(Free(step), batches(points, 16))
    assert note.rows == [{"number": i, "integer": i} for i in range(4)]
    assert types == {torch.float32}


@pytest.mark.parametrize(
    "options", [{"accumulate_grad_batches": 2}, {"gradient_clip_val": 0.01}, {"precision": "64-true"}]
)
def test_trains_as_its_twin(trainer: Any, batches: Any, points: Tensor, options: dict[str, Any]) -> None:
    states = []
    for kind in Free, Twin:
        model = kind()
        trainer(max_steps=6, max_epochs=-1, **options).fit(model, batches(points.to(torch.get_default_dtype()), 16))
        states.append(model.state_dict())
    assert parameters_differ_by(*states) < 1e-6
    assert parameters_differ_by(states[0], Free().state_dict()) > 1e-3


def test_mixed_precision(trainer: Any, batches: Any, points: Tensor) -> None:
    model = Free()
    t = trainer(max_steps=3, precision="bf16-mixed")
    t.fit(model, batches(points, 16))
    assert all(value.isfinite() for value in t.callback_metrics.values())
    assert parameters_differ_by(model.state_dict(), Free().state_dict()) > 1e-3


def own_loss(module: Any, x: Tensor) -> Tensor:
    return module.net(x).mean() + 3


@pytest.mark.parametrize("returned", ["tensor", "dict"])
def test_what_the_step_returns_is_in_the_loss(trainer: Any, batches: Any, points: Tensor, returned: str) -> None:
    """And what else it returns stays."""
    seen: list[Any] = []

    class Seen(Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
            seen.append(outputs)

    model = Free(own_loss if returned == "tensor" else lambda m, x: {"loss": own_loss(m, x), "kept": 7})
    net = copy.deepcopy(model.net)
    t = trainer(max_steps=1, callbacks=[Seen()])
    t.fit(model, batches(points, 64))
    expected = (by_hand(net, points)[0] + net(points).mean() + 3).item()
    assert t.callback_metrics["train/loss"].item() == pytest.approx(expected, rel=1e-5)
    assert seen[0]["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert returned == "tensor" or seen[0]["kept"] == 7


def test_metrics_alone_leave_the_loss_to_the_step(trainer: Any, batches: Any, points: Tensor) -> None:
    def step(module: Any, x: Tensor) -> Tensor:
        module.add_metric("answer", 42)
        module.add_metric("count", torch.tensor(3))
        return module.net[0].linear(x).square().mean()

    t = trainer(max_steps=1)
    t.fit(Free(step), batches(points, 64))
    assert {name: value.item() for name, value in t.callback_metrics.items()} == {"train/answer": 42, "train/count": 3}


# Lightning says so once a process, whichever test is the first.
@pytest.mark.filterwarnings("ignore:[^ ]* returned `None`")
def test_a_step_without_any_loss_is_skipped_as_lightning_does(trainer: Any, batches: Any, points: Tensor) -> None:
    model = Free(lambda module, x: None)
    trainer(max_epochs=1).fit(model, batches(points, 64))
    assert parameters_differ_by(model.state_dict(), Free().state_dict()) == 0


def test_a_wrong_return_value_is_lightnings_to_refuse(trainer: Any, batches: Any, points: Tensor) -> None:
    model = Free(lambda module, x: [module.net(x).sum()])
    with pytest.raises(Exception, match="must return a Tensor, a dict, or None"):
        trainer(max_steps=1).fit(model, batches(points, 64))


def test_validation_is_apart_from_training(trainer: Any, batches: Any, points: Tensor) -> None:
    """Means over images also where the last batch is smaller; training with validations in it is the same."""
    model, plain, note, note_of_plain = Free(), Free(), Note(), Note()
    t = trainer(max_steps=4, val_check_interval=1, num_sanity_val_steps=1, callbacks=[note])
    t.fit(model, batches(points, 16), batches(points, 24))
    trainer(max_steps=4, callbacks=[note_of_plain]).fit(plain, batches(points, 16))
    assert parameters_differ_by(model.state_dict(), plain.state_dict()) == 0
    assert note.rows == note_of_plain.rows
    expected = by_hand(model.net, points)[1]
    logged = {k.removeprefix("val/"): v.item() for k, v in t.callback_metrics.items() if k.startswith("val/")}
    assert logged == pytest.approx(expected, rel=1e-5)
    (tested,) = t.test(model, batches(points, 64), verbose=False)
    assert tested["test/loss"] == pytest.approx(expected["loss"] + model.net(points).sum().item(), rel=1e-4)


def test_nobody_collects() -> None:
    """In plain use the calls do nothing, and what they would refuse passes."""
    x = torch.ones(3, 2)
    assert torch.equal(Free().net(x), deep()(x))
    add_loss("anything", x)


def test_collect_in_a_loop_of_ones_own(points: Tensor) -> None:
    net = deep()
    with collect() as outer:
        net(points)
        with collect() as added:
            net(points)
        total = added.take()
        assert total is not None
        assert added.take() is None
        assert added.untaken() == []
    loss, logged = by_hand(net, points)
    assert total.item() == pytest.approx(loss.item())
    assert {k: float(v) for k, v in added.values().items()} == pytest.approx({k: logged[k] for k in ("size", "norm")})
    assert len(outer.losses) == 2
    assert not any(torch.as_tensor(value).requires_grad for value in added.values().values())


def test_an_exception_leaves_nothing_behind(trainer: Any, batches: Any, points: Tensor) -> None:
    def fails(module: Any, x: Tensor) -> None:
        module.net(x)
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        trainer(max_steps=1).fit(Free(fails), batches(points, 64))
    test_loss_and_logs_by_hand(trainer, batches, points)


class Nested(Free):
    """Calls its base's step, and that of a module inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Free()

    def training_step(self, batch: Any, batch_idx: int) -> None:
        super().training_step(batch, batch_idx)
        self.inner.training_step(batch, batch_idx)


def test_steps_within_a_step(trainer: Any, batches: Any, points: Tensor) -> None:
    model = Nested()
    expected = 2 * by_hand(model.net, points)[1]["loss"]
    t = trainer(max_steps=1)
    t.fit(model, batches(points, 64))
    assert t.callback_metrics["train/loss"].item() == pytest.approx(expected, rel=1e-5)
    assert not hasattr(LightningModule.training_step, "_collects")


def test_hooks_watch_and_train_a_module_that_knows_nothing(trainer: Any, batches: Any, points: Tensor) -> None:
    """A loss and a metric on a layer of a finished module, whose code nobody touches."""

    class Theirs(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(2, 3), nn.Linear(3, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self.last(self.first(batch[0])).square().mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    class Mine(FreeLosses, Theirs):
        pass

    model = Mine()
    model.first.register_forward_hook(lambda module, x, h: add_loss("sparsity", h.abs().mean(), weight=0.1))
    model.first.register_forward_hook(lambda module, x, h: add_metric("x_h_norm", h.square().sum(dim=1).mean()))
    h = model.first(points).detach()
    own = model.last(h).square().mean().item()
    t = trainer(max_steps=1)
    t.fit(model, batches(points, 64))
    logged = {name: value.item() for name, value in t.callback_metrics.items()}
    sparsity, norm = h.abs().mean().item(), h.square().sum(dim=1).mean().item()
    expected = {"train/loss": own + 0.1 * sparsity, "train/sparsity": sparsity, "train/x_h_norm": norm}
    assert logged == pytest.approx(expected, rel=1e-5)


class Manual(Free):
    """Two updates a step, each of what was added since the other."""

    def __init__(self, updates: int = 2) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.updates = updates

    def training_step(self, batch: Any, batch_idx: int) -> None:
        for number in range(2):
            self.net(batch[0])
            if number < self.updates:
                self.optimizers().zero_grad()
                self.manual_backward(self.take_losses())
                self.optimizers().step()


def test_manual_optimization(trainer: Any, batches: Any, points: Tensor) -> None:
    model, twin = Manual(), deep()
    optimizer, losses = torch.optim.SGD(twin.parameters(), 0.1), []
    for _ in range(2):
        loss = by_hand(twin, points)[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    t = trainer(max_epochs=1)
    t.fit(model, batches(points, 64))
    assert parameters_differ_by(model.net.state_dict(), twin.state_dict()) < 1e-6
    assert t.callback_metrics["train/loss"].item() == pytest.approx(sum(losses), rel=1e-5)


def test_manual_optimization_must_take_all(trainer: Any, batches: Any, points: Tensor) -> None:
    with pytest.raises(RuntimeError, match=r"left size out: pass self.take_losses\(\) to manual_backward"):
        trainer(max_epochs=1).fit(Manual(updates=1), batches(points, 64))
    with pytest.raises(RuntimeError, match="found no loss"):
        Manual().take_losses()


BAD: dict[str, tuple[Callable[[Any, Tensor], Any], type[Exception], str]] = {
    "batch": (lambda m, x: m.add_loss("l1", x), ValueError, r"'l1'\) got a tensor of shape \(64, 2\)"),
    "number": (lambda m, x: m.add_loss("l1", 3.0), TypeError, "takes a floating-point tensor, got float"),
    "whole": (lambda m, x: m.add_loss("l1", x.sum().long()), TypeError, "floating-point tensor, got torch.int64"),
    "metric": (lambda m, x: m.add_metric("a", x), ValueError, r"'a'\) got a tensor of shape \(64, 2\)"),
    "nameless": (lambda m, x: m.add_metric("", x.sum()), ValueError, "give it a name"),
    "sum": (lambda m, x: m.add_loss("loss", m.net(x).sum()), ValueError, "that of the sum of all losses"),
    "both": (lambda m, x: (m.net(x), m.add_metric("size", 1.0))[2:], ValueError, "a loss and of a metric"),
    "logged": (lambda m, x: m.log("train/size", m.net(x).sum()), ValueError, "train/size is logged by Free and added"),
    "logged sum": (lambda m, x: m.log("train/loss", m.net(x).sum()), ValueError, "train/loss is logged by Free"),
}


@pytest.mark.parametrize("kind", BAD)
def test_mistakes_are_named(trainer: Any, batches: Any, points: Tensor, kind: str) -> None:
    step, error, message = BAD[kind]
    with pytest.raises(error, match=message):
        trainer(max_steps=1).fit(Free(lambda m, x: (step(m, x), None)[1]), batches(points, 64))


def test_a_detached_loss_is_warned_of(trainer: Any, batches: Any, points: Tensor) -> None:
    """It counts as the constant it is."""

    def step(module: Any, x: Tensor) -> None:
        module.net(x)
        module.add_loss("size of input", x.square().mean(), weight=2)

    model = Free(step)
    expected = by_hand(model.net, points)[1]["loss"] + 2 * points.square().mean().item()
    t = trainer(max_steps=1)
    with pytest.warns(UserWarning, match="'size of input'.* got a value without gradient"):
        t.fit(model, batches(points, 64))
    assert t.callback_metrics["train/loss"].item() == pytest.approx(expected, rel=1e-5)


def test_weights_may_be_tensors(points: Tensor) -> None:
    weight = torch.tensor(2.0, requires_grad=True)
    with collect() as added:
        add_loss("a", points.square().mean(), weight=weight)
    added.take().backward()  # type: ignore[union-attr]
    assert weight.grad == points.square().mean()


def test_nan_is_named_by_the_guard(trainer: Any, batches: Any, points: Tensor) -> None:
    def step(module: Any, x: Tensor) -> None:
        module.net(x)
        module.add_loss("broken", module.net(x).sum() * float("nan"))

    with pytest.raises(NonFiniteError, match="train/broken"):
        trainer(max_steps=3, callbacks=[NonFiniteGuard()]).fit(Free(step), batches(points, 64))


@pytest.mark.slow
@COMPILING
def test_compiled_networks(trainer: Any, batches: Any, points: Tensor) -> None:
    """Parts of a compiled network add the same, without a break in its graph, in training and in validation."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    models, notes = (Free(), Free()), (Note(), Note())
    models[0].net.compile(backend="aot_eager", fullgraph=True)
    for model, note in zip(models, notes, strict=True):
        t = trainer(max_steps=20, max_epochs=-1, val_check_interval=4, callbacks=[note])
        t.fit(model, batches(points, 16), batches(points, 24))
    assert parameters_differ_by(models[0].state_dict(), models[1].state_dict()) < 1e-6
    for one, other in zip(notes[0].rows, notes[1].rows, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    assert not torch._dynamo.utils.counters["graph_break"]
    # By gradients (none, of the parameters, of the input too), and by sizes of batches. After 8 torch gives up.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 6


@pytest.mark.slow
@COMPILING
def test_layers_compiled_one_by_one_share_their_code(points: Tensor) -> None:
    """However many there are before: torch gives up at 8 variants."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    net = nn.Sequential(*[Leaf() for _ in range(12)])
    plain = copy.deepcopy(net)
    for layer in net:
        layer.compile(backend="aot_eager", fullgraph=True)
    totals = []
    for model in net, plain:
        with collect() as added:
            model(points)
        assert len(added.losses) == 12
        totals.append(added.take())
    torch.testing.assert_close(*totals)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2


@pytest.mark.slow
@COMPILING
def test_compiled_lightning_module(trainer: Any, batches: Any, points: Tensor) -> None:
    model, plain = Free(), Free()
    note, note_of_plain = Note(), Note()
    trainer(max_steps=4, callbacks=[note]).fit(torch.compile(model, backend="aot_eager"), batches(points, 16))
    trainer(max_steps=4, callbacks=[note_of_plain]).fit(plain, batches(points, 16))
    assert parameters_differ_by(model.state_dict(), plain.state_dict()) < 1e-6
    for one, other in zip(note.rows, note_of_plain.rows, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
