"""The contestants of benchmarks.gan_step: bare loops, and the project's modules under a Trainer, on equal terms."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.utils.data import DataLoader

from benchmarks.gan_step_report import ARTICLE, BARE_ONE_PASS, BATCH_SIZE, ONE_PASS, TUTORIAL
from datamodules import ImageDataModule
from lit_modules import RelativisticGAN, SingleLossGAN
from lit_modules.parts.adversarial import adversarial_loss
from lit_modules.parts.networks import ConvDiscriminator, ConvGenerator, frozen
from lit_modules.parts.single_loss import one_pass_loss

LATENT_DIM = 100
LEARNING_RATE = 2e-4
BETAS = (0.5, 0.999)
CHANNELS = {28: 1, 64: 3}
DISTINCT_BATCHES = 8

# Gets 0 before the first step, and the number of each step after it.
Tell = Callable[[int], None]
Loader = DataLoader[Tensor]


@dataclass(frozen=True)
class Setting:
    """What all contestants have in common."""

    size: int
    loss: str
    width: int = 64
    device: torch.device = torch.device("cpu")  # noqa: RUF009 (immutable)
    precision: str = "32"
    compile: bool = False

    def networks(self) -> tuple[ConvGenerator, ConvDiscriminator]:
        """(G, D) on the CPU, the same weights at each call."""
        torch.manual_seed(0)
        shape = self.size, CHANNELS[self.size]
        return ConvGenerator(*shape, LATENT_DIM, self.width), ConvDiscriminator(*shape, self.width)

    def autocast(self) -> AbstractContextManager[Any]:
        """For forward passes in the setting's precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def loader(self, steps: int) -> Loader:
        """``steps`` batches, floats in [-1, 1] on the device; they repeat after DISTINCT_BATCHES."""
        format_ = {"size": self.size, "channels": CHANNELS[self.size], "batch_size": BATCH_SIZE}
        data = ImageDataModule("embedded", subset=DISTINCT_BATCHES * BATCH_SIZE, val_fraction=0, **format_)
        data.setup("fit")
        batches = [data.on_after_batch_transfer(batch, 0)[0].to(self.device) for batch in data.train_dataloader()]
        return DataLoader(list(itertools.islice(itertools.cycle(batches), steps)), batch_size=None)


@dataclass(frozen=True)
class Contestant:
    """Networks and what trains them, one step for each batch of the loader."""

    generator: nn.Module
    discriminator: nn.Module
    train: Callable[[Loader, Tell], None]


# ---- Bare loops ----


def tutorial(setting: Setting, *, freeze: bool = False) -> Contestant:
    """PyTorch's DCGAN tutorial; ``freeze`` spares D the gradients of G's step."""
    generator, discriminator = _bare_networks(setting)
    d_optimizer, g_optimizer = _adam(discriminator), _adam(generator)
    loss = adversarial_loss(setting.loss)

    def run(network: nn.Module, x: Tensor) -> Tensor:
        with setting.autocast():
            return network(x)

    def update_discriminator(x_r: Tensor) -> Tensor:
        d_optimizer.zero_grad()
        if loss.generator_uses_real:
            x_f = run(generator, _latents(x_r))
            loss.discriminator(run(discriminator, x_r), run(discriminator, x_f.detach())).backward()
        else:
            # Each half of SGAN's loss goes back by itself, and the first one's graph is gone before the second.
            softplus(-run(discriminator, x_r).float()).mean().backward()
            x_f = run(generator, _latents(x_r))
            softplus(run(discriminator, x_f.detach()).float()).mean().backward()
        d_optimizer.step()
        return x_f

    def step(x_r: Tensor) -> None:
        x_f = update_discriminator(x_r)
        g_optimizer.zero_grad()
        with frozen(discriminator) if freeze else nullcontext():
            t_r = run(discriminator, x_r) if loss.generator_uses_real else None
            loss.generator(t_r, run(discriminator, x_f)).backward()
        g_optimizer.step()

    return Contestant(generator, discriminator, partial(_bare_loop, step))


def one_pass(setting: Setting, *, concatenate: bool | None = None) -> Contestant:
    """The arithmetic of SingleLossGAN's one_pass without Lightning."""
    generator, discriminator = _bare_networks(setting)
    optimizer = _adam(discriminator, generator)
    loss = adversarial_loss(setting.loss)

    def step(x_r: Tensor) -> None:
        players = loss.discriminator, loss.generator
        with setting.autocast():
            x_f = generator(_latents(x_r)).to(x_r.dtype)
            single = one_pass_loss(discriminator, x_r, x_f, *players, concatenate=concatenate)
        optimizer.zero_grad()
        single.loss.backward()
        optimizer.step()

    return Contestant(generator, discriminator, partial(_bare_loop, step))


def _bare_networks(setting: Setting) -> tuple[nn.Module, nn.Module]:
    generator, discriminator = (network.to(setting.device) for network in setting.networks())
    if setting.compile:
        generator.compile()
        discriminator.compile()
    return generator, discriminator


def _adam(*networks: nn.Module) -> torch.optim.Adam:
    groups = [{"params": list(network.parameters())} for network in networks]
    return torch.optim.Adam(groups, lr=LEARNING_RATE, betas=BETAS)


def _latents(x_r: Tensor) -> Tensor:
    return torch.randn(len(x_r), LATENT_DIM, device=x_r.device)


def _bare_loop(step: Callable[[Tensor], None], loader: Loader, tell: Tell) -> None:
    tell(0)
    for number, x_r in enumerate(loader, 1):
        step(x_r)
        tell(number)


# ---- Under Lightning ----


class Teller(Callback):
    """Tells where the training is."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            self._tell(0)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self._tell(args[-1] + 1)


def under_lightning(setting: Setting, module: type[LightningModule], **options: Any) -> Contestant:
    """One of the project's modules, by a fresh Trainer at each call."""
    generator, discriminator = setting.networks()
    rates = {"discriminator_lr": LEARNING_RATE, "generator_lr": LEARNING_RATE, "betas": BETAS}
    networks = {"generator": generator, "discriminator": discriminator, "latent_dim": LATENT_DIM}
    model = module(loss=setting.loss, compile=setting.compile, **rates, **networks, **options)

    def train(loader: Loader, tell: Tell) -> None:
        trainer = Trainer(
            max_steps=len(loader),
            max_epochs=1,
            accelerator=setting.device.type,
            devices=1,
            precision="bf16-mixed" if setting.precision == "bf16" else "32-true",
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[Teller(tell)],
        )
        # An empty list, or Lightning warns that there is a validation_step and no data for it.
        trainer.fit(model, loader, [])

    return Contestant(generator, discriminator, train)


CONTESTANTS: dict[str, Callable[[Setting], Contestant]] = {
    TUTORIAL: tutorial,
    "tutorial, D frozen in G's step": partial(tutorial, freeze=True),
    "RelativisticGAN": partial(under_lightning, module=RelativisticGAN),
    ARTICLE: partial(under_lightning, module=SingleLossGAN, mode="article"),
    "SingleLossGAN, functional": partial(under_lightning, module=SingleLossGAN, mode="functional"),
    ONE_PASS: partial(under_lightning, module=SingleLossGAN, mode="one_pass"),
    BARE_ONE_PASS: one_pass,
    "one pass, bare loop, concatenated": partial(one_pass, concatenate=True),
}
