"""Which progress bar a run has."""

from typing import Any

import pytest
from lightning.pytorch.callbacks import Callback, ProgressBar, RichProgressBar, TQDMProgressBar

import run
from callbacks import KerasProgressBar


@pytest.fixture
def bars(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> list[list[type]]:
    """The bars of each run that is started in an empty folder."""
    found: list[list[type]] = []

    def remember(self: Any, trainer: Any, pl_module: Any, stage: str) -> None:
        found.append([type(one) for one in trainer.callbacks if isinstance(one, ProgressBar)])

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Callback, "setup", remember)
    return found


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], [KerasProgressBar]),
        (["--trainer.callbacks=KerasProgressBar", "--trainer.callbacks.width=10"], [KerasProgressBar]),
        (["--trainer.callbacks=RichProgressBar"], [RichProgressBar]),
        (["--trainer.callbacks=TQDMProgressBar"], [TQDMProgressBar]),
        (["--trainer.enable_progress_bar=false"], []),
    ],
    ids=str,
)
def test_a_run_has_keras_bar_unless_it_names_another(
    bars: list[list[type]], options: list[str], expected: list[type]
) -> None:
    short = ["--trainer.max_steps=1", "--trainer.limit_val_batches=0", "--trainer.val_check_interval=1"]
    assert run.main(["fit", "--config", "configs/relativistic_gan_points.yaml", *short, *options]) == 0
    assert bars[0] == expected
