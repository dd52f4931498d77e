"""SingleLossGAN through the real Trainer: all of automatic optimization works on it."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn

from lit_modules import SingleLossGAN
from lit_modules.parts import noise
from lit_modules.parts.adversarial import LOSSES, adversarial_loss
from lit_modules.parts.networks import PointDiscriminator, PointGenerator
from lit_modules.parts.single_loss import FORMS
from tests.lit_modules.training import fitted, parameters_differ_by

POINTS: dict[str, Any] = {"network": "points", "latent_dim": 2, "width": 8}
SGD: dict[str, Any] = POINTS | {"optimizer": "SGD", "discriminator_lr": 0.1, "generator_lr": 0.2}


# ---- It trains, whatever is chosen ----


@pytest.mark.parametrize("mode", FORMS)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_logs(trainer: Any, batches: Any, points: Tensor, loss: str, mode: str) -> None:
    t = trainer(max_steps=3)
    t.fit(SingleLossGAN(**POINTS, loss=loss, mode=mode), batches(points, 16))
    assert set(t.callback_metrics) == {"train/d_loss", "train/g_loss", "train/d_real", "train/d_fake"}
    assert all(value.isfinite() for value in t.callback_metrics.values())
    assert {"train/d_loss", "train/g_loss"} <= set(t.progress_bar_metrics)
    assert t.global_step == 3


@pytest.mark.parametrize("mode", FORMS)
def test_everything_at_once(trainer: Any, batches: Any, points: Tensor, mode: str) -> None:
    model = SingleLossGAN(
        **POINTS,
        mode=mode,
        loss="rsgan",
        pairing="all",
        spectral_norm=True,
        power_iterations=2,
        gp_weight=1.0,
        r1_weight=0.5,
        r2_weight=0.5,
        penalty_interval=2,
        optimizer="torch.optim.RMSprop",
        optimizer_args={"alpha": 0.9},
        lr_schedule="cosine",
        warmup_steps=2,
    )
    t = trainer(max_steps=4, gradient_clip_val=1.0, accumulate_grad_batches=2)
    t.fit(model, batches(points, 4))
    assert t.callback_metrics["train/penalty"].isfinite()


@pytest.mark.parametrize("size", [28, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_image_sizes(trainer: Any, batches: Any, size: int, channels: int) -> None:
    model = SingleLossGAN(image_size=size, channels=channels, width=4, channels_last=channels == 3)
    fitted(trainer, batches(torch.rand(8, channels, size, size), 4), model, max_steps=2)


@pytest.mark.parametrize("weight", [1.0, 3.0])
@pytest.mark.parametrize("mode", FORMS)
@pytest.mark.parametrize("loss", ["hinge", "sgan", "rasgan"])
def test_one_step_by_hand(trainer: Any, batches: Any, points: Tensor, loss: str, mode: str, weight: float) -> None:
    """Both players move at once, by the gradients of their own losses; with SGD, lambda scales G's step."""
    model = SingleLossGAN(**SGD, loss=loss, mode=mode, generator_weight=weight)
    g, d = copy.deepcopy(model.generator), copy.deepcopy(model.discriminator)
    trained = fitted(trainer, batches(points, 64), model, max_steps=1)

    pair = adversarial_loss(loss)
    (z,) = noise.draw([64], (2,), step=0, stream="z64")
    x_f = g(z)
    of_d = torch.autograd.grad(pair.discriminator(d(points), d(x_f.detach())), list(d.parameters()))
    of_g = torch.autograd.grad(pair.generator(d(points), d(x_f)), list(g.parameters()))
    with torch.no_grad():
        for parameters, gradients, lr in ((d.parameters(), of_d, 0.1), (g.parameters(), of_g, 0.2 * weight)):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(lr * gradient)
    expected = {f"generator.{k}": v for k, v in g.state_dict().items()}
    expected |= {f"discriminator.{k}": v for k, v in d.state_dict().items()}
    assert parameters_differ_by(trained, expected) < 1e-6


