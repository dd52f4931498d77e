"""Prediction files that are cut off anywhere and gone on with."""

import json
import os
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from filelock import FileLock

from callbacks import ExponentialMovingAverage, PredictionLines
from tests.callbacks.answers import Answers, Counted, Questions, Unskippable
from tests.callbacks.modules import lightning_noise, quiet_trainer
from tests.runner.command_line import finish, run_to_end, start, wait_for

pytestmark = lightning_noise
TWO: dict[str, Any] = {"devices": 2, "strategy": "ddp_spawn"}


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """17 texts: with 2 processes of batches of 4 the last batch is one text."""
    path = tmp_path / "questions.txt"
    path.write_text("".join(f"问题 {number} {'😀' * number}\n" for number in range(17)))
    return path


def predict(
    path: Path | None,
    questions: Path,
    model: pl.LightningModule | None = None,
    data: type[pl.LightningDataModule] = Questions,
    callbacks: tuple[pl.Callback, ...] = (),
    **arguments: Any,
) -> None:
    """Writes predictions to `path`; what the data takes is told from what the trainer does."""
    own = {"batch_size": arguments.pop("batch_size")} if "batch_size" in arguments else {}
    ckpt_path = arguments.pop("ckpt_path", None)
    lines = PredictionLines(str(path) if path else None)
    trainer = quiet_trainer(callbacks=[lines, *callbacks], default_root_dir=questions.parent, **arguments)
    module, source = model or Answers(), data(str(questions), **own)
    trainer.predict(module, datamodule=source, return_predictions=False, ckpt_path=ckpt_path)


def expected(questions: Path, weight: float = 1.5, *, several: bool = False) -> bytes:
    texts = questions.read_text().splitlines()
    records = [
        {"text": text, "答": [len(text), weight]} for text in texts for _ in range(len(text) % 3 if several else 1)
    ]
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def test_one_line_for_each_input_in_order(tmp_path: Path, questions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "far" / "out.jsonl"
    predict(path, questions)
    assert path.read_bytes() == expected(questions)
    assert capsys.readouterr().out == f"predictions  {path} (17 lines)\n"


def test_by_default_in_the_runs_folder(tmp_path: Path, questions: Path) -> None:
    predict(None, questions)
    assert (tmp_path / "predictions.jsonl").read_bytes() == expected(questions)


@pytest.mark.parametrize("returns", ["records", "several"])
def test_cut_off_anywhere(tmp_path: Path, questions: Path, returns: str) -> None:
    """At every seventh byte, in the middle of characters too; the number of inputs a batch may be another."""
    whole, path = expected(questions, several=returns == "several"), tmp_path / "out.jsonl"
    predict(path, questions, Answers(returns=returns))
    for cut in [0, 1, *range(3, len(whole), 7), len(whole) - 1, len(whole)]:
        path.write_bytes(whole[:cut])
        predict(path, questions, Answers(returns=returns), batch_size=1 + cut % 5)
        assert path.read_bytes() == whole, cut


def test_records_cut_off_anywhere(tmp_path: Path, questions: Path) -> None:
    """What is written between the lines of a batch and their record, at every byte of the records."""
    whole, path, model = expected(questions, several=True), tmp_path / "out.jsonl", Answers(returns="several")
    predict(path, questions, model)
    beside = tmp_path / "out.jsonl.progress"
    records = beside.read_bytes()
    assert records.decode().splitlines()[0] == "0 0 0"
    assert records.decode().splitlines()[-1] == f"17 {whole.count(10)} {len(whole)}"
    for cut in range(len(records) - 1, records.index(b"\n"), -1):
        beside.write_bytes(records[:cut])
        path.write_bytes(whole[: len(whole) - cut % 3])
        predict(path, questions, model, batch_size=3)
        assert path.read_bytes() == whole, cut


def test_inputs_without_lines_are_not_asked_again(tmp_path: Path, questions: Path) -> None:
    asked: list[str] = []

    class Silent(Answers):
        def predict_step(self, batch: list[str], batch_idx: int) -> Any:
            asked.extend(batch)
            if len(asked) > 8:
                raise InterruptedError
            return [[] for _ in batch]

    with pytest.raises(InterruptedError):
        predict(tmp_path / "out.jsonl", questions, Silent())
    assert (tmp_path / "out.jsonl").read_bytes() == b""
    asked.clear()
    with pytest.raises(InterruptedError):
        predict(tmp_path / "out.jsonl", questions, Silent())
    assert asked[0].startswith("问题 8 ")
    (tmp_path / "out.jsonl").unlink()
    asked.clear()
    with pytest.raises(InterruptedError):
        predict(tmp_path / "out.jsonl", questions, Silent())
    assert asked[0].startswith("问题 0 ")


def test_batches_are_written_when_they_are_done(tmp_path: Path, questions: Path) -> None:
    path, seen = tmp_path / "out.jsonl", []

    class Look(pl.Callback):
        def on_predict_batch_start(self, *_: Any) -> None:
            seen.append(path.read_bytes().count(b"\n"))

    predict(path, questions, callbacks=(Look(),))
    assert seen == [0, 4, 8, 12, 16]


def test_what_is_left_out_is_forgotten_afterwards(tmp_path: Path, questions: Path) -> None:
    data, path = Questions(str(questions)), tmp_path / "out.jsonl"
    for returns, failure in (("records", None), ("records", None), ("tensor", ValueError)):
        trainer, model = quiet_trainer(callbacks=[PredictionLines(str(path))]), Answers(returns=returns)
        with pytest.raises(failure) if failure else nullcontext():
            trainer.predict(model, data, return_predictions=False)
        assert data.skip_predictions == 0


def test_half_a_surrogate_pair_survives(tmp_path: Path, questions: Path) -> None:
    class Half(Answers):
        def predict_step(self, batch: list[str], batch_idx: int) -> Any:
            return [{"text": "\ud83d 线"} for _ in batch]

    predict(tmp_path / "out.jsonl", questions, Half())
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"text": "\ud83d 线"}] * 17


