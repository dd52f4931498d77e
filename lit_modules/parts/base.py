"""What every LightningModule of this package does alike: keep its hyper-parameters, train in training mode, log."""

import inspect
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from lit_modules.parts import optimizers
from lit_modules.parts.distributed import mean_over_ranks
from lit_modules.parts.step_log import log_training_step


class BaseModule(LightningModule):
    """A LightningModule with what all of ours share."""

    hparams: Any

    def keep_hyperparameters(self, *networks: str) -> None:
        """Save the calling constructor's arguments, without the networks that were passed from Python.

        Args:
            networks: the names of arguments that may be networks.
        """
        here = inspect.currentframe()
        constructor = here.f_back if here is not None else None
        self.save_hyperparameters(ignore=list(networks), frame=constructor)
        if "_instantiator" in self.hparams:
            # Built by LightningCLI: the arguments at hand are plain descriptions, from which it rebuilds networks.
            self.save_hyperparameters(frame=constructor)

    def on_fit_start(self) -> None:
        """Train in training mode: Lightning would keep the mode that the module comes in."""
        self.train()

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """In evaluation mode, and afterwards in the mode that the module was in."""
        training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(training)

    def log_step(self, values: dict[str, Tensor], *, in_bar: tuple[str, ...]) -> None:
        """Log scalars of a training step as means over ranks, with one exchange for all of them.

        Args:
            values: by name, such as "train/loss".
            in_bar: endings of the names that the progress bar shows.
        """
        means = mean_over_ranks(torch.stack([value.detach().float() for value in values.values()]))
        log_training_step(self, dict(zip(values, means, strict=True)), in_bar=in_bar)

    def optimizer_over(self, networks: Mapping[str, tuple[nn.Module, float]], arguments: Mapping[str, Any]) -> Any:
        """What ``configure_optimizers`` returns in automatic optimization, as the hyper-parameters say.

        Args:
            networks: by the name of its parameter group, a network and its learning rate.
            arguments: see :func:`optimizers.optimizer_arguments`.
        """
        optimizer = optimizers.build_optimizer(networks, self.hparams["optimizer"], arguments)
        return optimizers.scheduled(optimizer, self.hparams, self.trainer)

    # ---- Networks and their inputs ----

    def compile_if_asked(self, *networks: nn.Module, dynamic: bool | None = None) -> None:
        """Compile the networks in place if the hyper-parameter ``compile`` says so.

        Args:
            networks: those that aren't compiled yet; names in ``state_dict`` stay as they are.
            dynamic: whether to expect inputs of many sizes; by default when a second one comes.

        Raises:
            ValueError: there is no C++ compiler, and the networks are to run on a CPU.
        """
        if not self.hparams["compile"]:
            return
        if self.trainer.strategy.root_device.type == "cpu" and shutil.which(os.environ.get("CXX", "g++")) is None:
            raise ValueError("compile=True needs a C++ compiler on a CPU: install g++, or set CXX to another one")
        for network in networks:
            if network._compiled_call_impl is None:
                # What network.compile() does, in a frame of ours: of a class in torch.nn, such as Sequential, it
                # compiles nothing.
                network._compiled_call_impl = torch.compile(_framed(network._call_impl), dynamic=dynamic)

    def as_input(self, x: Tensor) -> Tensor:
        """``x`` on the module's device and in its type."""
        return x.to(self.device, cast(torch.dtype, self.dtype))

    # ---- Memory format, for modules with the hyper-parameter channels_last ----

    def lay_out(self, *networks: nn.Module) -> None:
        """Put the networks' kernels into channels-last order if that is asked for."""
        for network in networks if self.hparams["channels_last"] else ():
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def to_memory_format(self, x: Tensor) -> Tensor:
        """``x`` in channels-last order if that is asked for and it is images."""
        images = self.hparams["channels_last"] and x.dim() == 4
        return x.contiguous(memory_format=torch.channels_last) if images else x


def _framed(call: Callable[..., Any]) -> Callable[..., Any]:
    def framed(*args: Any, **kwargs: Any) -> Any:
        return call(*args, **kwargs)

    # The compiler counts its results by code, up to a limit: each network has its own.
    framed.__code__ = framed.__code__.replace()
    return framed


def batch_images(batch: Any, takes: tuple[int, ...] | None) -> Tensor:
    """The images (B, C, H, W) of a batch that is (images, ...) or images.

    Args:
        batch: from a loader.
        takes: the shape (C, H, W) that the model takes; None for any.

    Raises:
        ValueError: images of another shape, naming the arguments to set.
    """
    x: Tensor = batch[0] if isinstance(batch, (tuple, list)) else batch
    if takes is not None and tuple(x.shape[1:]) != tuple(takes):
        raise ValueError(
            f"the batch holds images of shape {tuple(x.shape[1:])}, the model takes {tuple(takes)}: set"
            " model.image_size and model.channels, or data.size and data.channels"
        )
    return x
