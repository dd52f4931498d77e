"""EntropicAutoencoder and its baselines through the real Trainer."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lit_modules import EntropicAutoencoder
from lit_modules.entropic_autoencoder import REGULARIZERS
from lit_modules.parts import noise
from lit_modules.parts.codes import kl_to_normal
from lit_modules.parts.entropy import knn_entropy
from tests.lit_modules.training import fitted, parameters_differ_by

SMALL: dict[str, Any] = {"image_size": 8, "latent_dim": 3, "network": "dense"}
LOGGED = {
    "entropy": {"train/loss", "train/reconstruction", "train/entropy"},
    "none": {"train/loss", "train/reconstruction"},
    "kl": {"train/loss", "train/reconstruction", "train/kl"},
    "mmd": {"train/loss", "train/reconstruction", "train/mmd"},
}


@pytest.fixture
def images() -> Tensor:
    """32 images (32, 1, 8, 8) of slanted waves, in [-1, 1]."""
    phase = torch.linspace(0, 6, 32)[:, None, None, None]
    grid = torch.arange(8.0)
    return (phase + grid[:, None] / 3 + grid / 2).sin()


@pytest.mark.parametrize("network", ["dense", "convolutional"])
@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_trains_and_logs(trainer: Any, batches: Any, images: Tensor, regularizer: str, network: str) -> None:
    model = EntropicAutoencoder(**SMALL | {"network": network, "width": 4}, regularizer=regularizer)
    t = trainer(max_steps=3)
    t.fit(model, batches(images, 8))
    assert set(t.callback_metrics) == LOGGED[regularizer]
    assert all(value.isfinite() for value in t.callback_metrics.values())


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_loss_by_hand(trainer: Any, batches: Any, images: Tensor, regularizer: str) -> None:
    """The first step's logged numbers, from the networks as they were."""
    model = EntropicAutoencoder(**SMALL, regularizer=regularizer, regularizer_weight=0.5, nearest_k=2)
    encoder, decoder = copy.deepcopy(model.encoder), copy.deepcopy(model.decoder)
    t = trainer(max_steps=1)
    t.fit(model, batches(images, 32))
    logged = {name.removeprefix("train/"): value.item() for name, value in t.callback_metrics.items()}
    z = out = encoder(images)
    if regularizer == "entropy":
        z = (out - out.mean(0)) / (out.var(0, correction=0) + 1e-5).sqrt()
    elif regularizer == "kl":
        mean, log_var = out[:, :3], out[:, 3:]
        (epsilon,) = noise.draw([32], (3,), step=0, stream="codes")
        z = mean + (log_var / 2).exp() * epsilon
        assert logged["kl"] == pytest.approx(kl_to_normal(mean, log_var).mean().item(), rel=1e-4)
    error = (decoder(z) - images).square().sum(dim=(1, 2, 3)).mean().item()
    assert logged["reconstruction"] == pytest.approx(error, rel=1e-4)
    if regularizer == "entropy":
        assert logged["entropy"] == pytest.approx(knn_entropy(z, 2).item(), abs=1e-3)
    sign = -1 if regularizer == "entropy" else 1
    expected = logged["reconstruction"] + sign * 0.5 * logged.get(regularizer, 0.0)
    assert logged["loss"] == pytest.approx(expected, rel=1e-5)


def test_regularizer_warms_up(trainer: Any, batches: Any, images: Tensor) -> None:
    """After n of 4 steps lambda is n/4: seen in loss = reconstruction - lambda H."""
    weights: list[float] = []
    model = EntropicAutoencoder(**SMALL, regularizer_weight=2.0, regularizer_warmup_steps=4)
    t = trainer(max_steps=6)

    def note(*_: Any) -> None:
        logged = {name: value.item() for name, value in t.callback_metrics.items()}
        weights.append((logged["train/reconstruction"] - logged["train/loss"]) / logged["train/entropy"])

    model.on_train_batch_end = note  # type: ignore[method-assign]
    t.fit(model, batches(images, 8))
    assert weights == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0], rel=1e-3)


def test_entropy_makes_codes_normal(trainer: Any, batches: Any) -> None:
    """Images of 2 uniform numbers: with little but the entropy to care for, codes of new ones tend to N(0, I).

    With variance 1, in 2 dimensions: log 12 = 2.485 nats and kurtosis 1.8 if uniform, log(2 pi e) = 2.838 and 3 if
    normal.
    """
    generator = torch.Generator().manual_seed(0)

    def drawn(n: int) -> Tensor:
        return torch.rand(n, 2, generator=generator)[:, :, None, None].sub(0.5)

    encoder = nn.Sequential(nn.Flatten(), nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))
    decoder = nn.Sequential(nn.Linear(2, 2), nn.Unflatten(1, (2, 1, 1)))
    own: dict[str, Any] = {"latent_dim": 2, "encoder": encoder, "decoder": decoder, "nearest_k": 4}
    model = EntropicAutoencoder(**own, regularizer_weight=100.0, learning_rate=0.01, lr_schedule="cosine")
    fitted(trainer, batches(drawn(256 * 600), 256), model, max_steps=600)
    codes = model.encode(drawn(2048))
    codes = (codes - codes.mean(dim=0)) / codes.std(dim=0)
    assert 2.7 < knn_entropy(codes) < 2.9
    assert (codes.pow(4).mean(dim=0) > 2.3).all()