# What else a file's lines might have come from.


def begun(tmp_path: Path, questions: Path) -> Path:
    path = tmp_path / "out.jsonl"
    predict(path, questions)
    path.write_bytes(path.read_bytes()[:200])
    return path


def assert_refused(path: Path, match: str, *arguments: Any, **named: Any) -> None:
    before = path.read_bytes()
    with pytest.raises(ValueError, match=match):
        predict(path, *arguments, **named)
    assert path.read_bytes() == before


def test_other_weights_are_refused(tmp_path: Path, questions: Path) -> None:
    path, other = begun(tmp_path, questions), Answers()
    other.weight.data.add_(1)
    assert_refused(path, r"lines from something else: weights='\w+' there, '\w+' here", questions, other)
    predict(tmp_path / "other.jsonl", questions, other)


@pytest.mark.parametrize("data", [Questions, Counted])
@pytest.mark.filterwarnings("ignore:Total length of `CountedBatches` across ranks is zero")
def test_averaged_weights_are_others(
    tmp_path: Path, questions: Path, data: type[Questions], capsys: pytest.CaptureFixture[str]
) -> None:
    """Where nothing is left to predict, too."""
    path, average = tmp_path / "out.jsonl", ExponentialMovingAverage("")
    average.load_state_dict({"average": {"weight": torch.tensor(9.0)}, "steps": 1, "updates": 1})
    for cut in (0, 200, 10_000):
        path.write_bytes(path.read_bytes()[:cut] if cut else b"")
        predict(path, questions, data=data, callbacks=(average,))
        assert path.read_bytes() == expected(questions, 9.0)
        assert "(17 lines)" in capsys.readouterr().out
    assert_refused(path, "lines from something else: weights=", questions, data=data)


def test_other_arguments_are_refused(tmp_path: Path, questions: Path) -> None:
    path = begun(tmp_path, questions)
    assert_refused(path, r"model.threshold=0.5 there, 0.7 here", questions, Answers(threshold=0.7))


def test_other_inputs_are_refused(tmp_path: Path, questions: Path) -> None:
    path = begun(tmp_path, questions)
    other = tmp_path / "more.txt"
    other.write_text(questions.read_text() + "one more\n")
    assert_refused(path, r"data.source='questions.txt, \d+ bytes.*more.txt", other)
    with questions.open("a") as file:
        file.write("one more\n")
    assert_refused(path, r"data.source='questions.txt, \d+ bytes", questions)


def test_other_checkpoints_are_refused(tmp_path: Path, questions: Path) -> None:
    path = tmp_path / "out.jsonl"
    for number in (2.5, 3.5):
        trainer = quiet_trainer()
        trainer.strategy.connect(Answers(number))
        trainer.save_checkpoint(tmp_path / f"{number}.ckpt", weights_only=True)
    predict(path, questions, ckpt_path=tmp_path / "2.5.ckpt")
    assert path.read_bytes() == expected(questions, 2.5)
    assert_refused(path, "lines from something else: weights=", questions, ckpt_path=tmp_path / "3.5.ckpt")
    path.write_bytes(path.read_bytes()[:200])
    assert_refused(path, "lines from something else: weights=", questions, ckpt_path=tmp_path / "3.5.ckpt")
    predict(path, questions, ckpt_path=tmp_path / "2.5.ckpt")
    assert path.read_bytes() == expected(questions, 2.5)


