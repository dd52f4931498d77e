"""What a run looks like, word for word, and that it shows what is logged."""

import io
import os
import pty
import statistics
import struct
import sys
import termios
import threading
from collections import defaultdict
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from torchmetrics import MeanMetric

from callbacks import KerasProgressBar, keras_screen, keras_task
from callbacks.keras_line import number
from runner.exact_resume import ExactResume
from tests.callbacks.modules import Images, TinyGAN, lightning_noise, quiet_trainer
from tests.callbacks.terminal import FakeTerminal, attach, screen

pytestmark = lightning_noise
FULL = "━" * 20


class Numbers(pl.LightningModule):
    """Logs known numbers, a second a training step and two a validation step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.now = 0.0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.now += 1
        self.log("loss", torch.tensor(float(self.trainer.fit_loop.total_batch_idx)), prog_bar=True)
        return self.weight.sum()

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.now += 2
        self.log("val/loss", torch.tensor(10.0 + self.global_step), prog_bar=True)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.now += 2
        self.log("test/loss", torch.tensor(0.5), prog_bar=True)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.now += 2
        return torch.zeros(1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def batches(n: int) -> DataLoader:
    return DataLoader(TensorDataset(torch.zeros(n, 1)))


class Endless(IterableDataset):
    """Batches without a length."""

    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.zeros(4, 1))


def shown(
    monkeypatch: pytest.MonkeyPatch,
    module: Numbers | None = None,
    *,
    bar: KerasProgressBar | None = None,
    stream: Any = None,
    do: str = "fit",
    **settings: Any,
) -> list[str]:
    """The rows on the screen after a run: 4 training batches, 2 validation batches, a clock that the module sets."""
    module = module or Numbers()
    stream = attach(io.StringIO() if stream is None else stream, monkeypatch)
    monkeypatch.setenv("COLUMNS", "500")
    for place in (keras_screen, keras_task):
        monkeypatch.setattr(place, "monotonic", lambda: module.now)
    train, val = settings.pop("train", batches(4)), settings.pop("val", batches(2))
    if val is None:
        val, settings["limit_val_batches"] = batches(2), 0
    run = {"ckpt_path": settings.pop("ckpt_path")} if "ckpt_path" in settings else {}
    callbacks = [bar or KerasProgressBar(), *settings.pop("callbacks", [])]
    trainer = quiet_trainer(callbacks=callbacks, enable_progress_bar=True, **settings)
    if do == "fit":
        trainer.fit(module, train, val, **run)
    else:
        silent = {} if do == "predict" else {"verbose": False}
        getattr(trainer, do)(module, val, **silent, **run)
    return screen(stream.getvalue())


STREAMS = pytest.mark.parametrize("stream", [io.StringIO, FakeTerminal])


# ---- What it looks like ----


@STREAMS
def test_epochs(stream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, stream=stream(), max_epochs=2, num_sanity_val_steps=2) == [
        "Epoch 1/2",
        f"4/4 {FULL} 8s 1s/step - loss: 1.5000 - val/loss: 14.0000",
        "Epoch 2/2",
        f"4/4 {FULL} 8s 1s/step - loss: 5.5000 - val/loss: 18.0000",
        "",
    ]


@STREAMS
def test_several_validations_an_epoch_end_a_line_each(stream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = shown(monkeypatch, stream=stream(), max_epochs=2, val_check_interval=2)
    half = f"{'━' * 10}{'━' if stream is FakeTerminal else '─'}" + ("━" if stream is FakeTerminal else "─") * 9
    assert rows == [
        "Epoch 1/2",
        f"2/4 {half} 6s 1s/step - loss: 0.5000 - val/loss: 12.0000",
        f"4/4 {FULL} 12s 1s/step - loss: 1.5000 - val/loss: 14.0000",
        "Epoch 2/2",
        f"2/4 {half} 6s 1s/step - loss: 4.5000 - val/loss: 16.0000",
        f"4/4 {FULL} 12s 1s/step - loss: 5.5000 - val/loss: 18.0000",
        "",
    ]


def test_a_run_of_so_many_steps_has_no_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = shown(monkeypatch, max_epochs=None, max_steps=10, val_check_interval=5, check_val_every_n_epoch=None)
    assert rows == [
        f" 5/10 {'━' * 10}{'─' * 10} 9s 1s/step - loss: 2.0000 - val/loss: 15.0000",
        f"10/10 {FULL} 18s 1s/step - loss: 7.0000 - val/loss: 20.0000",
        "",
    ]


def test_a_run_that_ends_between_validations(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = shown(monkeypatch, max_epochs=None, max_steps=7, val_check_interval=5, check_val_every_n_epoch=None)
    assert rows[-2:] == [f"7/7 {FULL} 11s 1s/step - loss: 5.5000", ""]


def test_two_optimizers_count_two_steps_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = attach(io.StringIO(), monkeypatch)
    trainer = quiet_trainer(max_epochs=None, max_steps=6, callbacks=[KerasProgressBar()], enable_progress_bar=True)
    trainer.fit(TinyGAN(), Images())
    assert stream.getvalue().startswith(f"6/6 {FULL} ")


def test_accumulated_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = shown(monkeypatch, accumulate_grad_batches=2, val=None)
    assert rows == ["Epoch 1/1", f"4/4 {FULL} 4s 1s/step - loss: 1.5000", ""]
    rows = shown(monkeypatch, accumulate_grad_batches=2, max_epochs=None, max_steps=3, val=None)
    assert rows == [f"3/3 {FULL} 6s 2s/step - loss: 2.5000", ""]


def test_max_steps_may_end_an_epoch_early(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = shown(monkeypatch, max_epochs=2, max_steps=6, val=None)
    assert rows[-3:] == ["Epoch 2/2", f"2/2 {FULL} 2s 1s/step - loss: 4.5000", ""]


def test_an_unknown_length(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = FakeTerminal()
    rows = shown(monkeypatch, stream=terminal, train=DataLoader(Endless()), val=DataLoader(Endless()))
    assert "\x1b[1m      3/Unknown\x1b[0m \x1b[1m3s\x1b[0m 1s/step - loss: 1.0000" in terminal.getvalue()
    assert "\x1b[1mValidation       4/Unknown\x1b[0m \x1b[1m8s\x1b[0m 2s/step" in terminal.getvalue()
    assert rows == ["Epoch 1/1", f"4/4 {FULL} 12s 1s/step - loss: 1.5000 - val/loss: 14.0000", ""]


def test_time_left_while_running(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = FakeTerminal()
    shown(monkeypatch, stream=terminal, val=None, train=batches(200))
    assert f"\x1b[1m 20/200\x1b[0m \x1b[32m━━\x1b[0m\x1b[37m{'━' * 18}\x1b[0m \x1b[1m3:00\x1b[0m 1s/step" in (
        terminal.getvalue()
    )


def test_endless_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stops(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            trainer.should_stop = trainer.current_epoch == 1

    rows = shown(monkeypatch, max_epochs=-1, val=None, callbacks=[Stops()])
    assert rows[:3:2] == ["Epoch 1", "Epoch 2"]


@pytest.mark.parametrize("do", ["validate", "test", "predict"])
@STREAMS
def test_evaluations(do: str, stream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"validate": " - val/loss: 10.0000", "test": " - test/loss: 0.5000", "predict": ""}
    assert shown(monkeypatch, stream=stream(), do=do) == [f"2/2 {FULL} 4s 2s/step{values[do]}", ""]


def test_several_dataloaders(monkeypatch: pytest.MonkeyPatch) -> None:
    values = "val/loss/dataloader_idx_0: 14.0000 - val/loss/dataloader_idx_1: 14.0000"
    rows = shown(monkeypatch, val=[batches(2), batches(3)])
    assert rows[1] == f"4/4 {FULL} 14s 1s/step - loss: 1.5000 - {values}"
    rows = shown(monkeypatch, val=[batches(2), batches(3)], do="validate")
    assert rows[0] == f"5/5 {FULL} 10s 2s/step - {values.replace('14', '10')}"


def test_a_file_gets_a_line_every_30_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    rows = shown(monkeypatch, stream=stream, train=batches(100), val=None)
    assert rows == [
        "Epoch 1/1",
        f" 30/100 ━━━━━━{'─' * 14} 1:10 1s/step - loss: 14.5000",
        f" 60/100 {'━' * 12}{'─' * 8} 40s 1s/step - loss: 29.5000",
        f" 90/100 {'━' * 18}── 10s 1s/step - loss: 44.5000",
        f"100/100 {FULL} 100s 1s/step - loss: 49.5000",
        "",
    ]
    assert not {"\r", "\x1b"} & set(stream.getvalue())


def test_a_stream_without_the_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = shown(monkeypatch, stream=FakeTerminal("ascii"))
    assert rows[1] == f"4/4 {'=' * 20} 8s 1s/step - loss: 1.5000 - val/loss: 14.0000"


def test_on_a_real_terminal_of_60_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    class Talks(Numbers):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if batch_idx == 2:
                self.trainer.print("from the trainer")
                self.print("from the module")
            self.log("精度", torch.tensor(0.5), prog_bar=True)
            return super().training_step(batch, batch_idx)

    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.extend(iter(lambda: _read(master), b"")))
    reader.start()
    with os.fdopen(slave, "w", encoding="utf-8") as stream:
        stream.getvalue = str  # type: ignore[attr-defined]
        shown(monkeypatch, Talks(), stream=stream)
    reader.join()
    os.close(master)
    assert screen(b"".join(received).decode().replace("\r\n", "\n"), 60) == [
        "Epoch 1/1",
        "from the trainer",
        "from the module",
        f"4/4 {FULL} 8s 1s/step - 精度: 0.5000",
        "    - loss: 1.5000 - val/loss: 14.0000",
        "",
    ]


def _read(master: int) -> bytes:
    try:
        return os.read(master, 4096)
    except OSError:  # The other side is closed.
        return b""


# ---- What it shows is what is logged ----


class Log(DummyLogger):
    """Keeps all that is logged, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, list[float]] = defaultdict(list)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        for name, value in metrics.items():
            self.values[name].append(value)