def test_modes_are_the_same_training(trainer: Any, batches: Any, points: Tensor) -> None:
    """With penalties and spectral norm, over several steps."""
    arguments = SGD | {"loss": "rsgan", "spectral_norm": True, "r1_weight": 0.3, "gp_weight": 0.5}
    start = SingleLossGAN(**arguments).state_dict()
    states = []
    for mode in FORMS:
        model = SingleLossGAN(**arguments, mode=mode)
        model.load_state_dict(start)
        states.append(fitted(trainer, batches(points, 16), model, max_steps=4))
    assert parameters_differ_by(states[0], start) > 1e-3
    assert all(parameters_differ_by(states[0], state) < 1e-5 for state in states[1:])


@pytest.mark.parametrize("r", ["r1_weight", "r2_weight"])
def test_penalties_move_the_discriminator_only(trainer: Any, batches: Any, points: Tensor, r: str) -> None:
    """A linear critic without a slope in its weights: D gets the penalty alone, G nothing from it."""

    class LinearCritic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(2))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.w - x.detach() @ self.w

    for mode in FORMS:
        free = SingleLossGAN(**SGD, mode=mode, loss="wgan", discriminator=LinearCritic())
        bound = SingleLossGAN(
            **SGD, mode=mode, loss="wgan", discriminator=LinearCritic(), penalty_interval=2, **{r: 1.0}
        )
        bound.load_state_dict(free.state_dict())
        a, b = (fitted(trainer, batches(points, 16), model, max_steps=1) for model in (free, bound))
        # d/dw of 1/2 |w|^2 is w, twice as strong at every second step: 1 - 0.1 * 2.
        assert torch.allclose(b["discriminator.w"], torch.full((2,), 0.8))
        assert torch.equal(a["discriminator.w"], torch.ones(2))
        generators = [{k: v for k, v in state.items() if k.startswith("generator")} for state in (a, b)]
        assert parameters_differ_by(*generators) < 1e-6


@pytest.mark.parametrize("mode", FORMS)
def test_penalties_use_the_weights_of_the_scores(trainer: Any, batches: Any, points: Tensor, mode: str) -> None:
    """The spectral norm iterates once a step, with a penalty as without."""
    free = SingleLossGAN(**SGD, mode=mode, spectral_norm=True)
    bound = SingleLossGAN(**SGD, mode=mode, spectral_norm=True, r1_weight=1.0)
    bound.load_state_dict(free.state_dict())
    for model in (free, bound):
        fitted(trainer, batches(points, 16), model, max_steps=1)
    vectors = [dict(model.discriminator.named_buffers()) for model in (free, bound)]
    assert len(vectors[0]) == 8
    assert parameters_differ_by(*vectors) == 0


# ---- Automatic optimization ----


