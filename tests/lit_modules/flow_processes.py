"""Train with the flows on two CPU processes; saves the parameters of each rank, and what OptimizationFlow measures.

Run by test_flows_in_lightning.py.

Usage: python tests/lit_modules/flow_processes.py FOLDER DEVICES
"""

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from lit_modules import OptimizationFlow
from lit_modules.parts.flows import DampedFlow, GradientFlow, ScalarRMSprop, SignFlow
from lit_modules.parts.loss_guided import LossGuidedFlow
from tests.processes import trainer_of


class Foreign(LightningModule):
    """A regression that knows nothing of this project but the optimizer it was given.

    Args:
        flow: class of the optimizer.
    """

    def __init__(self, flow: type[Optimizer]) -> None:
        super().__init__()
        self.flow = flow
        self.network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return (self.network(batch[0]) - batch[1]).square().mean()

    def configure_optimizers(self) -> Optimizer:
        return self.flow(self.parameters(), lr=0.05)


class Unsynchronized(Foreign):
    """Whose ranks keep their gradients to themselves."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.trainer.strategy.model.require_backward_grad_sync = False
        return super().training_step(batch, batch_idx)


class Regression:
    """A loader of global batches of 8, of which each rank gets its part."""

    def __init__(self, number: int, rank: int = 0, world_size: int = 1) -> None:
        x = torch.randn(8 * number, 3, generator=torch.Generator().manual_seed(1))
        pairs = zip(x.split(8), x.prod(dim=1, keepdim=True).split(8), strict=True)
        self.parts = [(a.chunk(world_size)[rank], b.chunk(world_size)[rank]) for a, b in pairs]

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.parts)


def train(module: LightningModule, devices: int) -> int:
    trainer = trainer_of(devices, max_epochs=1, log_every_n_steps=1)
    trainer.fit(module, Regression(5, trainer.global_rank, devices))
    return trainer.global_rank


def main(folder: Path, devices: int) -> None:
    for flow in (DampedFlow, GradientFlow, ScalarRMSprop, SignFlow, LossGuidedFlow):
        torch.manual_seed(0)
        module = Foreign(flow)
        rank = train(module, devices)
        torch.save(module.state_dict(), folder / f"{flow.__name__}-{devices}-{rank}.pt")
    torch.manual_seed(0)
    watched = OptimizationFlow(network=nn.Linear(3, 1), loss=nn.MSELoss(), optimizer="GradientFlow")
    rank = train(watched, devices)
    torch.save(watched.flow_point(), folder / f"point-{devices}-{rank}.pt")
    if devices > 1:
        try:
            train(Unsynchronized(LossGuidedFlow), devices)
        except ValueError as error:
            (folder / "refused.txt").write_text(str(error))
        if dist.is_initialized():
            dist.barrier()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]), int(sys.argv[2]))
