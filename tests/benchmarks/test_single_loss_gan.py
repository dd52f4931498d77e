"""The benchmark at a tiny scale: what its methods differ in, its verdicts, its report, runs in child processes."""

import dataclasses
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import seed_everything

from benchmarks import single_loss_gan as benchmark
from benchmarks.gan_quality import GANTask, digits_task, train_digits
from benchmarks.runs import Results, Run, Table, side_by_side
from benchmarks.single_loss_gan_report import compare, difference_and_error, verdicts, write_report

NAMES = {("S", "old"): "S, old", ("S", "new"): "S, new", ("R", "old"): "R, old", ("R", "new"): "R, new"}


@pytest.fixture
def small_task(tmp_path: Path) -> GANTask:
    digits = np.random.default_rng(0).integers(0, 256, (300, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", images=digits)
    task = digits_task(str(tmp_path / "noise.npz"), 2, benchmark.METHODS)
    shared, data = task.shared | {"width": 2}, task.data | {"batch_size": 16}
    return dataclasses.replace(task, samples=40, reference=32, shared=shared, data=data)


def test_methods_differ_in_setting_and_form_only() -> None:
    task = digits_task("embedded", 1, benchmark.METHODS)
    hparams = {method: task.model(method).hparams for method in benchmark.METHODS}
    common = set.intersection(*(set(own) for own in hparams.values()))
    assert {name for name in common if len({repr(own[name]) for own in hparams.values()}) > 1} == {"loss"}
    assert {own["spectral_norm"] for own in hparams.values()} == {True}
    chosen = {method: (own["loss"], own.get("mode")) for method, own in hparams.items()}
    forms = {"alternating": None, "article": "article", "one pass": "one_pass"}
    losses = {"SGAN + SN": "sgan", "RSGAN + SN": "rsgan"}
    assert chosen == {f"{s}, {f}": (loss, mode) for s, loss in losses.items() for f, mode in forms.items()}


def test_what_only_one_form_has_is_off() -> None:
    task = digits_task("embedded", 1, benchmark.METHODS)
    alternating, article = (task.model(f"SGAN + SN, {form}").hparams for form in ("alternating", "article"))
    own = {name: alternating[name] for name in set(alternating) - set(article)}
    assert own == {
        "discriminator_steps": 1,
        "generator_steps": 1,
        "gradient_clip_val": None,
        "gradient_clip_algorithm": "norm",
        "accumulate_grad_batches": 1,
    }
    assert {name: article[name] for name in set(article) - set(alternating) - {"mode"}} == {
        "generator_weight": 1.0,
        "gradient_clip_scope": "network",
    }


def test_all_methods_start_from_the_same_weights() -> None:
    task = digits_task("embedded", 1, benchmark.METHODS)
    states = []
    for method in benchmark.METHODS:
        seed_everything(3, verbose=False)
        states.append(task.model(method).state_dict())
    for state in states[1:]:
        torch.testing.assert_close(state, states[0], rtol=0, atol=0)


def test_a_run_is_a_function_of_its_seed(small_task: GANTask) -> None:
    for method in "SGAN + SN, one pass", "RSGAN + SN, article":
        first, again, other = (train_digits(small_task, method, seed, lambda _: None) for seed in (0, 0, 1))
        assert first == again
        assert first != other
        assert [row["step"] for row in first] == [2]


def test_finished_runs_are_kept_and_not_repeated(tmp_path: Path, small_task: GANTask) -> None:
    table = Table("digits", small_task, train_digits, tmp_path / "fid.csv")
    assert len(list(table.missing([0, 1]))) == 12
    advanced: list[int] = []
    run = Run(table, "RSGAN + SN, one pass", 1)
    run.keep(run.train(advanced.append))
    assert advanced == [1, 1]
    (row,) = table.rows([0, 1])
    assert (row["method"], row["seed"], row["step"]) == ("RSGAN + SN, one pass", "1", "2")
    missing = list(table.missing([0, 1]))
    assert len(missing) == 11
    assert run not in missing
    # Other images and another length are other runs.
    for other in (
        dataclasses.replace(small_task, steps=3),
        dataclasses.replace(small_task, data=small_task.data | {"source": "embedded"}),
    ):
        assert len(list(dataclasses.replace(table, task=other).missing([0, 1]))) == 12


def test_the_standard_error_of_a_difference_is_welchs() -> None:
    # Variances 1 and 16, of 3 values each.
    assert difference_and_error([10.0, 11.0, 12.0], [14.0, 18.0, 22.0]) == (-7.0, pytest.approx((17 / 3) ** 0.5))
    # Variances 0 and 2, of 3 and of 2 values.
    assert difference_and_error([2.0, 2.0, 2.0], [1.0, 3.0]) == (0.0, 1.0)


def test_differences_within_two_standard_errors_agree() -> None:
    # The standard error is 1 for each of these.
    first = [1.0, 3.0]
    assert compare(first, [4.0, 4.0]) == ("-2.0", "1.0", "agree")
    assert compare(first, [0.0, 0.0]) == ("+2.0", "1.0", "agree")
    assert compare(first, [4.1, 4.1]) == ("-2.1", "1.0", "the first is better")
    assert compare(first, [-0.1, -0.1]) == ("+2.1", "1.0", "the second is better")


def test_one_seed_gives_no_verdict() -> None:
    assert compare([1.0], [2.0, 3.0]) == ("-", "-", "needs two seeds")


def _rows(method: str, last: list[float]) -> list[dict[str, str]]:
    origin = {"cpu_seconds": "60", "date": "2026-01-01", "machine": "a machine"}
    fids = {100: [900.0, 910.0, 920.0], 400: last}
    return [
        {"method": method, "seed": str(seed), "step": str(step), "fid": str(fid)} | origin
        for step, values in fids.items()
        for seed, fid in enumerate(values)
    ]


@pytest.fixture
def made_up() -> list[dict[str, str]]:
    lasts = [29.0, 30.0, 31.0], [29.5, 30.5, 31.5], [29.0, 30.0, 31.0], [39.0, 40.0, 41.0]
    return [row for name, last in zip(NAMES.values(), lasts, strict=True) for row in _rows(name, last)]


def test_verdicts_compare_the_forms_of_a_setting_at_the_last_step(made_up: list[dict[str, str]]) -> None:
    sentences, table = verdicts(made_up, NAMES)
    assert sentences == "- S: 1 of 1 comparisons agree.\n- R: 0 of 1 comparisons agree."
    assert table.splitlines()[0] == "| setting | compared | difference of FID at step 400 | standard error | verdict |"
    assert table.splitlines()[2:] == [
        "| S | old - new | -0.5 | 0.8 | agree |",
        "| R | old - new | -10.0 | 0.8 | the first is better |",
    ]


def test_the_report_holds_table_verdicts_and_picture(tmp_path: Path, made_up: list[dict[str, str]]) -> None:
    text = write_report(tmp_path, "Settings.", made_up, NAMES)
    assert "| method | step 100 | step 400 | best | CPU s a run |" in text
    assert "| S, old | 910 ± 10 | 30.0 ± 1.0 | 30.0 ± 1.0 | 60 |" in text
    assert "| R, new | 910 ± 10 | 40.0 ± 1.0 | 40.0 ± 1.0 | 60 |" in text
    assert all(paragraph in text for paragraph in verdicts(made_up, NAMES))
    assert (tmp_path / "single_loss_gan.md").read_text() == text
    assert (tmp_path / "single_loss_gan_fid.png").stat().st_size > 1000


def _fails_at_seed_0(task: GANTask, method: str, seed: int, advance: object) -> Results:
    """Stands for a training; that of other seeds would never end."""
    if seed:
        multiprocessing.Event().wait()
    raise ArithmeticError("no FID today")


@pytest.mark.slow
def test_a_failure_in_a_child_stops_all(tmp_path: Path, small_task: GANTask) -> None:
    table = Table("digits", dataclasses.replace(small_task, methods={}), _fails_at_seed_0, tmp_path / "fid.csv")
    runs = [Run(table, "any", seed) for seed in (1, 0, 2)]
    with pytest.raises(ArithmeticError, match="no FID today"):
        side_by_side(runs, 2, lambda run, results: run.keep(results), lambda _: None)
    assert not multiprocessing.active_children()
    assert not table.path.exists()


@pytest.mark.slow
def test_the_command_does_missing_runs_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--quick", "--out", str(tmp_path)]
    # One run is kept already.
    task, path = digits_task("embedded", 30, benchmark.METHODS), tmp_path / "quick" / "single_loss_gan_fid.csv"
    kept: dict[str, object] = {"step": 30, "fid": 123.4, "cpu_seconds": 1, "date": "2026-01-01", "machine": "another"}
    Run(Table("digits", task, train_digits, path), "SGAN + SN, article", 0).keep([kept])
    benchmark.main([*arguments, "--jobs", "2"])
    assert capsys.readouterr().out.count("seed 0: step 30, fid ") == 5
    first = (tmp_path / "quick" / "single_loss_gan.md").read_text()
    assert "| SGAN + SN, article | 123.4 |" in first
    assert all(f"| {method} |" in first for method in benchmark.METHODS)
    benchmark.main(arguments)
    assert "seed 0: " not in capsys.readouterr().out
    assert (tmp_path / "quick" / "single_loss_gan.md").read_text() == first