def test_learns_to_reconstruct(trainer: Any, batches: Any, images: Tensor) -> None:
    model = EntropicAutoencoder(**SMALL, regularizer_weight=0.1)
    before = (model.reconstruct(images) - images).square().mean()
    t = trainer(max_steps=200, max_epochs=-1)
    t.fit(model, batches(images, 32))
    assert (model.reconstruct(images) - images).square().mean() < 0.2 * before
    (validated,) = t.validate(model, batches(images, 12), verbose=False)
    expected = (model.reconstruct(images) - images).square().flatten(1).sum(1).mean().item()
    assert validated["val/reconstruction"] == pytest.approx(expected, rel=1e-5)
    assert [len(codes) for codes in t.predict(model, batches(images, 12))] == [12, 12, 8]


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_images_and_codes(images: Tensor, regularizer: str) -> None:
    model = EntropicAutoencoder(**SMALL, regularizer=regularizer)
    before = copy.deepcopy(model.state_dict())
    assert model.encode(images).shape == (32, 3)
    assert model.reconstruct(images).shape == images.shape
    assert torch.equal(copy.deepcopy(model).eval()(images), model.reconstruct(images))
    assert model.sample(5).shape == (5, 1, 8, 8)
    assert torch.equal(model.reconstruct(images), model.decode(model.encode(images)))
    assert all(part.training for part in model.modules())
    assert parameters_differ_by(model.state_dict(), before) == 0


class WithReference(LightningDataModule):
    """The same images for training, validation and reference."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.train_dataloader = self.val_dataloader = self.reference_dataloader = lambda: DataLoader(images, 16)


@pytest.mark.parametrize("components", [1, 3])
def test_fitted_sampler(trainer: Any, images: Tensor, components: int, tmp_path: Path) -> None:
    """Before each validation, to the training images' codes; it is in the checkpoint."""
    model = EntropicAutoencoder(**SMALL, regularizer="none", sampler_components=components)
    assert model.latents(4000).std(dim=0) == pytest.approx([1, 1, 1], abs=0.1)
    t = trainer(max_steps=4, val_check_interval=2, num_sanity_val_steps=0)
    t.fit(model, WithReference(images))
    codes, drawn = model.encode(images), model.latents(20_000)
    assert torch.allclose(drawn.mean(dim=0), codes.mean(dim=0), atol=0.02)
    assert torch.allclose(drawn.T.cov(), codes.T.cov(correction=0), atol=0.02)
    t.save_checkpoint(tmp_path / "a.ckpt")
    loaded = EntropicAutoencoder.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert torch.equal(loaded.sampler.means, model.sampler.means)


@pytest.mark.parametrize("regularizer", ["entropy", "none"])
def test_evaluation_uses_all_training_images_statistics(trainer: Any, images: Tensor, regularizer: str) -> None:
    """Not running averages, which after 4 steps would still be near 0 and 1."""
    model = EntropicAutoencoder(**SMALL, regularizer=regularizer, code_norm=True)
    trainer(max_steps=4, val_check_interval=2, num_sanity_val_steps=0).fit(model, WithReference(images))
    codes = model.encode(images)
    assert codes.mean(dim=0) == pytest.approx([0, 0, 0], abs=1e-5)
    assert codes.var(dim=0, correction=0) == pytest.approx([1, 1, 1], abs=1e-3)


