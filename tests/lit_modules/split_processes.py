"""Train QuestionAnswerGenerator with its parameters split among CPU processes. Run by test_sharding.py.

Usage: python tests/lit_modules/split_processes.py FOLDER DEVICES
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy

from lit_modules.question_answer_generator import QuestionAnswerGenerator
from tests.lit_modules.asking_processes import SMALL
from tests.lit_modules.passage_data import TinyPassages, written
from tests.processes import save_result, trainer_of

# An optimizer with a state that doesn't enlarge differences of rounding, as Adam's does.
ARGUMENTS = SMALL | {"layers": 2, "optimizer_args": {"momentum": 0.9}}
CASES = ("uninterrupted", "resumed")


def fit(devices: int, epochs: int, ckpt_path: Path | None = None) -> tuple[Trainer, QuestionAnswerGenerator]:
    more: dict[str, Any] = {}
    if devices > 1:
        more = {"strategy": ModelParallelStrategy(devices, 1, save_distributed_checkpoint=False)}
    trainer = trainer_of(devices, max_epochs=epochs, gradient_clip_val=1.0, **more)
    torch.manual_seed(0)
    # The first process has one pair less in the last batch, and passages of another number.
    data = TinyPassages(8, records=written(24)[:45], rank=trainer.global_rank, world_size=devices)
    model = QuestionAnswerGenerator(**ARGUMENTS)
    trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
    return trainer, model


def train(case: str, devices: int, folder: Path) -> None:
    half = folder / f"half-{devices}.ckpt"
    if case == "resumed":
        fit(devices, 1)[0].save_checkpoint(half, weights_only=False)
    trainer, model = fit(devices, 3, half if case == "resumed" else None)
    own = sum(p.to_local().numel() if devices > 1 else p.numel() for p in model.parameters())
    trainer.save_checkpoint(folder / f"{case}-{devices}.ckpt", weights_only=False)
    save_result(trainer, model, folder, case, own=own)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for case in CASES:
        train(case, int(sys.argv[2]), Path(sys.argv[1]))
