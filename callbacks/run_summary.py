"""The last lines of a run: what came out and where it is."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger


class RunSummary(Callback):
    """Prints, when a run ends, its best metric, its files and how to go on; on one process only.

    Args:
        resume_command: the command line that continues the run, `{checkpoint}` standing for its checkpoint.
    """

    def __init__(self, resume_command: str | None = None) -> None:
        self._resume_command = resume_command
        self._folder = Path()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Asks for the run's folder, which is a collective call: all processes make it here."""
        self._folder = Path(trainer.log_dir or trainer.default_root_dir)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the summary of a run that came to its end."""
        self._print(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Prints it for a run that was stopped, if there is something to go on from."""
        if getattr(trainer.checkpoint_callback, "last_model_path", ""):
            self._print(trainer)

    def _print(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            # Plain lines: a table would cut the paths, and they are for copying.
            print("", *(f"{label:<12}{text}" for label, text in self.lines(trainer)), sep="\n", flush=True)

    def lines(self, trainer: Trainer) -> list[tuple[str, str]]:
        """The summary as pairs of label and text, in order; files that do not exist are left out."""
        checkpoint = trainer.checkpoint_callback
        last = getattr(checkpoint, "last_model_path", "")
        found = [
            ("steps", f"{trainer.global_step} ({trainer.current_epoch} epochs)"),
            ("best", _best(trainer)),
            ("pictures", _if_exists(self._folder / "media")),
            ("checkpoint", getattr(checkpoint, "best_model_path", "") or last),
            ("metrics", _if_exists(self._folder / "metrics.csv")),
            ("W&B", _wandb(trainer)),
            # Arguments of the command may have braces of their own.
            ("resume", (self._resume_command or "").replace("{checkpoint}", _short(last)) if last else ""),
        ]
        return [(label, _short(text)) for label, text in found if text]


def _best(trainer: Trainer) -> str:
    checkpoint = trainer.checkpoint_callback
    score, monitor = getattr(checkpoint, "best_model_score", None), getattr(checkpoint, "monitor", None)
    return f"{monitor} {float(score):.4g}" if score is not None else ""


def _wandb(trainer: Trainer) -> str:
    """Where W&B has the run: its folder if it is offline, its page otherwise."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            run = logger.experiment
            url = None if run.offline else run.url
            return url or f"wandb sync {_short(str(Path(run.dir).parent))}"
    return ""


def _if_exists(path: Path) -> str:
    return str(path) if path.exists() else ""


def _short(text: str) -> str:
    """A path below the current folder without that folder."""
    return text.removeprefix(f"{Path.cwd()}/")