class LogsInEveryWay(Numbers):
    """Values of steps, of epochs, of both, of a torchmetric, of some steps, of the hooks after the bar's."""

    def __init__(self) -> None:
        super().__init__()
        self.metric = MeanMetric()
        self.only_updated = MeanMetric()
        self.random = torch.Generator().manual_seed(0)

    def log_random(self, name: str, **options: Any) -> None:
        self.log(name, torch.rand((), generator=self.random), prog_bar=True, **options)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.log_random("only_step", on_step=True, on_epoch=False)
        self.log_random("both", on_epoch=True, on_step=True)
        self.log_random("only_epoch", on_epoch=True, on_step=False)
        if batch_idx % 3 == 1:
            self.log_random("now_and_then")
        self.metric(torch.rand((), generator=self.random))
        self.only_updated.update(torch.ones(()))
        self.log("metric", self.metric, prog_bar=True, on_step=True, on_epoch=True)
        self.log("only_updated", self.only_updated, prog_bar=True, on_step=True, on_epoch=True)
        self.log("hidden", torch.ones(()))
        return self.weight.sum()

    def on_train_batch_end(self, *args: Any) -> None:
        self.log_random("late")

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log_random("val/both", on_step=True, on_epoch=True)

    def on_validation_epoch_end(self) -> None:
        if self.trainer.current_epoch % 2 == 0:
            self.log_random("val/now_and_then")

    def on_train_epoch_end(self) -> None:
        self.log_random("epochs_end")