@pytest.mark.parametrize("mode", FORMS)
@pytest.mark.parametrize("penalty", [{}, {"gp_weight": 1.0, "r1_weight": 0.3}])
def test_accumulation_equals_a_big_batch(trainer: Any, batches: Any, points: Tensor, penalty: Any, mode: str) -> None:
    big = SingleLossGAN(**SGD, **penalty, mode=mode, loss="sgan")
    start = copy.deepcopy(big.state_dict())
    whole = trainer(max_steps=4)
    whole.fit(big, batches(points, 32))
    for k in (2, 4):
        small = SingleLossGAN(**dict(big.hparams))
        small.load_state_dict(start)
        parts = trainer(max_steps=4, accumulate_grad_batches=k)
        parts.fit(small, batches(points, 32 // k))
        assert parameters_differ_by(start, small.state_dict()) > 1e-3
        assert parameters_differ_by(big.state_dict(), small.state_dict()) < 1e-6
        for name, value in whole.callback_metrics.items():
            assert parts.callback_metrics[name].item() == pytest.approx(value.item(), abs=1e-6)


def test_a_smaller_last_batch_draws_other_noise(trainer: Any, batches: Any, points: Tensor) -> None:
    drawn: list[Tensor] = []

    class Spy(PointGenerator):
        def forward(self, z: Tensor) -> Tensor:
            drawn.append(z)
            return super().forward(z)

    model = SingleLossGAN(**SGD, generator=Spy(width=8))
    fitted(trainer, batches(points, 24), model, max_epochs=1, max_steps=-1, accumulate_grad_batches=3)
    assert [len(z) for z in drawn] == [24, 24, 16]
    assert len(torch.cat(drawn).unique(dim=0)) == 64


class Norms(Callback):
    """Norm of each network's gradients as the optimizer used them."""

    def __init__(self) -> None:
        self.d = self.g = 0.0

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        self.d, self.g = (
            torch.stack([p.grad.norm() for p in network.parameters()]).norm().item()
            for network in (module.discriminator, module.generator)
        )


@pytest.mark.parametrize("precision", ["32", "bf16-mixed", "16-mixed"])
def test_clipping(trainer: Any, batches: Any, points: Tensor, precision: Any) -> None:
    """Each network's norm apart, or both together; under fp16 after the loss scale of 65536 is taken out."""
    plugins = {} if precision == "32" else {"plugins": [MixedPrecision(precision, "cpu")]}
    start = SingleLossGAN(**SGD).state_dict()

    def norms(scope: str, **kwargs: Any) -> Norms:
        model, callback = SingleLossGAN(**SGD, gradient_clip_scope=scope), Norms()
        model.load_state_dict(start)
        fitted(trainer, batches(points, 32), model, max_steps=1, callbacks=[callback], **plugins, **kwargs)
        return callback

    free = norms("network")
    assert min(free.d, free.g) > 1e-2
    apart = norms("network", gradient_clip_val=1e-3)
    assert (apart.d, apart.g) == pytest.approx((1e-3, 1e-3), rel=1e-3)
    together = norms("global", gradient_clip_val=1e-3)
    assert math.hypot(together.d, together.g) == pytest.approx(1e-3, rel=1e-3)
    assert together.d / together.g == pytest.approx(free.d / free.g, rel=1e-2)
    for scope in ("network", "global"):
        by_value = norms(scope, gradient_clip_val=1e-5, gradient_clip_algorithm="value")
        assert 0 < by_value.d < 1e-5 * 20
        assert 0 < by_value.g < 1e-5 * 20


def test_fused_optimizer_is_not_clipped_while_scaled(trainer: Any, batches: Any, points: Tensor) -> None:
    model = SingleLossGAN(**POINTS, optimizer_args={"fused": True})
    with pytest.raises(ValueError, match=r"set optimizer_args\.fused=false"):
        trainer(max_steps=1, gradient_clip_val=1.0, plugins=[MixedPrecision("16-mixed", "cpu")]).fit(
            model, batches(points, 16)
        )
    fitted(trainer, batches(points, 16), model, gradient_clip_val=1.0, precision="bf16-mixed")


@pytest.mark.parametrize("mode", FORMS)
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed", "64-true", "bf16-true"])
def test_precision(trainer: Any, batches: Any, precision: str, mode: str) -> None:
    model = SingleLossGAN(width=4, mode=mode, spectral_norm=True, r1_weight=1.0, gp_weight=1.0)
    plugins = {"plugins": [MixedPrecision("16-mixed", "cpu")]} if precision == "16-mixed" else {"precision": precision}
    t = trainer(max_steps=3, **plugins)
    start = copy.deepcopy(model.state_dict())
    t.fit(model, batches(torch.rand(8, 1, 28, 28) * 2 - 1, 4))
    assert all(v.isfinite() for v in t.callback_metrics.values())
    assert all(v.isfinite().all() for v in model.state_dict().values())
    assert parameters_differ_by({k: v.float() for k, v in model.state_dict().items()}, start) > 1e-4
    assert model.sample(2).dtype == torch.float32


def test_learning_rates_and_schedules(trainer: Any, batches: Any, points: Tensor, tmp_path: Path) -> None:
    """Two groups by name, one schedule for both, a step of it for each step of training."""
    model = SingleLossGAN(**POINTS, discriminator_lr=0.4, generator_lr=0.1, lr_schedule="linear", warmup_steps=2)
    seen: list[list[float]] = []

    class Track(Callback):
        def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
            seen.append([group["lr"] for group in optimizer.param_groups])

    monitor = LearningRateMonitor("step")
    logger = CSVLogger(tmp_path)
    t = trainer(
        max_steps=4, accumulate_grad_batches=2, callbacks=[Track(), monitor], logger=logger, log_every_n_steps=1
    )
    t.fit(model, batches(points, 8))
    factors = [0.5, 1.0, 1.0, 0.5]
    assert torch.allclose(torch.tensor(seen), torch.tensor([[0.4 * f, 0.1 * f] for f in factors]))
    assert set(monitor.lrs) == {"lr-Adam/discriminator", "lr-Adam/generator"}
    endless = SingleLossGAN(**POINTS, lr_schedule="cosine")
    with pytest.raises(ValueError, match=r"lr_schedule='cosine' falls to 0.*trainer.max_steps"):
        trainer(max_steps=-1, max_epochs=-1).fit(endless, batches(points, 8))


@pytest.mark.parametrize(("optimizer", "moves"), [("SGD", 3.0), ("Adam", 1.0), ("RMSprop", 1.0)])
def test_generator_weight_is_a_learning_rate_for_sgd_only(
    trainer: Any, batches: Any, points: Tensor, optimizer: str, moves: float
) -> None:
    start = SingleLossGAN(**POINTS).state_dict()
    distances = []
    for weight in (1.0, 3.0):
        model = SingleLossGAN(
            **POINTS, optimizer=optimizer, generator_weight=weight, discriminator_lr=1e-5, generator_lr=1e-4
        )
        model.load_state_dict(start)
        if weight != 1.0 and moves == 1.0:
            with pytest.warns(UserWarning, match=r"generator_weight=3.0 does nothing with .*: set generator_lr"):
                fitted(trainer, batches(points, 64), model, max_steps=1)
        else:
            fitted(trainer, batches(points, 64), model, max_steps=1)
        moved = [(v - start[k]).norm() for k, v in model.state_dict().items() if k.startswith("generator")]
        distances.append(torch.stack(moved).norm().item())
    assert distances[1] / distances[0] == pytest.approx(moves, rel=0.02)


# ---- Refused at the start ----


def batch_normed() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.LeakyReLU(0.2), nn.Linear(8, 1))


def test_mixing_discriminator_is_refused(trainer: Any, batches: Any, points: Tensor) -> None:
    model = SingleLossGAN(**POINTS, discriminator=batch_normed())
    start = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"in 1 \(BatchNorm1d\) the other samples.*use mode='article'"):
        trainer(max_steps=2).fit(model, batches(points, 16))
    assert parameters_differ_by(model.state_dict(), start) == 0
    for mode in ("article", "functional"):
        fitted(trainer, batches(points, 16), SingleLossGAN(**POINTS, mode=mode, discriminator=batch_normed()))


