"""A run goes on with another number of processes."""

from pathlib import Path

import pytest

import run
from tests.processes import difference
from tests.runner.command_line import last_checkpoint, only_run, run_to_end

# An optimizer that doesn't enlarge differences of rounding, as Adam does.
FIT = ["fit", "--config=configs/relativistic_gan_points.yaml", "--model.optimizer=torch.optim.SGD"]
FIT += ["--trainer.accelerator=cpu", "--trainer.log_every_n_steps=1", "--trainer.val_check_interval=3"]
GLOBAL_BATCH = 256
REFUSED = "set data.batch_size so that all processes together have as many rows in a batch as then"


def fit(folder: Path, processes: int, steps: int, *more: str, code: int = 0) -> str:
    """Trains, in this process where one is enough, and returns what was printed by others."""
    batch = f"--data.batch_size={GLOBAL_BATCH // processes}"
    options = [*FIT, f"--trainer.devices={processes}", batch, f"--trainer.max_steps={steps}", *more]
    if processes > 1:
        return run_to_end(folder, *options, code=code)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run.main(options) == code
    return ""


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_resume_with_another_number_of_processes(
    tmp_path: Path, before: int, after: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """With the same global batch it ends where the uninterrupted run does, up to rounding; another is refused."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    fit(whole, before, 6)
    fit(cut, before, 3)
    said = fit(cut, after, 6, "--ckpt_path=last", f"--data.batch_size={GLOBAL_BATCH // before}", code=2)
    assert REFUSED in said + capfd.readouterr().err
    fit(cut, after, 6, "--ckpt_path=last")
    one, other = last_checkpoint(whole), last_checkpoint(cut)
    assert one["global_step"] == other["global_step"] == 6
    places = [saved["loops"]["fit_loop"]["state_dict"]["combined_loader"] for saved in (one, other)]
    assert places[0] == places[1]
    assert places[0][0]["rows"] == 6 * GLOBAL_BATCH
    assert difference(one["state_dict"], other["state_dict"]) < 1e-5
    rows = [(only_run(folder) / "metrics.csv").read_text().splitlines() for folder in (whole, cut)]
    assert len(rows[0]) == len(rows[1]) > 6