def test_codes_of_a_vae_are_drawn_with_its_noise(images: Tensor) -> None:
    class Encoder(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            mean = x.flatten(1)[:, :3]
            return torch.cat([mean, torch.full_like(mean, 2 * math.log(5))], dim=1)

    arguments = SMALL | {"regularizer": "kl", "sampler_components": 1}
    model = EntropicAutoencoder(**arguments, encoder=Encoder())
    noise = torch.cat([model.draw_codes(images) - model.encode(images) for _ in range(200)])
    assert noise.std(dim=0) == pytest.approx([5, 5, 5], rel=0.05)
    model.fit_codes([images] * 100)
    variance = 25 + images.flatten(1)[:, :3].var(dim=0)
    assert model.latents(20_000).var(dim=0) == pytest.approx(variance, rel=0.1)
    before = model.sampler.means.clone()
    model.fit_codes([images] * 100)
    assert torch.equal(model.sampler.means, before)


def test_drawn_codes_without_noise_are_the_codes(images: Tensor) -> None:
    for regularizer in ("entropy", "none", "mmd"):
        model = EntropicAutoencoder(**SMALL, regularizer=regularizer)
        assert torch.equal(model.draw_codes(images), model.encode(images))


def test_nothing_to_fit(images: Tensor) -> None:
    with pytest.raises(ValueError, match="nothing to fit"):
        EntropicAutoencoder(**SMALL, regularizer="kl").fit_codes([images])


@pytest.mark.parametrize("regularizer", REGULARIZERS)
@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_precision(trainer: Any, batches: Any, images: Tensor, precision: str, regularizer: str) -> None:
    model = EntropicAutoencoder(image_size=8, latent_dim=3, width=4, regularizer=regularizer)
    t = trainer(max_steps=3, precision=precision)
    t.fit(model, batches(images, 8))
    assert all(value.isfinite() for value in t.callback_metrics.values())
    assert model.sample(2).dtype == torch.float32


def test_channels_last_trains_alike(trainer: Any, batches: Any, images: Tensor) -> None:
    states = []
    for channels_last in (False, True):
        torch.manual_seed(0)
        # With Adam, rounding errors of gradients near 0 would move parameters by the learning rate.
        options: dict[str, Any] = {"optimizer": "SGD", "learning_rate": 1e-3, "width": 4}
        model = EntropicAutoencoder(8, channels=3, latent_dim=3, channels_last=channels_last, **options)
        assert model.encoder.layers[0].weight.is_contiguous(memory_format=torch.channels_last) == channels_last
        states.append(fitted(trainer, batches(images.repeat(1, 3, 1, 1), 8), model))
    assert parameters_differ_by(*states) < 1e-4


def test_schedule_and_clipping_are_the_trainers(trainer: Any, batches: Any, images: Tensor) -> None:
    model = EntropicAutoencoder(**SMALL, lr_schedule="cosine", warmup_steps=2)
    fitted(trainer, batches(images, 8), model, max_steps=4, gradient_clip_val=1.0, accumulate_grad_batches=2)


def test_checkpoint_reloads_from_python(trainer: Any, batches: Any, images: Tensor, tmp_path: Path) -> None:
    model, path = EntropicAutoencoder(**SMALL, regularizer="mmd", code_norm=True), tmp_path / "a.ckpt"
    t = trainer(max_steps=2)
    t.fit(model, batches(images, 8))
    t.save_checkpoint(path)
    loaded = EntropicAutoencoder.load_from_checkpoint(path, weights_only=True)
    assert dict(loaded.hparams) == dict(model.hparams)
    assert torch.equal(loaded.encode(images), model.encode(images))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"regularizer": "entropie"}, "Did you mean 'entropy'"),
        ({"network": "densely"}, "Did you mean 'dense'"),
        ({"latent_dim": 0}, "latent_dim=0 must be at least 1"),
        ({"nearest_k": 0}, "nearest_k=0 must be at least 1"),
        ({"regularizer_weight": -1.0}, "regularizer_weight=-1.0 must not be negative"),
        ({"code_norm": False}, "without it the entropy has no maximum"),
        ({"regularizer": "kl", "code_norm": True}, "kept near N"),
        ({"image_size": 30}, "image_size=30 must be a multiple of 4"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EntropicAutoencoder(**arguments)


def test_misfit_batches(trainer: Any, batches: Any, images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 8, 8\), the model takes \(1, 28, 28\): set model.image_size"):
        EntropicAutoencoder().images((images, images))
    model = EntropicAutoencoder(**SMALL, decoder=nn.Sequential(nn.Linear(3, 4), nn.Unflatten(1, (1, 2, 2))))
    with pytest.raises(ValueError, match=r"decoder makes \(8, 1, 2, 2\), the batch holds \(8, 1, 8, 8\)"):
        trainer(max_steps=1).fit(model, batches(images, 8))


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:The .grad attribute of a Tensor:UserWarning"
)
@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_compiled_training_equals_eager(trainer: Any, batches: Any, images: Tensor, regularizer: str) -> None:
    arguments: dict[str, Any] = SMALL | {"regularizer": regularizer, "optimizer": "SGD", "learning_rate": 1e-4}
    eager = EntropicAutoencoder(**arguments)
    compiled = EntropicAutoencoder(**arguments, compile=True)
    compiled.load_state_dict(eager.state_dict())
    a, b = (fitted(trainer, batches(images, 8), model) for model in (eager, compiled))
    assert parameters_differ_by(a, b) < 1e-5
