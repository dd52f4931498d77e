"""What 20 steps of each article log, kept: a change that should change no number shows that it has changed none.

    python -m tests.golden

writes the files anew, to be committed with the change that means to move the numbers. Machines of one kind give the
same digits; others round sums in another order.
"""

import contextlib
import io
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

import run
from benchmarks.processes import CONFIGS
from runner.shipped import shipped

__all__ = ["CONFIGS", "MACHINE", "kept", "logged", "machine"]

FOLDER = Path(__file__).parent
MACHINE = FOLDER / "machine.txt"
OPTIONS = ("max_steps=20", "log_every_n_steps=1", "val_check_interval=20", "limit_val_batches=2")
# These multiply rounding errors: in float32, other instructions moved a number by 5e-4.
IN_FLOAT64 = {"relativistic_gan", "single_loss_gan", "entropic_autoencoder"}
# Which instructions sum how many numbers at once.
WIDTHS = {"avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile"}


def machine() -> str:
    """The kind of machine and software that gives the same digits."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    widths = sorted(WIDTHS.intersection(fields.get("flags", "").split()))
    return f"{fields.get('model name', platform.processor())}; {' '.join(widths)}; torch {torch.__version__}\n"


def logged(article: str) -> str:
    """The metrics.csv of 20 steps of a shipped config, in one thread.

    Raises:
        RuntimeError: the run fails.
    """
    with tempfile.TemporaryDirectory() as folder, _one_thread(), contextlib.redirect_stdout(io.StringIO()):
        command = ["fit", f"--config={shipped('configs') / article}.yaml", "--trainer.enable_progress_bar=false"]
        command += [f"--trainer.default_root_dir={folder}", *(f"--trainer.{option}" for option in OPTIONS)]
        code = run.main([*command, f"--trainer.precision={64 if article in IN_FLOAT64 else 32}-true"])
        if code:
            raise RuntimeError(f"20 steps of {article} ended with exit code {code}")
        (found,) = Path(folder).glob("*/*/metrics.csv")
        return found.read_text()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def kept(article: str) -> Path:
    """Where an article's numbers are."""
    return FOLDER / f"{article}.csv"
