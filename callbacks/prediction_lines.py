"""What `predict` says of each input, as JSON lines in one file that a killed run goes on with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import lightning.pytorch as pl
import torch.distributed as dist
from filelock import FileLock, Timeout
from lightning.pytorch import Callback

from callbacks.prediction_origin import check_origin, origin_of, write_origin
from callbacks.prediction_progress import Progress, begin_progress, progress_path, read_progress
from callbacks.protocols import SupportsSkippedPredictions
from callbacks.rank_zero import on_rank_zero
from callbacks.tables import run_folder


class PredictionLines(Callback):
    """Writes what `predict_step` returns as JSON lines (UTF-8).

    That is a list for each batch, which has for each input a dict, its line, or a list of dicts, its lines: several,
    one, or none.

    A batch at a time: memory does not grow with the data. A run that is cut off at any moment, by `kill -9` too, and
    started again with the same path goes on after the last whole batch, and the file ends as if nothing had happened:
    `PATH.progress` beside the file says how many inputs are done and where their lines end, what comes after is cut
    off, and the datamodule leaves out as many inputs. `PATH.origin.json` says which checkpoint, arguments and input
    files the lines come from; a run with others is refused.

    With several processes the first one writes for all, in the order of the inputs, and a run that goes on may have
    another number of them.

    Args:
        path: of the file; by default `predictions.jsonl` in the run's folder. `run.py predict` makes a new folder each
            time: name a path in order to go on with it.

    Raises:
        ValueError: (when prediction starts) the file's lines come from something else, another process is writing it,
            or they cannot be gone on with, because the datamodule has no `skip_predictions`; or this callback is there
            twice.
        TypeError: (while predicting) `predict_step` returns something else, or what JSON has no form for.
    """

    def __init__(self, path: str | None = None) -> None:
        self.path = path
        self._path = Path()
        self._done = Progress()
        self._opened = False
        self._file: IO[bytes] | None = None
        self._records: IO[bytes] | None = None
        self._lock: FileLock | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Looks how far the file has got, and asks the datamodule for the rest."""
        if stage != "predict":
            return
        if sum(isinstance(one, PredictionLines) for one in trainer.callbacks) > 1:  # type: ignore[attr-defined]
            raise ValueError(
                "there are two PredictionLines, of which one could make the other one lose lines: take one"
            )
        self._path = Path(self.path).expanduser() if self.path else run_folder(trainer) / "predictions.jsonl"
        on_rank_zero(trainer, self._take)
        done: Progress = trainer.strategy.broadcast(self._done)
        datamodule = getattr(trainer, "datamodule", None)
        if isinstance(datamodule, SupportsSkippedPredictions):
            datamodule.skip_predictions = done.inputs
        elif done.inputs or trainer.world_size > 1:
            self._close()
            raise ValueError(self._lack(datamodule, done))

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Opens the file, now that the weights are those that predict."""
        on_rank_zero(trainer, lambda: self._open(origin_of(trainer, pl_module)))
        self._opened = True

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Writes one batch, of all processes."""
        if dataloader_idx:
            raise ValueError("PredictionLines writes what is predicted from one dataloader; there are several")
        own = _as_lines(outputs, pl_module)
        parts = _on_first_process((len(outputs), own), trainer)
        if self._file is not None and self._records is not None:
            lines = b"".join(written for _, written in parts)
            inputs, before = sum(number for number, _ in parts), self._done
            self._done = Progress(before.inputs + inputs, before.lines + lines.count(b"\n"), before.end + len(lines))
            # The lines first, and each to the system, which has it also when this process is killed.
            for file, content in ((self._file, lines), (self._records, self._done.record())):
                file.write(content)
                file.flush()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Says where the lines are."""
        if stage != "predict":
            return
        if not self._opened:
            # Nothing was left to predict, and nobody asked yet whether what there is comes from these weights.
            self.on_predict_start(trainer, pl_module)
        if self._close():
            print(f"predictions  {self._path} ({self._done.lines} lines)", flush=True)
        _forget(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Closes the file."""
        self._close()
        _forget(trainer)

    def _take(self) -> None:
        """Takes the file for this process, and sees how far it has got."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self._path.with_name(f".{self._path.name}.lock"))
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(f"another process is writing {self._path}; go on with it when that has ended") from None
        self._done = read_progress(self._path) or Progress()

    def _open(self, origin: dict[str, Any]) -> None:
        """Opens the file after the last whole batch, if its lines come from there."""
        if self._done.inputs or (self._path.exists() and self._path.stat().st_size):
            check_origin(self._path, origin)
            if read_progress(self._path) is None:
                beside = progress_path(self._path).name
                raise ValueError(f"{self._path} has lines, but {beside} doesn't say of which inputs: name another path")
        else:
            write_origin(self._path, origin)
        begin_progress(self._path, self._done)
        self._records = progress_path(self._path).open("ab")
        self._file = self._path.open("ab")
        self._file.truncate(self._done.end)

    def _close(self) -> bool:
        """Closes the file, and says whether it was open."""
        was_open, self._opened = self._file is not None, False
        for file in (self._file, self._records):
            if file is not None:
                file.close()
        self._file = self._records = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        return was_open

    def _lack(self, datamodule: object, done: Progress) -> str:
        who = "there is no datamodule" if datamodule is None else f"{type(datamodule).__name__} has none"
        if done.inputs:
            return (
                f"{self._path} has {done.lines} lines already, and going on needs a datamodule with the attribute"
                f" skip_predictions; {who} (see callbacks.protocols.SupportsSkippedPredictions)"
            )
        return (
            "PredictionLines on several processes needs a datamodule with the attribute skip_predictions, which deals"
            f" out inputs in order; {who} (see callbacks.protocols.SupportsSkippedPredictions)"
        )


def _forget(trainer: pl.Trainer) -> None:
    """Lets the next prediction from this datamodule begin at the beginning."""
    datamodule = getattr(trainer, "datamodule", None)
    if trainer.state.fn == "predict" and isinstance(datamodule, SupportsSkippedPredictions):
        datamodule.skip_predictions = 0


def _as_lines(outputs: Any, pl_module: pl.LightningModule) -> bytes:
    name = type(pl_module).__name__
    if not isinstance(outputs, list | tuple) or not all(isinstance(record, Mapping) for record in _flat(outputs)):
        raise TypeError(
            "PredictionLines writes lists with a dict or a list of dicts for each input; predict_step of"
            f" {name} returned {_kind(outputs)}"
        )
    try:
        return b"".join(_line(record) for record in _flat(outputs))
    except (TypeError, ValueError) as error:
        raise TypeError(f"predict_step of {name} returned a record that has no form in JSON: {error}") from None


def _flat(outputs: Sequence[Any]) -> Iterator[Any]:
    """The records of all inputs."""
    for output in outputs:
        yield from output if isinstance(output, list | tuple) else [output]


def _line(record: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except UnicodeEncodeError:
        # Half a surrogate pair, which UTF-8 cannot hold and an escape can.
        return json.dumps(record, allow_nan=False).encode() + b"\n"


def _kind(outputs: Any) -> str:
    if isinstance(outputs, list | tuple):
        wrong = next(record for record in _flat(outputs) if not isinstance(record, Mapping))
        return f"a {type(outputs).__name__} with a {type(wrong).__name__}"
    return "nothing" if outputs is None else f"a {type(outputs).__name__}"


def _on_first_process(own: tuple[int, bytes], trainer: pl.Trainer) -> list[tuple[int, bytes]]:
    """All processes' numbers of inputs and their lines in the order of the ranks, on the first one."""
    if trainer.world_size == 1:
        return [own]
    parts: list[Any] | None = [None] * trainer.world_size if trainer.is_global_zero else None
    dist.gather_object(own, parts)
    return parts or []
