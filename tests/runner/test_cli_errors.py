"""A user's mistake: one or two plain lines that name the thing and the nearest right one, exit code 2."""

import gzip
import struct
from pathlib import Path

import pytest
import torch
from PIL import Image

import run

TOY = ["--model=tests.toys.ToyModule", "--data=tests.toys.ToyData"]
SHORT = ["--trainer.max_steps=1", "--trainer.logger=false", "--trainer.enable_progress_bar=false"]
IMAGES = ["--model=tests.toys.ToyModule", "--data=ImageDataModule"]


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LITSPACES_RUN_FOLDER", raising=False)


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Runs a command that must fail by the user's fault and returns what it said."""
    assert run.main(list(arguments)) == 2
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if line.startswith("error:") or line.strip()]
    message = "\n".join(lines[next(i for i, line in enumerate(lines) if line.startswith("error:")) :])
    assert message.count("\n") <= 1, message
    assert "Traceback" not in said
    return message


def write_config(path: Path, model: str = "", data: str = "", trainer: str = "") -> str:
    path.write_text(
        f"model:\n  class_path: tests.toys.ToyModule\n{model}"
        f"data:\n  class_path: tests.toys.ToyData\n{data}"
        f"trainer:\n  max_steps: 1\n  logger: false\n{trainer}"
    )
    return str(path)


def test_misspelt_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no command 'fti'. Did you mean 'fit'?" in error_of(capsys, "fti")


