"""The process of a trial: `fit`, as from the command line, which ends with the worker that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

PARENT = "LITSPACES_SWEEP_PARENT"
HERE = Path(__file__).resolve().parent.parent
# Seconds that a process has to save what it does before it is killed.
PATIENCE = 60.0


def start(
    module: str, arguments: Sequence[str], environment: Mapping[str, str], **options: Any
) -> subprocess.Popen[bytes]:
    """Starts `python -m module arguments` in a session of its own, where this one's Ctrl-C does not reach it.

    Args:
        module: calls `end_with_parent`.
        arguments: its command line.
        environment: what is added to this process's.
        options: of `subprocess.Popen`.
    """
    # As with `python run.py`: what is beside run.py is found, what is in the current folder is not.
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    ours = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", PARENT: str(os.getpid())}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.Popen(
        command, env={**os.environ, **environment, **ours}, stderr=subprocess.STDOUT, start_new_session=True, **options
    )


def end_with_parent(signal_number: int) -> None:
    """Sends this process a signal when the one that started it is gone, however it went.

    The other ranks of a run inherit this: their parent is the first.
    """
    parent = int(os.environ[PARENT])
    os.environ[PARENT] = str(os.getpid())

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal_number)

    threading.Thread(target=watch, daemon=True).start()


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and all that it started: asked first, killed where that does not help."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_words(output: Path) -> str:
    """Why a process ended, from what it printed: its error message, or else its last lines."""
    text = output.read_text(encoding="utf-8", errors="replace").strip()
    _, found, message = text.rpartition("error: ")
    return message if found else "\n".join(text.splitlines()[-5:])


def main() -> int:
    """Trains."""
    # Killed: a run that saves its checkpoint first could hang, and nobody would wait for it.
    end_with_parent(signal.SIGKILL)
    from runner import cli

    return cli.main(["fit", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
