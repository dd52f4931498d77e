"""Resume that is bit-exact: what a checkpoint of Lightning 2.6 leaves out, added to it.

A run that is cut off and resumed should be the run that was never cut off. Lightning saves no random state, runs
a validation that was cut off from its middle, skips one that was due when the checkpoint was written, and forgets
the row that was about to be logged. So here:

- all random numbers of a training batch are a function of (seed, number of the batch, rank), those of an evaluation
  of (seed, step, rank): nothing has to be saved, and validating more or less often changes nothing;
- the order of the data is a function of (seed, epoch), and the loaders of `datamodules` know how many batches of the
  epoch are done;
- the loops' counters are written so that a due or unfinished validation runs again from its start;
- the rows of metrics.csv are counted, and a row that is due is carried along.

Private names of Lightning stand in this file alone; tests/runner/test_exact_resume.py resumes from every hook.
"""

from __future__ import annotations

import hashlib
import os
import random
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from runner.metrics_csv import MetricsCsv

KEY = "litspaces"


def class_path(module: LightningModule) -> str:
    """The dotted path of a module's class, by which a checkpoint says whose it is."""
    return f"{type(module).__module__}.{type(module).__name__}"


def seed_all(*stream: int | str) -> None:
    """Seeds Python, NumPy and torch (every device) by the run's seed and the names of a stream of numbers."""
    run_seed = os.environ.get("PL_GLOBAL_SEED", "0")
    digest = hashlib.blake2b(":".join([run_seed, *map(str, stream)]).encode(), digest_size=8).digest()
    seed = int.from_bytes(digest, "little")
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed % 2**63)


class ExactResume(Callback):
    """Makes each checkpoint of a fit one from which the run goes on bit by bit.

    Exact are checkpoints written between optimizer steps (`at_boundary`); in the middle of a window of accumulated
    gradients the gradients so far would be missing. `runner.checkpoints` writes last.ckpt at boundaries only.
    """

    def __init__(self) -> None:
        self.at_boundary = True
        self._phase: Literal["training", "validating", "validated"] = "training"
        self._step_before = 0
        self._carried: dict[str, Any] = {}
        self._max_steps: int | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes metrics.csv back to where the checkpoint was written and logs the row that was due then."""
        self._replay_rows(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The same, for strategies that load the checkpoint only after `on_fit_start`."""
        self._replay_rows(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seeds this batch."""
        self._restore_max_steps(trainer)
        self._phase = "training"
        self._step_before = trainer.global_step
        seed_all("train", trainer.fit_loop.total_batch_idx, trainer.global_rank)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Notes whether an optimizer stepped."""
        self.at_boundary = trainer.global_step != self._step_before

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seeds the evaluation by the step, so that training neither sees nor disturbs it."""
        if not trainer.sanity_checking:
            self._restore_max_steps(trainer)
            self._phase = "validating"
        self._seed_evaluation(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes that nothing is due."""
        self._phase = "validated"

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seeds the evaluation."""
        self._seed_evaluation(trainer)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seeds the evaluation."""
        self._seed_evaluation(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds what Lightning leaves out, under the key `litspaces`."""
        checkpoint[KEY] = {"model_class": class_path(pl_module)}
        if not trainer.training and not trainer.validating:
            return
        pending = self._validation_is_pending(trainer)
        if pending:
            _mark_validation_pending(checkpoint["loops"]["fit_loop"])
        checkpoint[KEY] |= self._rows(trainer) | {"validation_pending": pending}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Reads it back; the loops do the rest."""
        if trainer.state.fn != "fit":
            # An evaluation by its own command is that of the checkpoint's step, with its random numbers.
            if loops := checkpoint.get("loops"):
                trainer.fit_loop.load_state_dict(loops["fit_loop"])
            return
        saved = checkpoint.get(KEY, {})
        self._carried = saved if "num_rows" in saved else {}
        epoch_loop = trainer.fit_loop.epoch_loop
        if saved.get("validation_pending") and 0 <= epoch_loop.max_steps <= checkpoint["global_step"]:
            # The fit loop would see that all steps are done and return before the last validation.
            self._max_steps, epoch_loop.max_steps = epoch_loop.max_steps, -1

    def _replay_rows(self, trainer: Trainer) -> None:
        carried, self._carried = self._carried, {}
        if not carried:
            return
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCsv):
                logger.rewind(carried["num_rows"])
            if carried["row"]:
                logger.log_metrics(carried["row"], step=carried["row_step"])

    def _restore_max_steps(self, trainer: Trainer) -> None:
        if self._max_steps is not None:
            trainer.fit_loop.epoch_loop.max_steps, self._max_steps = self._max_steps, None

    def _seed_evaluation(self, trainer: Trainer) -> None:
        seed_all("evaluate", trainer.global_step, trainer.global_rank)

    def _validation_is_pending(self, trainer: Trainer) -> bool:
        if self._phase == "training":
            fetcher = trainer.fit_loop._data_fetcher
            return fetcher is not None and trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher)
        return self._phase == "validating"

    def _rows(self, trainer: Trainer) -> dict[str, Any]:
        """How many rows are logged, and the row that will be logged right after this batch's hooks."""
        num_rows = next((log.num_rows for log in trainer.loggers if isinstance(log, MetricsCsv)), 0)
        connector, row = trainer._logger_connector, {}
        if self._phase == "training" and connector.should_update_logs:
            row = {name: float(value) for name, value in connector.metrics["log"].items()}
        step = trainer.fit_loop.epoch_loop._batches_that_stepped
        return {"num_rows": num_rows, "row": row and row | {"epoch": trainer.current_epoch}, "row_step": step}


def _mark_validation_pending(fit_loop: dict[str, Any]) -> None:
    """Rewrites the loops' counters to "batch done, validation begun, none of its batches done".

    Lightning then goes straight to the validation and runs it from its first batch. Left as they are, the counters
    of a checkpoint written at the end of a training batch mean that the validation is over.
    """
    for counters in ("total", "current"):
        batches = fit_loop["epoch_loop.batch_progress"][counters]
        batches["processed"] = batches["completed"] = batches["ready"]
    validation = fit_loop["epoch_loop.val_loop.batch_progress"]
    validation["current"] = dict.fromkeys(validation["current"], 0)
    done = validation["total"]["completed"]
    validation["total"] = {"ready": done + 1, "started": done + 1, "processed": done, "completed": done}