def test_misspelt_config_path(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_config(tmp_path / "digits.yaml")
    message = error_of(capsys, "fit", "--config", "digit.yaml")
    assert "digit.yaml" in message
    assert "Did you mean 'digits.yaml'?" in message
    shipped = error_of(capsys, "fit", "--config", "configs/relativistic_gn.yaml")
    assert "Did you mean 'relativistic_gan.yaml'?" in shipped


def test_nothing_to_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--data and --model are missing: give a --config, for example" in error_of(capsys, "fit")


def test_an_argument_that_the_class_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    gan = ["--model=RelativisticGAN", "--data=ImageDataModule"]
    message = error_of(capsys, "fit", *gan, "--model.loss=sgann")
    assert message.startswith("error: unknown loss 'sgann'. Did you mean 'sgan'?")
    assert "Namespace" not in message


def test_config_from_an_address(capsys: pytest.CaptureFixture[str]) -> None:
    assert "https://example.org/x.yaml" in error_of(capsys, "fit", "--config", "https://example.org/x.yaml")
    assert "https://example.org/x.yaml" in error_of(capsys, "fit", "--config=https://example.org/x.yaml")


def test_misspelt_class(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Did you mean 'RelativisticGAN'?" in error_of(capsys, "fit", "--model", "RelativisticGan", TOY[1])
    assert "Did you mean 'ImageDataModule'?" in error_of(capsys, "fit", TOY[0], "--data", "ImagesDataModule")
    assert "Did you mean 'ImageGrid'?" in error_of(capsys, "fit", *TOY, "--trainer.callbacks+=ImageGird")


def test_misspelt_class_in_a_config(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = write_config(tmp_path / "c.yaml", trainer="  callbacks:\n    - class_path: ImageGird\n")
    message = error_of(capsys, "fit", "--config", config)
    assert "'ImageGird'" in message
    assert "Did you mean 'ImageGrid'?" in message
    assert f"({config}, line 9)" in message


def test_misspelt_module_path(capsys: pytest.CaptureFixture[str]) -> None:
    assert "tests.tois" in error_of(capsys, "fit", "--model=tests.tois.ToyModule", TOY[1])


def test_misspelt_argument(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    message = error_of(capsys, "fit", *TOY, "--model.widht=4")
    assert "ToyModule has no argument 'widht'. Did you mean 'width'? (on the command line)" in message
    config = write_config(tmp_path / "c.yaml", model="  init_args:\n    widht: 4\n")
    message = error_of(capsys, "fit", "--config", config)
    assert f"ToyModule has no argument 'widht'. Did you mean 'width'? ({config}, line 4)" in message


def test_misspelt_option_of_the_trainer(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "Did you mean '--trainer.max_steps'?" in error_of(capsys, "fit", *TOY, "--trainer.max_stepz=4")
    config = write_config(tmp_path / "c.yaml", trainer="  max_epohcs: 4\n")
    message = error_of(capsys, "fit", "--config", config)
    assert "Did you mean 'trainer.max_epochs'?" in message
    assert "line 8" in message


def test_wrong_type(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    message = error_of(capsys, "fit", *TOY, "--model.lr=fast")
    assert "lr must be a number, not 'fast'. (on the command line)" in message
    config = write_config(tmp_path / "c.yaml", model="  init_args:\n    width: wide\n")
    message = error_of(capsys, "fit", "--config", config)
    assert "width must be a whole number, not 'wide'." in message
    assert f"({config}, line 4)" in message
    assert "max_steps must be a whole number" in error_of(capsys, "fit", *TOY, "--trainer.max_steps=many")


def test_broken_yaml(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("model: [\n")
    assert "c.yaml" in error_of(capsys, "fit", "--config", "c.yaml")


def test_missing_data_file(capsys: pytest.CaptureFixture[str]) -> None:
    message = error_of(capsys, "fit", *IMAGES, "--data.source=no/digits.npz", *SHORT)
    assert "no/digits.npz" in message


def test_corrupt_idx(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(struct.pack(">IIII", 2051, 100, 28, 28) + bytes(1000)))
    assert path.name in error_of(capsys, "fit", *IMAGES, f"--data.source={path}", *SHORT)


def test_corrupt_png(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "faces" / "anna"
    folder.mkdir(parents=True)
    for number in range(20):
        Image.new("L", (28, 28), number).save(folder / f"{number}.png")
    (folder / "7.png").write_bytes(b"\x89PNG\r\n\x1a\nnot a picture")
    assert "7.png" in error_of(capsys, "fit", *IMAGES, "--data.source=faces", *SHORT)


def test_missing_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no checkpoint nope.ckpt" in error_of(capsys, "fit", *TOY, "--ckpt_path=nope.ckpt")
    assert "no run in runs/ToyModule" in error_of(capsys, "fit", *TOY, "--ckpt_path=last")


def test_damaged_checkpoint(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "bad.ckpt").write_bytes(b"PK\x03\x04 not a checkpoint")
    assert "bad.ckpt is not a checkpoint that can be read" in error_of(capsys, "fit", *TOY, "--ckpt_path=bad.ckpt")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "weights.ckpt")
    assert "has no state_dict" in error_of(capsys, "fit", *TOY, "--ckpt_path=weights.ckpt")


def test_checkpoint_of_another_class(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    saved = {"state_dict": {}, "litspaces": {"model_class": "lit_modules.relativistic_gan.RelativisticGAN"}}
    torch.save(saved, tmp_path / "gan.ckpt")
    message = error_of(capsys, "fit", *TOY, "--ckpt_path=gan.ckpt")
    assert "holds a RelativisticGAN, but the config builds a ToyModule" in message


def test_checkpoint_of_another_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["fit", *TOY, *SHORT[:1], *SHORT[2:], "--trainer.logger=true"]) == 0
    capsys.readouterr()
    message = error_of(capsys, "fit", *TOY, "--model.width=5", "--ckpt_path=last")
    assert "linear.weight is (3, 3) there and (5, 3) here" in message
    assert "width=3 there, 5 here" in message


@pytest.mark.parametrize("gan", ["RelativisticGAN", "SingleLossGAN"])
def test_optimizer_for_a_module_that_makes_its_own(capsys: pytest.CaptureFixture[str], gan: str) -> None:
    message = error_of(capsys, "fit", f"--model={gan}", "--data=ImageDataModule", "--optimizer=Adam")
    assert f"{gan} makes its own optimizer: set --model.optimizer, not --optimizer." in message


def test_discriminator_that_the_mode_cannot_take(capsys: pytest.CaptureFixture[str]) -> None:
    gan = ["--model=SingleLossGAN", "--model.latent_dim=2", "--model.network=points", "--data=PointsDataModule"]
    discriminator = ["--model.discriminator=tests.toys.MixingDiscriminator", "--trainer.limit_val_batches=0"]
    message = error_of(capsys, "fit", *gan, *discriminator, "--trainer.max_steps=1", "--trainer.logger=false")
    assert message.startswith("error: mode='one_pass' needs a discriminator that scores each sample by itself")
    assert "in norm (BatchNorm1d) the other samples" in message


def test_trainer_settings_that_a_manual_module_has_itself(capsys: pytest.CaptureFixture[str]) -> None:
    gan = ["--model=RelativisticGAN", "--data=ImageDataModule"]
    message = error_of(capsys, "fit", *gan, "--trainer.gradient_clip_val=1")
    assert "set --model.gradient_clip_val, not --trainer.gradient_clip_val" in message
    message = error_of(capsys, "fit", *gan, "--trainer.accumulate_grad_batches=2")
    assert "set --model.accumulate_grad_batches" in message


def test_callback_that_the_module_has_no_methods_for(capsys: pytest.CaptureFixture[str]) -> None:
    message = error_of(capsys, "fit", *TOY, *SHORT, "--trainer.callbacks=ReconstructionGrid")
    assert "ReconstructionGrid needs a module with encode(), which ToyModule doesn't have" in message


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["fit", *TOY, "--ckpt_path=nope.ckpt", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err