def test_dropout_is_refused_where_it_leaks(trainer: Any, batches: Any, points: Tensor) -> None:
    def dropping() -> nn.Module:
        return nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.LeakyReLU(0.2), nn.Linear(8, 1))

    with pytest.raises(ValueError, match=r"1 \(Dropout\) changes them.*use mode='functional', or 'one_pass'"):
        trainer(max_steps=2).fit(SingleLossGAN(**POINTS, mode="article", discriminator=dropping()), batches(points, 16))
    for mode in ("functional", "one_pass"):
        fitted(trainer, batches(points, 16), SingleLossGAN(**POINTS, mode=mode, discriminator=dropping()))


def test_refused_in_a_second_training_too(trainer: Any, batches: Any, points: Tensor) -> None:
    model = SingleLossGAN(**POINTS)
    fitted(trainer, batches(points, 16), model)
    model.discriminator = batch_normed()
    with pytest.raises(ValueError, match="BatchNorm1d"):
        fitted(trainer, batches(points, 16), model)


def test_trying_out_leaves_no_trace(
    trainer: Any, batches: Any, points: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = SingleLossGAN(**SGD, spectral_norm=True)
    states = []
    for tried in (True, False):
        model = copy.deepcopy(start)
        if not tried:
            monkeypatch.setattr("lit_modules.single_loss_gan.mixing_layer", lambda *_: None)
        states.append(fitted(trainer, batches(points, 16), model))
    assert parameters_differ_by(*states) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "one-pass"}, "unknown mode 'one-pass'. Did you mean 'one_pass'"),
        ({"loss": "hinged"}, "Did you mean 'hinge'"),
        ({"generator_weight": 0.0}, "generator_weight=0.0 must be positive"),
        ({"gradient_clip_scope": "networks"}, "Did you mean 'network'"),
        ({"latent_dim": 0}, "latent_dim=0 must be at least 1"),
        ({"warmup_steps": -1}, "warmup_steps=-1 must not be negative"),
        ({"lr_schedule": "cosin"}, "Did you mean 'cosine'"),
        ({"r1_weight": -1.0}, "r1_weight=-1.0 must not be negative"),
        ({"optimizer_args": {"epsilon": 1}}, "Did you mean 'eps'"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SingleLossGAN(**arguments)


# ---- Checkpoints, compiling, learning ----


def test_checkpoint_reloads_from_python(trainer: Any, batches: Any, points: Tensor, tmp_path: Path) -> None:
    model, path = SingleLossGAN(**POINTS, generator_weight=0.5, optimizer="SGD"), tmp_path / "a.ckpt"
    t = trainer(max_steps=2)
    t.fit(model, batches(points, 16))
    t.save_checkpoint(path)
    loaded = SingleLossGAN.load_from_checkpoint(path, weights_only=True)
    assert dict(loaded.hparams) == dict(model.hparams)
    assert parameters_differ_by(model.state_dict(), loaded.state_dict()) == 0


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:The .grad attribute of a Tensor:UserWarning"
)
@pytest.mark.parametrize("mode", FORMS)
def test_compiled_training_equals_eager(trainer: Any, batches: Any, mode: str) -> None:
    images = torch.rand(12, 1, 28, 28) * 2 - 1
    arguments: dict[str, Any] = {"width": 4, "mode": mode, "spectral_norm": True, "r1_weight": 1.0, "optimizer": "SGD"}
    eager = SingleLossGAN(**arguments)
    compiled = SingleLossGAN(**arguments, compile=True)
    compiled.load_state_dict(eager.state_dict())
    a = fitted(trainer, batches(images, 4), eager)
    b = fitted(trainer, batches(images, 4), compiled)
    assert compiled.generator._compiled_call_impl is not None
    assert parameters_differ_by(a, b) < 1e-5