def values_of(row: str) -> dict[str, str]:
    """By name, what a line shows."""
    return dict(part.split(": ") for part in row.split(" - ")[1:])


@STREAMS
@pytest.mark.parametrize("n", [1, 5])
def test_means_are_those_of_the_logged_values(stream: Any, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    rows = shown(monkeypatch, LogsInEveryWay(), stream=stream(), logger=log, max_epochs=3, train=batches(n))
    logged: dict[str, list[float]] = log.values
    of_steps = ["only_step", "both_step", "metric_step", "late"] + ["now_and_then"] * (n > 1)
    of_epochs = ["both_epoch", "only_epoch", "metric_epoch", "only_updated_epoch", "epochs_end", "val/both_epoch"]
    for epoch in range(3):
        line = values_of(rows[2 * epoch + 1])
        expected = {name: logged[name][epoch] for name in of_epochs}
        for name in of_steps:
            share = len(logged[name]) // 3
            expected[name] = statistics.fmean(logged[name][epoch * share : (epoch + 1) * share])
        if epoch % 2 == 0:
            expected["val/now_and_then"] = logged["val/now_and_then"][epoch // 2]
        assert line == {name: number(value) for name, value in expected.items()}


def test_means_of_a_run_begin_anew_after_a_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    settings = {"max_epochs": None, "max_steps": 20, "val_check_interval": 7, "check_val_every_n_epoch": None}
    rows = shown(monkeypatch, LogsInEveryWay(), logger=log, train=batches(5), **settings)
    for row, (begin, end) in zip(rows, [(0, 7), (7, 14), (14, 20)], strict=False):
        for name in ("only_step", "late", "both_step"):
            assert values_of(row)[name] == number(statistics.fmean(log.values[name][begin:end]))
    assert values_of(rows[0])["val/both_epoch"] == number(log.values["val/both_epoch"][0])
    assert values_of(rows[0])["epochs_end"] == number(log.values["epochs_end"][0])
    assert values_of(rows[2])["epochs_end"] == number(log.values["epochs_end"][-1])
    assert "val/both_epoch" not in values_of(rows[2])


@pytest.mark.parametrize(("stateful", "loss", "late"), [(["late"], 1.5, 3.0), ("all", 3.0, 3.0), ([], 1.5, 1.5)])
def test_stateful_metrics_are_shown_as_they_are(
    stateful: Any, loss: float, late: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Late(Numbers):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.log("late", torch.tensor(float(batch_idx)), prog_bar=True)

    rows = shown(monkeypatch, Late(), bar=KerasProgressBar(stateful_metrics=stateful), val=None)
    assert values_of(rows[1]) == {"loss": number(loss), "late": number(late)}


def test_a_stateful_metric_that_nobody_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(UserWarning, match="no training step logged 'los' with prog_bar=True; did you mean 'loss'"):
        shown(monkeypatch, bar=KerasProgressBar(stateful_metrics=["los"]))


def test_no_results_of_an_earlier_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = shown(monkeypatch, max_epochs=3, check_val_every_n_epoch=2)
    assert [sorted(values_of(row)) for row in rows[1::2]] == [["loss"], ["loss", "val/loss"], ["loss"]]


def test_no_results_of_the_validation_before_in_the_same_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = shown(monkeypatch, val_check_interval=3)
    assert [sorted(values_of(row)) for row in rows[1:3]] == [["loss", "val/loss"], ["loss"]]


def test_no_values_of_an_earlier_epochs_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    class Once(Numbers):
        def __init__(self) -> None:
            super().__init__()
            self.metric = MeanMetric()

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if self.current_epoch == 0:
                self.metric(1.0)
                self.log("metric", self.metric, prog_bar=True, on_step=True, on_epoch=False)
                self.log("once", torch.tensor(1.0), prog_bar=True)
            return super().training_step(batch, batch_idx)

    rows = shown(monkeypatch, Once(), max_epochs=2, val=None)
    assert [sorted(values_of(row)) for row in rows[1::2]] == [["loss", "metric", "once"], ["loss"]]


def test_the_first_step_does_not_count_for_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    class SlowStart(Numbers):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.now += 50 if batch_idx == 0 else 0
            return super().training_step(batch, batch_idx)

    assert shown(monkeypatch, SlowStart(), val=None)[-2] == f"4/4 {FULL} 54s 1s/step - loss: 1.5000"
    assert (
        shown(monkeypatch, SlowStart(), val=None, train=batches(1))[-2] == f"1/1 {FULL} 51s 51s/step - loss: 0.0000e+00"
    )


def test_a_subclass_may_choose_what_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    class Chooses(KerasProgressBar):
        def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
            return {"lr": "constant"} | super().get_metrics(trainer, pl_module)

    rows = shown(monkeypatch, bar=Chooses(), val=None)
    assert rows[1] == f"4/4 {FULL} 4s 1s/step - lr: constant - loss: 1.5000"


def test_a_second_fit_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    bar = KerasProgressBar()
    assert shown(monkeypatch, bar=bar) == shown(monkeypatch, bar=bar)


# ---- Resume ----


def checkpoints(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)


RUNS: list[dict[str, Any]] = [
    {"max_epochs": 2},
    {"max_epochs": 2, "val_check_interval": 2},
    {"max_epochs": None, "max_steps": 8, "val_check_interval": 3, "check_val_every_n_epoch": None},
]


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
@pytest.mark.filterwarnings("ignore:Checkpoint directory")
@pytest.mark.parametrize("settings", RUNS)
@pytest.mark.parametrize("step", range(1, 8))
@pytest.mark.parametrize("exact", [True, False])
def test_a_resumed_run_goes_on_with_its_means(
    settings: dict[str, Any], step: int, exact: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def callbacks() -> list[pl.Callback]:
        checkpoints = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
        return [*([ExactResume()] if exact else []), checkpoints]

    if not exact and "max_steps" in settings and step % 3 == 0:
        pytest.skip("Lightning leaves out a validation that is due, and with it the end of a line")
    settings = settings | {"enable_checkpointing": True}
    whole = shown(monkeypatch, callbacks=callbacks(), **settings)
    path = tmp_path / f"step={step}.ckpt"
    assert torch.load(path, weights_only=True)["callbacks"]["KerasProgressBar"].keys() == {"loss"}
    resumed = shown(monkeypatch, callbacks=callbacks(), ckpt_path=path, **settings)
    # The last lines are those of the run that was never cut off, but for the time.
    wanted, got = ([(row.split(" ")[0], values_of(row)) for row in rows if " - " in row] for rows in (whole, resumed))
    assert got
    assert got == wanted[-len(got) :]


def test_an_evaluation_of_a_checkpoint_shows_none_of_the_trainings_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = quiet_trainer(callbacks=[KerasProgressBar()], enable_progress_bar=True, limit_train_batches=3)
    trainer.fit(Numbers(), batches(4), batches(2))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    checkpoint["callbacks"]["KerasProgressBar"] = {"loss": [1.0, 2]}
    torch.save(checkpoint, tmp_path / "a.ckpt")
    rows = shown(monkeypatch, do="validate", ckpt_path=tmp_path / "a.ckpt")
    assert rows == [f"2/2 {FULL} 4s 2s/step - val/loss: 10.0000", ""]


# ---- Others ----


@STREAMS
def test_an_error_begins_in_a_line_of_its_own(stream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Breaks(Numbers):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if batch_idx == 3:
                raise RuntimeError("no")
            return super().training_step(batch, batch_idx)

    terminal = stream()
    with pytest.raises(RuntimeError):
        shown(monkeypatch, Breaks(), stream=terminal)
    assert sys.stdout is terminal
    assert terminal.getvalue().endswith(" 3s 1s/step - loss: 1.0000\n") or "\x1b" in terminal.getvalue()
    assert screen(terminal.getvalue())[1].endswith(" 3s 1s/step - loss: 1.0000")
    assert screen(terminal.getvalue())[2:] == [""]


@pytest.mark.parametrize("do", ["fit", "validate"])
def test_interrupted_by_the_keyboard(do: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(Numbers):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            if batch_idx == 1:
                raise KeyboardInterrupt
            super().validation_step(batch, batch_idx)

    terminal = FakeTerminal()
    with pytest.raises(SystemExit):
        shown(monkeypatch, Interrupted(), stream=terminal, do=do)
    *_, line, end = screen(terminal.getvalue())
    assert line == (f"4/4 {FULL} 6s 1s/step - loss: 1.5000" if do == "fit" else f"1/2 {FULL} 2s 2s/step")
    assert end == ""


def test_only_the_first_process_shows_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pl.Trainer, "is_global_zero", property(lambda self: False))
    assert shown(monkeypatch, stream=FakeTerminal()) == [""]


@pytest.mark.parametrize("do", ["fit", "validate", "test", "predict"])
def test_nothing_at_all(do: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bar = KerasProgressBar(refresh_rate=0)
    assert shown(monkeypatch, bar=bar, stream=FakeTerminal(), do=do) == [""]
    assert bar.is_disabled
    with bar.stage("Generating", 3) as advance:
        advance(1)


@pytest.mark.slow
def test_of_two_processes_one_shows_a_bar(capfd: pytest.CaptureFixture[str]) -> None:
    trainer = quiet_trainer(
        callbacks=[KerasProgressBar()], enable_progress_bar=True, devices=2, strategy="ddp_spawn", max_epochs=2
    )
    trainer.fit(Numbers(), batches(4), batches(2))
    assert [line.split(" ")[0] for line in capfd.readouterr().out.splitlines()] == ["Epoch", "2/2"] * 2


def test_fewer_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = FakeTerminal()
    shown(monkeypatch, bar=KerasProgressBar(refresh_rate=3), stream=terminal, train=batches(8), val=None)
    assert [f"{n}/8" in terminal.getvalue() for n in range(1, 9)] == [False, False, True] * 2 + [False, True]


def test_disabled_and_enabled_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    bar = KerasProgressBar()

    class Switches(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            (bar.enable if trainer.current_epoch else bar.disable)()

    rows = shown(monkeypatch, bar=bar, max_epochs=2, callbacks=[Switches()])
    assert rows == ["Epoch 2/2", f"4/4 {FULL} 8s 1s/step - loss: 5.5000 - val/loss: 18.0000", ""]


@STREAMS
def test_a_stage_of_another_callback(stream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bar = KerasProgressBar()

    class Generates(pl.Callback):
        def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            with bar.stage("Generating", 3) as advance:
                for _ in range(3):
                    pl_module.now += 1  # type: ignore[assignment, operator]
                    advance(1)

    terminal = stream()
    rows = shown(monkeypatch, bar=bar, stream=terminal, callbacks=[Generates()])
    assert rows == ["Epoch 1/1", f"4/4 {FULL} 11s 1s/step - loss: 1.5000 - val/loss: 14.0000", ""]
    # At once, and then once a unit.
    for count in range(4):
        assert (f"Generating {count}/3" in terminal.getvalue()) == (stream is FakeTerminal)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stateful_metrics": "loss"}, "stateful_metrics must be \"all\" or a list of names, got 'loss'"),
        ({"refresh_rate": -1}, "refresh_rate must be 0 or more batches, got -1"),
        ({"width": 0}, "width must be 1 or more cells, got 0"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KerasProgressBar(**arguments)


def test_batches_that_the_module_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    class Skips(Numbers):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
            return -1 if batch_idx == 2 else None

    rows = shown(monkeypatch, Skips(), max_epochs=2, val=None)
    assert rows[1] == f"2/4 {'━' * 10}{'─' * 10} 2s 1s/step - loss: 0.5000"
    assert rows[2] == "Epoch 2/2"