def test_a_file_of_unknown_origin_is_left_alone(tmp_path: Path, questions: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("mine\n")
    assert_refused(path, "has lines, but out.jsonl.origin.json doesn't say of what", questions)
    (tmp_path / "out.jsonl.origin.json").write_text("{")
    assert_refused(path, "has lines, but out.jsonl.origin.json doesn't say of what", questions)


@pytest.mark.parametrize("records", [None, b"", b"0 0 0\n4 four 99\n", b"0 0 0\n4 4\n", b"0 0 0\n4 4 50\n"])
def test_a_file_of_unknown_progress_is_left_alone(tmp_path: Path, questions: Path, records: bytes | None) -> None:
    path, beside = begun(tmp_path, questions), tmp_path / "out.jsonl.progress"
    beside.unlink() if records is None else beside.write_bytes(records)
    assert_refused(path, "has lines, but out.jsonl.progress doesn't say of which inputs", questions)


def test_a_file_that_is_being_written_is_left_alone(tmp_path: Path, questions: Path) -> None:
    path = begun(tmp_path, questions)
    with FileLock(tmp_path / ".out.jsonl.lock"):
        assert_refused(path, "another process is writing", questions)
    predict(path, questions)
    assert path.read_bytes() == expected(questions)


def test_going_on_needs_a_datamodule_that_can(tmp_path: Path, questions: Path) -> None:
    path = tmp_path / "out.jsonl"
    predict(path, questions, data=Unskippable)
    assert path.read_bytes() == expected(questions)
    assert_refused(path, "has 17 lines already.*Unskippable has none", questions, data=Unskippable)
    path.unlink()
    loader = Unskippable(str(questions)).predict_dataloader()
    for number in (0, 1):
        trainer = quiet_trainer(callbacks=[PredictionLines(str(path))])
        if number:
            with pytest.raises(ValueError, match="there is no datamodule"):
                trainer.predict(Answers(), loader, return_predictions=False)
        else:
            trainer.predict(Answers(), loader, return_predictions=False)


@pytest.mark.parametrize(
    ("returns", "match"),
    [
        ("tensor", "predict_step of Answers returned a Tensor"),
        ("strings", "returned a list with a str"),
        ("nested", "returned a list with a list"),
        ("nothing", "returned nothing"),
        ("tensors", "has no form in JSON: Object of type Parameter"),
        ("nan", "has no form in JSON: Out of range float values"),
    ],
)
@pytest.mark.filterwarnings("ignore:predict returned None")
def test_what_has_no_lines(tmp_path: Path, questions: Path, returns: str, match: str) -> None:
    with pytest.raises(TypeError, match=match):
        predict(tmp_path / "out.jsonl", questions, Answers(returns=returns))


def test_one_dataloader_only(tmp_path: Path, questions: Path) -> None:
    class Two(Questions):
        def predict_dataloader(self) -> Any:
            return [super().predict_dataloader()] * 2

    class Model(Answers):
        def predict_step(self, batch: list[str], batch_idx: int, dataloader_idx: int = 0) -> Any:
            return super().predict_step(batch, batch_idx)

    with pytest.raises(ValueError, match="one dataloader; there are several"):
        predict(tmp_path / "out.jsonl", questions, Model(), Two)


def test_one_callback_only(tmp_path: Path, questions: Path) -> None:
    with pytest.raises(ValueError, match="two PredictionLines"):
        predict(tmp_path / "out.jsonl", questions, callbacks=(PredictionLines(str(tmp_path / "other.jsonl")),))
    assert not (tmp_path / "out.jsonl").exists()


def test_training_writes_nothing(tmp_path: Path) -> None:
    PredictionLines(str(tmp_path / "out.jsonl")).setup(quiet_trainer(), Answers(), "fit")
    assert not list(tmp_path.iterdir())


# Several processes, and processes that are killed.


@pytest.mark.slow
def test_two_processes_keep_the_order(tmp_path: Path, questions: Path) -> None:
    path, whole = tmp_path / "out.jsonl", expected(questions)
    predict(path, questions, **TWO)
    assert path.read_bytes() == whole
    path.write_bytes(whole[:300])
    predict(path, questions, **TWO)
    assert path.read_bytes() == whole
    path.write_bytes(whole[:500])
    predict(path, questions)
    assert path.read_bytes() == whole


def command(questions: Path, *arguments: str) -> list[str]:
    return [
        "predict",
        "--model=tests.callbacks.answers.Answers",
        "--data=tests.callbacks.answers.Questions",
        f"--data.source={questions}",
        "--trainer.callbacks+=PredictionLines",
        "--trainer.callbacks.path=out.jsonl",
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
        *arguments,
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "returns"), [(1, "records"), (2, "records"), (2, "several")])
def test_killed_and_gone_on_with(tmp_path: Path, questions: Path, devices: int, returns: str) -> None:
    """Twice killed within the work, through the command line, which writes no other files of predictions."""
    whole, path = expected(questions, several=returns == "several"), tmp_path / "out.jsonl"
    words = command(questions, f"--trainer.devices={devices}", "--data.batch_size=1", f"--model.returns={returns}")
    lines_of_all = whole.count(b"\n")
    for lines in (3, 8):
        running = start(tmp_path, *words, "--model.step_seconds=0.3")
        wait_for(lambda least=lines: path.exists() and path.read_bytes().count(b"\n") >= least, running)
        os.killpg(running.pid, signal.SIGKILL)
        finish(running, code=-signal.SIGKILL)
        assert path.read_bytes().count(b"\n") < lines_of_all
    assert f"predictions  {Path('out.jsonl')} ({lines_of_all} lines)" in run_to_end(tmp_path, *words)
    assert path.read_bytes() == whole
    assert not list(tmp_path.glob("runs/*/*/predictions*"))
    refused = run_to_end(tmp_path, *words, "--model.threshold=0.7", code=2)
    assert "error: out.jsonl has lines from something else: model.threshold=0.5 there, 0.7 here" in refused