@pytest.mark.parametrize("mode", FORMS)
def test_learns_a_ring(trainer: Any, batches: Any, points: Tensor, mode: str) -> None:
    """The generator gets nearer to the data."""
    model = SingleLossGAN(
        network="points",
        latent_dim=4,
        width=32,
        mode=mode,
        loss="rsgan",
        r1_weight=0.1,
        generator_lr=2e-3,
        discriminator_lr=2e-3,
    )

    def distance() -> float:
        return torch.cdist(model.sample(200), points).min(dim=1).values.mean().item()

    before = distance()
    trainer(max_steps=400, max_epochs=-1).fit(model, batches(points, 64))
    assert distance() < 0.4 * before


@pytest.mark.parametrize("mode", FORMS)
def test_discriminator_runs_as_often_as_promised(trainer: Any, batches: Any, points: Tensor, mode: str) -> None:
    """Samples through D in a step of 16 real ones: 2 x 16 in one pass, 3 x 16 in the other modes."""
    seen: list[int] = []

    class Counting(PointDiscriminator):
        def forward(self, x: Tensor) -> Tensor:
            if torch.is_grad_enabled():
                seen.append(len(x))
            return super().forward(x)

    fitted(trainer, batches(points, 16), SingleLossGAN(**POINTS, mode=mode, discriminator=Counting()), max_steps=1)
    assert seen == ([32] if mode == "one_pass" else [16] * 3)
