"""W&B is offline unless the user has logged in; metrics.csv is always there."""

import csv
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from lightning.pytorch.loggers import CSVLogger

import run
from runner.loggers import is_logged_in, run_loggers
from runner.metrics_csv import MetricsCsv
from tests.runner.command_line import TOY, only_run, run_to_end


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a key."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_without_a_key_offline(nobody: Path) -> None:
    assert not is_logged_in()


def test_with_a_key_online(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert is_logged_in()


def test_after_wandb_login_online(nobody: Path) -> None:
    netrc = nobody / ".netrc"
    netrc.write_text("machine api.wandb.ai\n  login user\n  password " + "x" * 40 + "\n")
    netrc.chmod(0o600)
    assert is_logged_in()


def test_the_mode_that_was_asked_for_wins(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert not is_logged_in()


def test_loggers_of_the_config_come_after_metrics_csv(tmp_path: Path) -> None:
    other = CSVLogger(tmp_path)
    first, second = run_loggers(tmp_path, {}, other)
    assert isinstance(first, MetricsCsv)
    assert second is other
    assert len(run_loggers(tmp_path, {}, False)) == 1


def test_without_a_logger_the_run_has_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run.main(["fit", *TOY, "--trainer.max_steps=1", "--trainer.logger=false"]) == 0
    assert (only_run(tmp_path) / "checkpoints" / "last.ckpt").is_file()
    assert not (only_run(tmp_path) / "wandb").exists()


def transactions(path: Path) -> Iterator[bytes]:
    """The records of W&B's file: LevelDB's log format, blocks of 32 KiB, after a header of 7 bytes."""
    data, position, record = path.read_bytes(), 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        length, kind = struct.unpack("<HB", data[position + 4 : position + 7])
        record += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def test_wandb_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert [type(logger) for logger in run_loggers(tmp_path, {}, None)] == [MetricsCsv]


def test_a_trial_run_leaves_nothing_beside_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run.main(["fit", *TOY, "--trainer.fast_dev_run=true"]) == 0
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["ToyModule"]
    assert (only_run(tmp_path) / "config.yaml").is_file()


@pytest.mark.slow
def test_wandb_has_what_metrics_csv_has(tmp_path: Path) -> None:
    """Offline, for real: the transaction log holds the rows, under the step of metrics.csv, and the config."""
    from wandb.proto import wandb_internal_pb2

    run_to_end(tmp_path, "fit", *TOY, "--trainer.max_steps=6", "--trainer.log_every_n_steps=1", wandb="offline")
    (path,) = only_run(tmp_path).glob("wandb/offline-run-*/*.wandb")
    logged, config = [], ""
    for data in transactions(path):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        config += str(record.run.config) if record.WhichOneof("record_type") == "run" else ""
        items = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
        if "train/loss" in items:
            logged.append((int(float(items["trainer/global_step"])), float(items["train/loss"])))
    with (only_run(tmp_path) / "metrics.csv").open(newline="") as file:
        rows = [(int(row["step"]), float(row["train/loss"])) for row in csv.DictReader(file) if row["train/loss"]]
    assert logged == rows
    assert "step_seconds" in config
