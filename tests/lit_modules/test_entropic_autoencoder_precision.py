"""EntropicAutoencoder in half precision: what must not be rounded to it, and that it still learns."""

import copy
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor

from lit_modules import EntropicAutoencoder, entropic_autoencoder
from lit_modules.parts.entropy import knn_entropy

SMALL: dict[str, Any] = {"image_size": 8, "latent_dim": 3, "width": 4}
HALF = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16, "bf16-true": torch.bfloat16, "16-true": torch.float16}


@pytest.fixture
def images() -> Tensor:
    """32 images (32, 1, 8, 8) of slanted waves, in [-1, 1]."""
    phase = torch.linspace(0, 6, 32)[:, None, None, None]
    grid = torch.arange(8.0)
    return (phase + grid[:, None] / 3 + grid / 2).sin()


@pytest.fixture
def entropies(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """Codes and entropy of each training step."""
    noted: list[tuple[Tensor, Tensor]] = []

    def noting(z: Tensor, k: int = 1) -> Tensor:
        entropy = knn_entropy(z, k)
        noted.append((z.detach(), entropy.detach()))
        return entropy

    monkeypatch.setattr(entropic_autoencoder, "knn_entropy", noting)
    return noted


def precise(precision: str) -> dict[str, Any]:
    """The Trainer's arguments: on a CPU it makes no plugin for 16-mixed by itself."""
    return {"plugins": [MixedPrecision("16-mixed", "cpu")]} if precision == "16-mixed" else {"precision": precision}


@pytest.mark.parametrize("network", ["dense", "convolutional"])
@pytest.mark.parametrize("precision", HALF)
def test_entropy_and_loss(
    trainer: Any, batches: Any, images: Tensor, entropies: list[tuple[Tensor, Tensor]], precision: str, network: str
) -> None:
    """The networks work in half precision; entropy and error are of float32 and as exact."""
    model = EntropicAutoencoder(**SMALL, network=network, optimizer="SGD", learning_rate=1e-5)
    passes: list[tuple[Tensor, Tensor]] = []
    for part in (model.encoder, model.decoder):
        part.register_forward_hook(lambda _, inputs, output: passes.append((inputs[0], output.detach())))
    t = trainer(max_steps=3, **precise(precision))
    t.fit(model, batches(images, 8))
    assert {output.dtype for _, output in passes} == {HALF[precision]}
    assert len(entropies) == 3
    for codes, entropy in entropies:
        assert entropy.dtype == torch.float32
        assert entropy.item() == pytest.approx(knn_entropy(codes.double()).item(), abs=1e-4)
    (x, _), (_, decoded) = passes[-2:]
    error = (decoded.double() - x.double()).square().flatten(1).sum(dim=1).mean().item()
    logged = {name: value.item() for name, value in t.callback_metrics.items()}
    assert logged["train/reconstruction"] == pytest.approx(error, rel=1e-5)
    assert logged["train/loss"] == pytest.approx(error - logged["train/entropy"], rel=1e-5)


# 16-true is for inference: Adam's 1e-8 is 0 in fp16.
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed", "bf16-true"])
def test_learns(trainer: Any, batches: Any, images: Tensor, precision: str) -> None:
    model = EntropicAutoencoder(**SMALL, regularizer_weight=0.1)
    start = copy.deepcopy(model)
    trainer(max_steps=60, max_epochs=-1, **precise(precision)).fit(model, batches(images, 32))
    assert all(value.isfinite().all() for value in model.state_dict().values())
    before, after = ((m.reconstruct(images) - images).square().mean() for m in (start, model))
    assert after < 0.7 * before
