"""Train modules on two CPU processes; saves the parameters of each rank. Run by test_distributed.py.

Usage: python tests/lit_modules/two_processes.py FOLDER DEVICES
"""

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_modules import EntropicAutoencoder, RelativisticGAN, SingleLossGAN
from tests.processes import save_result, trainer_of

POINTS: dict[str, Any] = {
    "network": "points",
    "latent_dim": 2,
    "width": 8,
    "discriminator_lr": 0.1,
    "generator_lr": 0.1,
}
ALTERNATING: dict[str, dict[str, Any]] = {
    # The batch means of RaSGAN are global, and so is the noise of the gradient penalty.
    "rasgan": POINTS | {"loss": "rasgan", "optimizer": "SGD", "gp_weight": 1.0, "r1_weight": 0.1},
    "ralsgan": POINTS | {"loss": "ralsgan", "optimizer": "SGD", "gradient_clip_val": 0.1},
    # So are the pairs of "all"; ranks exchange gradients once for both micro-batches.
    "pairs": POINTS | {"pairing": "all", "optimizer": "SGD", "accumulate_grad_batches": 2},
    "sgan": POINTS
    | {"loss": "sgan", "spectral_norm": True, "discriminator_steps": 2, "generator_steps": 2}
    | {"discriminator_lr": 1e-3, "generator_lr": 1e-3, "optimizer_args": {"eps": 1e-3}},
    "images": {"width": 4, "image_size": 8},
}
# These take plain ddp.
SINGLE_LOSS: dict[str, dict[str, Any]] = {
    "one_pass": POINTS | {"loss": "rasgan", "optimizer": "SGD", "gp_weight": 1.0, "r1_weight": 0.1},
    "one_pass_hinge": POINTS | {"spectral_norm": True, "generator_weight": 0.5, "optimizer": "SGD"},
    "article": POINTS | {"mode": "article", "loss": "ralsgan", "spectral_norm": True, "optimizer": "SGD"},
    "functional": POINTS | {"mode": "functional", "loss": "rsgan", "pairing": "all", "optimizer": "SGD"},
    "one_pass_images": {"width": 4, "image_size": 8},
}
IMAGES: dict[str, Any] = {"image_size": 8, "latent_dim": 3, "network": "dense"}
AUTOENCODERS: dict[str, dict[str, Any]] = {
    # Neighbors, the codes' batch norm and pairs of samples are global, and so is the noise.
    "entropy": IMAGES | {"regularizer": "entropy", "nearest_k": 2, "optimizer": "SGD"},
    "kl": IMAGES | {"regularizer": "kl", "optimizer": "SGD"},
    "mmd": IMAGES | {"regularizer": "mmd", "code_norm": True, "regularizer_weight": 10.0, "optimizer": "SGD"},
    "entropy_images": {"width": 4, "image_size": 8},
}
CASES = ALTERNATING | SINGLE_LOSS | AUTOENCODERS


class Shard:
    """Global batches of 8, of which each rank gets its contiguous part."""

    def __init__(self, samples: Tensor, rank: int, world_size: int) -> None:
        self.parts = [part.chunk(world_size)[rank] for part in samples.split(8)]

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return ((part, torch.zeros(len(part))) for part in self.parts)


def train(case: str, devices: int, folder: Path) -> None:
    torch.manual_seed(0)
    kinds = {RelativisticGAN: ALTERNATING, SingleLossGAN: SINGLE_LOSS, EntropicAutoencoder: AUTOENCODERS}
    module = next(kind for kind, cases in kinds.items() if case in cases)
    model = module(**CASES[case])
    images = case.endswith("images") or case in AUTOENCODERS
    samples = torch.rand(96, 1, 8, 8) if images else torch.randn(96, 2)
    several = "ddp_find_unused_parameters_true" if module is RelativisticGAN else "ddp"
    trainer = trainer_of(
        devices,
        strategy=several if devices > 1 else "auto",
        accumulate_grad_batches=2 if case == "functional" else 1,
        gradient_clip_val=0.5 if case == "article" else None,
        max_steps=5,
        val_check_interval=5,
    )
    shard = Shard(samples, trainer.global_rank, devices)
    trainer.fit(model, shard, shard if case in AUTOENCODERS else None)
    if case == "entropy":
        # The statistics are those of all ranks' images.
        model.fit_codes(shard)
    save_result(trainer, model, folder, case)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for case in CASES:
        train(case, int(sys.argv[2]), Path(sys.argv[1]))
