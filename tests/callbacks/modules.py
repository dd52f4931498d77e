"""Small modules and data for the tests of the callbacks."""

from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tests.processes import LeaveTogether

# What Lightning says of its own accord about runs as small as these.
lightning_noise = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
    pytest.mark.filterwarnings("ignore:Using `DistributedSampler` with the dataloaders"),
]


class TinyGAN(pl.LightningModule):
    """Two optimizers in manual optimization, batch norm and dropout in the generator; images (n, 1, 8, 8)."""

    def __init__(self, accumulate: int = 1) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.accumulate = accumulate
        self.generator = nn.Sequential(nn.Linear(4, 64), nn.BatchNorm1d(64), nn.Dropout(0.5), nn.Tanh())
        self.discriminator = nn.Linear(64, 1)

    def latents(self, n: int) -> Tensor:
        return torch.randn(n, 4, device=self.device)

    def decode(self, z: Tensor) -> Tensor:
        return self.generator(z).view(-1, 1, 8, 8)

    def sample(self, n: int) -> Tensor:
        return self.decode(self.latents(n))

    def training_step(self, batch: Any, batch_idx: int) -> None:
        real = batch[0].flatten(1)
        steps_now = (batch_idx + 1) % self.accumulate == 0
        for optimizer, sign in zip(self.optimizers(), (1, -1), strict=True):
            fake = self.decode(self.latents(len(real))).flatten(1)
            loss = sign * (self.discriminator(fake).mean() - self.discriminator(real).mean())
            self.manual_backward(loss)
            if steps_now:
                optimizer.step()
                optimizer.zero_grad()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    test_step = validation_step

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.sample(1)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            torch.optim.SGD(self.discriminator.parameters(), 0.1),
            torch.optim.SGD(self.generator.parameters(), 0.1),
        ]


class TinyClassifier(pl.LightningModule):
    """One optimizer in automatic optimization."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Linear(64, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.network(batch[0].flatten(1)).square().mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class TinyAutoencoder(pl.LightningModule):
    """Codes (B, dim) of images (B, 1, 8, 8), with dropout in the encoder; one optimizer."""

    def __init__(self, dim: int = 2) -> None:
        super().__init__()
        self.dim = dim
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, dim), nn.Dropout(0.5))
        self.decoder = nn.Sequential(nn.Linear(dim, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def sample(self, n: int) -> Tensor:
        return self.decode(torch.randn(n, self.dim, device=self.device))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return (self.reconstruct(batch[0]) - batch[0]).square().mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class IdentityAutoencoder(TinyAutoencoder):
    """The code of an image is the image."""

    def __init__(self) -> None:
        super().__init__(64)

    def encode(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        return z.view(-1, 1, 8, 8)


class Images(pl.LightningDataModule):
    """Random images (n, 1, 8, 8) in [-1, 1] with labels, for training and validation."""

    def __init__(self, n: int = 32, batch_size: int = 4) -> None:
        super().__init__()
        images = torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
        self.data = TensorDataset(images, torch.zeros(n, dtype=torch.int64))
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.data, batch_size=self.batch_size)

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


class ImagesWithReference(Images):
    """A datamodule whose reference are other images than those of the validation; counts its uses."""

    def __init__(self, n: int = 32, batch_size: int = 4) -> None:
        super().__init__(n, batch_size)
        self.reference = torch.rand(50, 1, 8, 8, generator=torch.Generator().manual_seed(2)) * 2 - 1
        self.passes = 0

    def reference_dataloader(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.passes += 1
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        share = self.reference[rank * 50 // world : (rank + 1) * 50 // world]
        for images in share.split(8):
            yield images, torch.zeros(len(images), dtype=torch.int64)


class Flatten(nn.Module):
    """Features (B, 64): the pixels themselves."""

    num_features = 64

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def quiet_trainer(**arguments: Any) -> pl.Trainer:
    """A trainer on the CPU without progress bar, logger, checkpoints and sanity check, unless asked for."""
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
    }
    arguments["callbacks"] = [*arguments.get("callbacks", []), LeaveTogether()]
    return pl.Trainer(**(defaults | arguments))
