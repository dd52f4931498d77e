"""Train QuestionAnswerGenerator on CPU processes; saves what each rank has. Run by the slow tests of it.

Usage: python tests/lit_modules/asking_processes.py FOLDER DEVICES
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import torch

from lit_modules.question_answer_generator import QuestionAnswerGenerator
from tests.lit_modules.passage_data import Record, TinyPassages, written
from tests.processes import save_result, trainer_of

# The plain gradient shows every factor. Without dropout, which each rank draws for itself.
SMALL: dict[str, Any] = {"hidden": 16, "layers": 1, "heads": 2, "dropout": 0.0, "max_answer": 3, "max_question": 6}
SMALL |= {"optimizer": "SGD", "learning_rate": 0.1, "max_positions": 64, "pairs": 2, "evaluated_passages": 5}
CASES = ("article", "question first", "noise", "smoothing", "untied", "uneven", "empty on a rank")
ARGUMENTS: dict[str, dict[str, Any]] = {
    "question first": {"answer_first": False},
    "noise": {"exposure_noise": 0.5},
    "smoothing": {"label_smoothing": 0.1},
    "untied": {"tied": False},
}


def records_of(case: str) -> list[Record]:
    records = written(24)
    if case == "uneven":
        # The second process has the longer targets, and one pair more in the last batch.
        longer = [one._replace(question=one.question + " what does") for one in records]
        return [longer[n] if n % 8 > 3 else records[n] for n in range(len(records) - 1)]
    # In the last batch the first process has no pair at all.
    return records[:17] if case == "empty on a rank" else records


def train(case: str, devices: int, folder: Path) -> None:
    trainer = trainer_of(devices, max_epochs=3)
    torch.manual_seed(0)
    data = TinyPassages(8, records=records_of(case), rank=trainer.global_rank, world_size=devices)
    model = QuestionAnswerGenerator(**SMALL | ARGUMENTS.get(case, {}))
    torch.manual_seed(0)
    trainer.fit(model, data)
    save_result(trainer, model, folder, case)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for case in CASES:
        train(case, int(sys.argv[2]), Path(sys.argv[1]))
