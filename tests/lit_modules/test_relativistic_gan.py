"""RelativisticGAN through the real Trainer."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from lit_modules import RelativisticGAN
from lit_modules.parts.adversarial import LOSSES
from lit_modules.parts.networks import PointDiscriminator, PointGenerator
from tests.lit_modules.training import fitted, parameters_differ_by

POINTS: dict[str, Any] = {"network": "points", "latent_dim": 2, "width": 8}


# ---- It trains, whatever is chosen ----


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_logs(trainer: Any, batches: Any, points: Tensor, loss: str) -> None:
    t = trainer(max_steps=3)
    t.fit(RelativisticGAN(**POINTS, loss=loss), batches(points, 16))
    expected = {"train/d_loss", "train/g_loss", "train/d_real", "train/d_fake"}
    assert set(t.callback_metrics) == expected
    assert all(value.isfinite() for value in t.callback_metrics.values())
    assert {"train/d_loss", "train/g_loss"} == set(t.progress_bar_metrics)


@pytest.mark.parametrize("size", [28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_image_sizes(trainer: Any, batches: Any, size: int, channels: int) -> None:
    model = RelativisticGAN(image_size=size, channels=channels, width=4, channels_last=channels == 3)
    fitted(trainer, batches(torch.rand(8, channels, size, size), 4), model, max_steps=2)


def test_everything_at_once(trainer: Any, batches: Any, points: Tensor) -> None:
    model = RelativisticGAN(
        **POINTS,
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
        discriminator_steps=2,
        generator_steps=2,
        gradient_clip_val=1.0,
        accumulate_grad_batches=2,
    )
    t = trainer(max_steps=4)
    t.fit(model, batches(points, 4))
    assert t.callback_metrics["train/penalty"].isfinite()


def test_first_losses_are_log_2(trainer: Any, batches: Any, points: Tensor) -> None:
    """A discriminator that can't tell: log 2 for RSGAN, 2 log 2 for SGAN."""
    for loss, expected in (("rsgan", math.log(2)), ("sgan", 2 * math.log(2))):
        model = RelativisticGAN(**POINTS, loss=loss)
        with torch.no_grad():
            for parameter in model.discriminator.parameters():
                parameter.zero_()
        t = trainer(max_steps=1)
        t.fit(model, batches(points, 64))
        assert t.callback_metrics["train/d_loss"].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("loss", ["sgan", "rsgan", "rasgan"])
