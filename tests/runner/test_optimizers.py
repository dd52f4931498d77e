"""`--optimizer NAME` and `--model.optimizer NAME` with the project's optimizers, on modules of anybody."""

import csv
from pathlib import Path

import pytest
import torch

import run
from tests.runner.command_line import only_run

TOY = ["--model=tests.toys.ToyModule", "--data=tests.toys.ToyData", "--trainer.enable_progress_bar=false"]
FLOWS = ["DampedFlow", "GradientFlow", "LossGuidedFlow", "ScalarRMSprop", "SignFlow"]
pytestmark = pytest.mark.filterwarnings("ignore:`ToyModule.configure_optimizers` will be overridden")


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["list", "optimizers"]) == 0
    out = capsys.readouterr().out
    assert all(flow in out for flow in FLOWS)
    assert "the loss itself says how fast to go" in out


@pytest.mark.parametrize("flow", FLOWS)
def test_a_module_that_knows_nothing_of_them(flow: str, tmp_path: Path) -> None:
    arguments = ["fit", *TOY, f"--optimizer={flow}", "--optimizer.lr=0.03"]
    assert run.main([*arguments, "--trainer.max_steps=4"]) == 0
    whole = only_run(tmp_path)
    saved = torch.load(whole / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["optimizer_states"][0]["param_groups"][0]["lr"] == 0.03
    # Cut off and resumed, to the last bit.
    short = ["--trainer.default_root_dir=cut"]
    assert run.main([*arguments, *short, "--trainer.max_steps=2"]) == 0
    assert run.main([*arguments, *short, "--trainer.max_steps=4", "--ckpt_path=last"]) == 0
    (resumed,) = tmp_path.glob("cut/*/*")
    again = torch.load(resumed / "checkpoints" / "last.ckpt", weights_only=True)
    assert all(torch.equal(value, again["state_dict"][name]) for name, value in saved["state_dict"].items())


def test_a_config_file(tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(
        "model: tests.toys.ToyModule\ndata: tests.toys.ToyData\n"
        "optimizer:\n  class_path: LossGuidedFlow\n  init_args: {lr: 0.1, max_ratio: 10}\n"
        "trainer: {max_steps: 2, enable_progress_bar: false}\n"
    )
    assert run.main(["fit", "--config", "toy.yaml"]) == 0


def test_a_misspelt_optimizer(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["fit", *TOY, "--optimizer=LossGuidedFlw"]) == 2
    assert "Did you mean 'LossGuidedFlow'?" in capsys.readouterr().err


@pytest.mark.parametrize("flow", FLOWS)
def test_one_line_for_our_modules(flow: str) -> None:
    small = ["--model.image_size=8", "--model.network=dense", "--data.size=8", "--trainer.limit_val_batches=0"]
    model = ["--model=EntropicAutoencoder", "--data=ImageDataModule", "--trainer.enable_progress_bar=false"]
    assert run.main(["fit", *model, *small, f"--model.optimizer={flow}", "--trainer.max_steps=1"]) == 0


def test_a_manual_module_says_which_it_cannot_take(capsys: pytest.CaptureFixture[str]) -> None:
    gan = ["--model=RelativisticGAN", "--data=ImageDataModule", "--trainer.enable_progress_bar=false"]
    assert run.main(["fit", *gan, "--model.optimizer=LossGuidedFlow"]) == 2
    assert "all but LBFGS and LossGuidedFlow can be chosen here" in capsys.readouterr().err


def test_accumulated_gradients(capsys: pytest.CaptureFixture[str]) -> None:
    accumulated = ["--optimizer=LossGuidedFlow", "--trainer.accumulate_grad_batches=2", "--trainer.max_steps=2"]
    assert run.main(["fit", *TOY, *accumulated]) == 2
    assert "as with accumulate_grad_batches: use larger batches" in capsys.readouterr().err


def test_a_loss_that_is_nan_stops_the_run_before_the_step(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bad = ["--model.bad_step=2", "--optimizer=LossGuidedFlow", "--checkpoint.every_n_steps=1"]
    assert run.main(["fit", *TOY, *bad, "--trainer.max_steps=4"]) == 1
    assert "LossGuidedFlow: the loss is nan" in capsys.readouterr().err
    saved = torch.load(only_run(tmp_path) / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 2
    assert all(value.isfinite().all() for value in saved["state_dict"].values())


@pytest.mark.slow
@pytest.mark.parametrize(("config", "end"), [("optimization_flow", 0.407), ("optimization_flow_gradient", 3.0)])
def test_the_articles_experiment(config: str, end: float, tmp_path: Path) -> None:
    assert run.main(["fit", f"--config=configs/{config}.yaml", "--trainer.enable_progress_bar=false"]) == 0
    with (only_run(tmp_path) / "metrics.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last["val/theta_0"]) == pytest.approx(end, abs=1e-3)
    assert len(list(only_run(tmp_path).glob("media/flow-step=*.png"))) == 5
