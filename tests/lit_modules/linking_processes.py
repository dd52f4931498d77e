"""Train EntityLinker on CPU processes; saves what each rank has. Run by test_entity_linker_slow.py.

Usage: python tests/lit_modules/linking_processes.py FOLDER DEVICES, with a tiny encoder in FOLDER/bert
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import torch

from lit_modules import EntityLinker
from tests.lit_modules.linking_data import Text, TinyLinking, written
from tests.processes import LeaveTogether, save_result, trainer_of

# The plain gradient shows every factor. Without dropout, which each rank draws for itself.
SGD: dict[str, Any] = {"optimizer": "SGD", "learning_rate": 0.1, "dropout": 0.0}
SMALL: dict[str, Any] = {"dim": 8, "hidden": 8, "heads": 2, "head_dim": 4, "restrict_candidates": False}
CASES = ("gated", "ungated", "words", "encoder", "no rows on a rank")


def module_and_data(case: str, folder: Path, **share: int) -> tuple[EntityLinker, TinyLinking]:
    arguments = SMALL | SGD
    if case == "encoder":
        arguments |= {"encoder": str(folder / "bert"), "encoder_learning_rate": 0.1}
    if case == "ungated":
        arguments |= {"gate": False}
    texts = written(48)
    if case == "no rows on a rank":
        texts = [text if number % 2 == 0 else Text(text.id, "efcdgh") for number, text in enumerate(texts)]
    data = TinyLinking(8, pieces=case == "encoder", words=case == "words", texts=texts, **share)
    return EntityLinker(**arguments), data


def train(case: str, devices: int, folder: Path) -> None:
    callbacks = [LeaveTogether()] if case == CASES[-1] else []
    trainer = trainer_of(devices, max_epochs=3, callbacks=callbacks)
    torch.manual_seed(0)
    model, data = module_and_data(case, folder, rank=trainer.global_rank, world_size=devices)
    torch.manual_seed(0)
    trainer.fit(model, data)
    save_result(trainer, model, folder, case)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for case in CASES:
        train(case, int(sys.argv[2]), Path(sys.argv[1]))