def test_one_step_by_hand(trainer: Any, batches: Any, points: Tensor, loss: str) -> None:
    """D's step and then G's, with SGD, in plain PyTorch on the same noise."""
    from lit_modules.parts import adversarial, noise

    model = RelativisticGAN(**POINTS, loss=loss, optimizer="SGD", discriminator_lr=0.1, generator_lr=0.2)
    g, d = copy.deepcopy(model.generator), copy.deepcopy(model.discriminator)
    trained = fitted(trainer, batches(points, 64), model, max_steps=1)

    d_loss, g_loss = adversarial.LOSSES[loss]
    (z_d,), (z_g,) = (noise.draw([64], (2,), step=0, stream=s) for s in ("d0", "g0"))
    gradients = torch.autograd.grad(d_loss(d(points), d(g(z_d))), list(d.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(d.parameters(), gradients, strict=True):
            parameter.sub_(0.1 * gradient)
    gradients = torch.autograd.grad(g_loss(d(points), d(g(z_g))), list(g.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(g.parameters(), gradients, strict=True):
            parameter.sub_(0.2 * gradient)
    expected = {f"generator.{k}": v for k, v in g.state_dict().items()}
    expected |= {f"discriminator.{k}": v for k, v in d.state_dict().items()}
    assert parameters_differ_by(trained, expected) < 1e-6


# ---- What manual optimization would leave out ----


@pytest.mark.parametrize("penalty", [{}, {"gp_weight": 1.0, "r1_weight": 0.3, "r2_weight": 0.2}])
def test_accumulation_equals_a_big_batch(trainer: Any, batches: Any, points: Tensor, penalty: Any) -> None:
    big = RelativisticGAN(**POINTS, **penalty, optimizer="SGD", discriminator_lr=0.1, generator_lr=0.1)
    for k in (2, 4):
        small = RelativisticGAN(**(dict(big.hparams) | {"accumulate_grad_batches": k}))
        small.load_state_dict(big.state_dict())
        whole = copy.deepcopy(big)
        a = fitted(trainer, batches(points, 32), whole, max_steps=4)
        b = fitted(trainer, batches(points, 32 // k), small, max_steps=4)
        assert parameters_differ_by(a, big.state_dict()) > 1e-3
        assert parameters_differ_by(a, b) < 1e-6


def test_discriminator_steps_see_fresh_samples(trainer: Any, batches: Any, points: Tensor) -> None:
    class Spy(PointDiscriminator):
        seen: list[Tensor] = []  # noqa: RUF012

        def forward(self, x: Tensor) -> Tensor:
            if torch.isin(x, points).all():
                self.seen.append(x)
            return super().forward(x)

    model = RelativisticGAN(**POINTS, discriminator_steps=3, discriminator=Spy(width=8))
    fitted(trainer, batches(points, 8), model, max_steps=2)
    # In each step D's three batches, and the last of them again with G.
    order = [0, 1, 2, 2, 3, 4, 5, 5]
    assert torch.equal(torch.stack(Spy.seen), torch.stack([points.split(8)[i] for i in order]))


class GradientNorms(Callback):
    """Norm of each network's gradients as its optimizer used them: [d, g, d, g, ...]."""

    def __init__(self) -> None:
        self.norms: list[float] = []

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        for network in (module.discriminator, module.generator):
            grads = [p.grad for p in network.parameters()]
            self.norms.append(torch.stack([g.norm() for g in grads]).norm().item())


@pytest.mark.parametrize("precision", ["32", "bf16-mixed", "16-mixed"])
def test_clipping(trainer: Any, batches: Any, points: Tensor, precision: Any) -> None:
    """At the norm asked for, and under fp16 after the loss scale of 65536 is taken out."""
    plugins = {} if precision == "32" else {"plugins": [MixedPrecision(precision, "cpu")]}
    free, clipped, values = GradientNorms(), GradientNorms(), GradientNorms()
    model = RelativisticGAN(**POINTS, optimizer="SGD", discriminator_lr=1e-3, generator_lr=1e-3)
    copies = [copy.deepcopy(model) for _ in range(2)]
    copies[0].hparams["gradient_clip_val"] = 1e-3
    copies[1].hparams.update(gradient_clip_val=1e-5, gradient_clip_algorithm="value")
    for callback, m in ((free, model), (clipped, copies[0]), (values, copies[1])):
        fitted(trainer, batches(points, 32), m, max_steps=1, callbacks=[callback], **plugins)
    assert all(1e-2 < norm < 10 for norm in free.norms)
    assert clipped.norms == pytest.approx([1e-3, 1e-3], rel=1e-3)
    sizes = [sum(p.numel() for p in n.parameters()) for n in (model.discriminator, model.generator)]
    assert all(0 < norm <= 1.001e-5 * n**0.5 for norm, n in zip(values.norms, sizes, strict=True))


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed", "64-true", "bf16-true"])
def test_precision(trainer: Any, batches: Any, precision: str) -> None:
    model = RelativisticGAN(width=4, spectral_norm=True, r1_weight=1.0, gp_weight=1.0)
    plugins = {"plugins": [MixedPrecision("16-mixed", "cpu")]} if precision == "16-mixed" else {"precision": precision}
    t = trainer(max_steps=3, **plugins)
    start = copy.deepcopy(model.state_dict())
    t.fit(model, batches(torch.rand(8, 1, 28, 28) * 2 - 1, 4))
    assert all(v.isfinite() for v in t.callback_metrics.values())
    assert all(v.isfinite().all() for v in model.state_dict().values())
    assert parameters_differ_by({k: v.float() for k, v in model.state_dict().items()}, start) > 1e-4
    assert model.sample(2).dtype == torch.float32


def test_lazy_penalty_is_as_strong(trainer: Any, batches: Any, points: Tensor) -> None:
    """Interval 2: nothing at odd updates, twice the gradient at even ones. Seen on a linear critic under SGD."""

    class LinearCritic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(2))

        def forward(self, x: Tensor) -> Tensor:
            # Scores without a slope in w but with w as their gradient in x: only the penalty moves w.
            return x @ self.w - x.detach() @ self.w

    class Track(Callback):
        w: list[float] = []  # noqa: RUF012

        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            self.w.append(module.discriminator.w[0].item())

    model = RelativisticGAN(
        **POINTS, optimizer="SGD", discriminator_lr=0.1, r1_weight=1.0, penalty_interval=2, discriminator=LinearCritic()
    )
    # d/dw of r1/2 |w|^2 is w: each penalized step takes off 0.1 * 2 * w.
    fitted(trainer, batches(points, 16), model, max_steps=4, callbacks=[Track()])
    assert Track.w == pytest.approx([0.8, 0.8, 0.64, 0.64])


@pytest.mark.parametrize("argument", [{"gradient_clip_val": 1.0}, {"accumulate_grad_batches": 2}])
def test_trainer_arguments_that_manual_mode_refuses(trainer: Any, batches: Any, points: Tensor, argument: Any) -> None:
    with pytest.raises(MisconfigurationException, match=next(iter(argument))):
        trainer(max_steps=1, **argument).fit(RelativisticGAN(**POINTS), batches(points, 16))


def test_training_mode_after_eval(trainer: Any, batches: Any, points: Tensor) -> None:
    model = RelativisticGAN(**POINTS, spectral_norm=True).eval()
    seen: list[bool] = []
    model.discriminator.register_forward_pre_hook(lambda module, _: seen.append(module.training))
    fitted(trainer, batches(points, 16), model, max_steps=1)
    assert seen == [True] * 4


# ---- Checkpoints ----


def test_checkpoint_reloads_from_python(trainer: Any, batches: Any, points: Tensor, tmp_path: Path) -> None:
    model, path = RelativisticGAN(**POINTS, optimizer_args={"eps": 1e-7}, loss="rasgan"), tmp_path / "a.ckpt"
    t = trainer(max_steps=2)
    t.fit(model, batches(points, 16))
    t.save_checkpoint(path)
    torch.load(path, weights_only=True)
    loaded = RelativisticGAN.load_from_checkpoint(path, weights_only=True)
    assert dict(loaded.hparams) == dict(model.hparams)
    assert loaded.hparams["betas"] == [0.5, 0.999]
    assert parameters_differ_by(model.state_dict(), loaded.state_dict()) == 0
    assert all(module.training for module in loaded.modules())
    z = model.latents(3)
    assert torch.equal(loaded.decode(z), model.decode(z))


def test_injected_networks(trainer: Any, batches: Any, points: Tensor, tmp_path: Path) -> None:
    def networks() -> dict[str, Any]:
        g = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 2))
        return {"generator": g, "discriminator": nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1))}

    model, path = RelativisticGAN(latent_dim=5, spectral_norm=True, r1_weight=1.0, **networks()), tmp_path / "a.ckpt"
    t = trainer(max_steps=2)
    t.fit(model, batches(points, 16))
    t.save_checkpoint(path)
    assert not {"generator", "discriminator"} & set(model.hparams)
    loaded = RelativisticGAN.load_from_checkpoint(path, weights_only=True, **networks())
    z = model.latents(3)
    assert torch.equal(loaded.decode(z), model.decode(z))


def test_networks_that_do_not_fit(trainer: Any, batches: Any, points: Tensor) -> None:
    model = RelativisticGAN(latent_dim=5, generator=nn.Linear(5, 3), discriminator=nn.Linear(2, 1))
    with pytest.raises(ValueError, match=r"generator makes \(16, 3\), the batch holds \(16, 2\)"):
        trainer(max_steps=1).fit(model, batches(points, 16))


def test_networks_by_class_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From YAML, and back from the checkpoint without naming the networks again."""
    config = {
        "class_path": "lit_modules.RelativisticGAN",
        "init_args": {
            "latent_dim": 3,
            "generator": {
                "class_path": "lit_modules.parts.networks.PointGenerator",
                "init_args": {"dimensions": 2, "latent_dim": 3, "width": 5},
            },
            "discriminator": {"class_path": "lit_modules.parts.networks.PointDiscriminator", "init_args": {"width": 6}},
        },
    }
    (tmp_path / "config.yaml").write_text(json.dumps({"model": config}))
    monkeypatch.setattr("sys.argv", ["run.py"])
    cli = LightningCLI(
        LightningModule,
        subclass_mode_model=True,
        run=False,
        args=["--config", str(tmp_path / "config.yaml"), "--trainer.logger=false", "--trainer.accelerator=cpu"],
        save_config_callback=None,
        seed_everything_default=False,
    )
    model = cli.model
    assert isinstance(model.generator, PointGenerator)
    assert model.hparams["betas"] == [0.5, 0.999]
    cli.trainer.strategy.connect(model)
    cli.trainer.save_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    loaded = RelativisticGAN.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    z = model.latents(3)
    assert torch.equal(loaded.decode(z), model.decode(z))


class StopAfter(Callback):
    """Save a checkpoint at a batch, as a signal would."""

    def __init__(self, batch: int, path: Path) -> None:
        self.batch, self.path = batch, path

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx + 1 == self.batch:
            trainer.save_checkpoint(self.path)


class Resumable:
    """Wraps a loader so that it goes on after the batches that were handed out before a checkpoint."""

    def __init__(self, loader: Any) -> None:
        self.loader, self.done = loader, 0

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Any:
        skip, self.done = self.done, 0
        for i, batch in enumerate(self.loader):
            if i >= skip:
                self.done = i + 1
                yield batch
        self.done = 0

    def state_dict(self) -> dict[str, int]:
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.done = state["done"]


@pytest.mark.parametrize("stop", [3, 4, 5])
def test_resume_inside_a_step_is_exact(trainer: Any, batches: Any, points: Tensor, tmp_path: Path, stop: int) -> None:
    """Steps of 4 batches; the gathered ones come back from the checkpoint."""
    path = tmp_path / "a.ckpt"
    arguments = POINTS | {"discriminator_steps": 2, "accumulate_grad_batches": 2, "lr_schedule": "linear"}
    model = RelativisticGAN(**arguments)
    trainer(max_steps=4, callbacks=[StopAfter(stop, path)]).fit(model, Resumable(batches(points, 4)))
    gathered = torch.load(path, weights_only=True).get("gathered_batches", [])
    assert len(gathered) == stop % 4
    resumed = RelativisticGAN(**arguments)
    t = trainer(max_steps=4)
    t.fit(resumed, Resumable(batches(points, 4)), ckpt_path=path, weights_only=True)
    assert t.global_step == t.fit_loop.epoch_loop._batches_that_stepped == 4
    assert parameters_differ_by(model.state_dict(), resumed.state_dict()) == 0


# ---- Mistakes ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "rsgam"}, "Did you mean 'rsgan'"),
        ({"network": "point"}, "Did you mean 'points'"),
        ({"lr_schedule": "cosin"}, "unknown lr_schedule 'cosin'. Did you mean 'cosine'"),
        ({"gradient_clip_algorithm": "max"}, "unknown gradient_clip_algorithm 'max'"),
        ({"optimizer": "torch.optim.LBFGS"}, "all but LBFGS and LossGuidedFlow can be chosen"),
        ({"optimizer_args": {"bata": 1}}, "unknown argument of torch.optim.Adam in optimizer_args 'bata'"),
        ({"generator_steps": 0}, "generator_steps=0 must be at least 1"),
        ({"warmup_steps": -1}, "warmup_steps=-1"),
        ({"gradient_clip_val": 0.0}, "gradient_clip_val=0.0 must be positive"),
        ({"r1_weight": -1.0}, "r1_weight=-1.0"),
        ({"image_size": 30}, "image_size=30"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RelativisticGAN(**arguments)


# ---- Known answers ----


class Gaussian(nn.Module):
    """A generator that is not trained: q = N(mean, scale^2 I)."""

    def __init__(self, mean: Tensor, scale: float) -> None:
        super().__init__()
        self.mean, self.scale = nn.Parameter(mean), scale

    def forward(self, z: Tensor) -> Tensor:
        return self.mean + self.scale * z


@pytest.mark.parametrize("loss", ["sgan", "rsgan"])
@pytest.mark.parametrize("dimensions", [1, 2])
def test_optimal_discriminator(trainer: Any, batches: Any, loss: str, dimensions: int) -> None:
    """T* = log p/q for p = N(0, I), q = N(1, 1.2^2 I), up to a constant for RSGAN."""
    mean, scale = torch.ones(dimensions), 1.2
    model = RelativisticGAN(
        loss=loss,
        latent_dim=dimensions,
        generator=Gaussian(mean, scale),
        discriminator=PointDiscriminator(dimensions, width=64, depth=2),
        generator_lr=0.0,
        discriminator_lr=5e-3,
        betas=[0.9, 0.99],
        lr_schedule="linear",
    )
    steps, n = 400, 1024
    real = torch.randn(steps * n, dimensions)
    trainer(max_steps=steps).fit(model, batches(real, n))
    x = real[:4000]
    log_ratio = -x.square().sum(1) / 2 + ((x - mean) / scale).square().sum(1) / 2 + dimensions * math.log(scale)
    with torch.no_grad():
        score = model.discriminator(x)
    if loss == "rsgan":
        score, log_ratio = score - score.mean(), log_ratio - log_ratio.mean()
    assert torch.corrcoef(torch.stack([score, log_ratio]))[0, 1] > 0.99
    assert (score - log_ratio).abs().mean() < 0.1


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:The .grad attribute of a Tensor:UserWarning"
)
def test_compiled_training_equals_eager(trainer: Any, batches: Any) -> None:
    images = torch.rand(12, 1, 28, 28) * 2 - 1
    arguments: dict[str, Any] = {"width": 4, "spectral_norm": True, "r1_weight": 1.0, "optimizer": "SGD"}
    eager = RelativisticGAN(**arguments)
    compiled = RelativisticGAN(**arguments, compile=True)
    compiled.load_state_dict(eager.state_dict())
    a = fitted(trainer, batches(images, 4), eager)
    b = fitted(trainer, batches(images, 4), compiled)
    assert compiled.generator._compiled_call_impl is not None
    assert parameters_differ_by(a, b) < 1e-5


def test_learns_a_ring(trainer: Any, batches: Any, points: Tensor) -> None:
    """The generator gets nearer to the data."""
    model = RelativisticGAN(
        network="points", latent_dim=4, width=32, r1_weight=0.1, generator_lr=2e-3, discriminator_lr=2e-3
    )

    def distance() -> float:
        return torch.cdist(model.sample(200), points).min(dim=1).values.mean().item()

    before = distance()
    trainer(max_steps=400, max_epochs=-1).fit(model, batches(points, 64))
    assert distance() < 0.4 * before
