"""The workers that one command line starts, shown and stopped together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

import optuna
from optuna.trial import FrozenTrial
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from runner.search_space import SearchSpace
from runner.sweep_child import last_words, start
from runner.sweep_report import best_trial, short
from runner.sweep_study import Sweep
from runner.sweep_trials import REASON, count_finished, is_finished, outcome, trials_of

POLL_SECONDS = 0.5


class Crew:
    """The workers that one command line starts.

    Args:
        sweep: what they work on.
        size: how many.
    """

    def __init__(self, sweep: Sweep, size: int) -> None:
        self._sweep = sweep
        self._signal: int | None = None
        signal.signal(signal.SIGINT, self._note)
        signal.signal(signal.SIGTERM, self._note)
        logs = sweep.path / "workers"
        logs.mkdir(exist_ok=True)
        # Runs side by side that each use all cores stall one another.
        threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // size))}
        stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        self._logs = [logs / f"{stamp}-{number}.log" for number in range(size)]
        self._workers = [self._start(log, threads) for log in self._logs]

    def _start(self, log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with log.open("wb") as output:
            worker = start("runner.sweep_worker", [], environment, stdin=subprocess.PIPE, stdout=output)
        assert worker.stdin is not None
        worker.stdin.write(self._sweep.to_json().encode())
        worker.stdin.close()
        return worker

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        # A second Ctrl-C ends everything at once.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        again = "; Ctrl-C again: at once" if number == signal.SIGINT else ""
        print(f"\nstopping the trials{again}", file=sys.stderr, flush=True)

    def watch(self, study: optuna.Study, space: SearchSpace) -> None:
        """Shows how far the sweep is until all workers have ended; passes on that it shall stop."""
        told = {trial.number for trial in trials_of(study) if is_finished(trial)}
        with Progress(BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}")) as bar:
            task = bar.add_task("", total=self._sweep.limit)
            while True:
                running = [worker for worker in self._workers if worker.poll() is None]
                for trial in trials_of(study):
                    if is_finished(trial) and trial.number not in told:
                        told.add(trial.number)
                        bar.console.print(_line(trial, space), markup=False, highlight=False, soft_wrap=True)
                bar.update(task, completed=len(told), description=_best(study, space))
                if not running:
                    return
                if self._signal is not None or self._refusals():
                    for worker in running:
                        worker.terminate()
                time.sleep(POLL_SECONDS)

    def kill(self) -> None:
        """Ends those that still run; their trials end by themselves."""
        for worker in self._workers:
            worker.kill()

    def exit_code(self, study: optuna.Study) -> int:
        """0 with all results, 1 without, 2 after a mistake, 128 and the signal's number after a signal.

        Why there are not all is printed.
        """
        if refusals := self._refusals():
            print(f"error: {refusals[0]}", file=sys.stderr)
            return 2
        if self._signal is not None:
            return 128 + self._signal
        if count_finished(study) >= self._sweep.limit and best_trial(study):
            return 0
        for worker, log in zip(self._workers, self._logs, strict=True):
            if worker.returncode:
                print(f"error: a worker ended with {worker.returncode}, see {log}. {last_words(log)}", file=sys.stderr)
        if not best_trial(study):
            print("error: no trial came to its end; trials.csv says why.", file=sys.stderr)
        return 1

    def _refusals(self) -> list[str]:
        """What the workers say that ended by the user's mistake."""
        ended = zip(self._workers, self._logs, strict=True)
        return [last_words(log) for worker, log in ended if worker.returncode == 2]


def _line(trial: FrozenTrial, space: SearchSpace) -> str:
    reason = trial.user_attrs.get(REASON, "").partition("\n")[0]
    value = f"{space.metric} {short(trial.value)}" if trial.value is not None else reason
    return f"trial {trial.number} {outcome(trial)}: {value}"


def _best(study: optuna.Study, space: SearchSpace) -> str:
    best = best_trial(study)
    return f"best {space.metric} {short(best.value)} (trial {best.number})" if best else ""
