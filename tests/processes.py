"""Several processes in a test."""

import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer


class LeaveTogether(Callback):
    """Ends the processes' connection while all of them are there.

    Left to the exit of spawned processes, gloo's threads sometimes find the other side gone and abort theirs.
    """

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Waits for the others, then leaves."""
        if trainer.world_size > 1 and dist.is_initialized():
            dist.barrier()
            dist.destroy_process_group()
