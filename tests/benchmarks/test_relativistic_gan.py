"""The benchmark at a tiny scale: counting modes, keeping finished runs, tables and picture."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import relativistic_gan as benchmark
from benchmarks.gan_quality import digits_task, train_digits
from benchmarks.gan_quality_report import best_of_each_seed, fid_table
from benchmarks.relativistic_gan_report import write_report
from benchmarks.reporting import append_rows, mean_and_spread, plus_minus, read_rows
from benchmarks.runs import Run, Table

CENTERS = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])


def _cloud(center: int, number: int, offset: float = 0.0) -> torch.Tensor:
    return CENTERS[center].repeat(number, 1) + torch.tensor([offset, 0.0])


def test_modes_with_enough_good_samples_are_found() -> None:
    # Of 400 samples an even share is 100: 10 find a mode, 9 don't.
    samples = torch.cat([_cloud(0, 200), _cloud(1, 10, 0.29), _cloud(2, 9), _cloud(3, 181, 0.31)])
    assert benchmark.count_modes(samples, CENTERS, std=0.1) == (2, pytest.approx(219 / 400))


def test_perfect_samples_find_all_modes() -> None:
    generator = torch.Generator().manual_seed(0)
    samples = CENTERS.repeat(5000, 1) + 0.1 * torch.randn(20_000, 2, generator=generator)
    modes, good = benchmark.count_modes(samples, CENTERS, std=0.1)
    assert modes == 4
    # Within 3 standard deviations in the plane: 1 - exp(-9/2).
    assert good == pytest.approx(1 - np.exp(-4.5), abs=2e-3)


def test_collapsed_samples_find_one_mode() -> None:
    assert benchmark.count_modes(_cloud(2, 50), CENTERS, std=0.1) == (1, 1.0)
    assert benchmark.count_modes(_cloud(2, 50, 5.0), CENTERS, std=0.1) == (0, 0.0)


def test_methods_differ_in_loss_and_regularization_only() -> None:
    task = benchmark.modes_task(1)
    models = {method: task.model(method) for method in benchmark.METHODS}
    differing = {name for name in models["SGAN"].hparams if len({repr(m.hparams[name]) for m in models.values()}) > 1}
    assert differing == {"loss", "spectral_norm", "r1_weight", "r2_weight"}
    strengths = [(m.penalties.r1, m.penalties.r2) for m in models.values()]
    assert strengths == [(0, 0)] * 4 + [(0.00625, 0.00625)]
    assert "gamma 0.00625 " in task.in_words()


def _modes_table(folder: Path, steps: int = 3) -> Table:
    task = benchmark.modes_task(steps)
    small = dataclasses.replace(task, samples=100, data=task.data | {"num_points": 1000, "num_val_points": 10})
    return Table("modes", small, benchmark.train_modes, folder / "modes.csv")


def test_finished_runs_are_kept_and_not_repeated(tmp_path: Path) -> None:
    table = _modes_table(tmp_path)
    advanced: list[int] = []
    assert len(list(table.missing([0, 1]))) == 10
    run = Run(table, "RSGAN", 1)
    results = run.train(advanced.append)
    run.keep(results)
    assert sum(advanced) == 3
    (row,) = table.rows([0, 1])
    assert (row["method"], row["seed"], row["good"]) == ("RSGAN", "1", str(results[0]["good"]))
    missing = list(table.missing([0, 1]))
    assert len(missing) == 9
    assert run not in missing
    # A run of another length is another run.
    assert len(list(_modes_table(tmp_path, steps=4).missing([0, 1]))) == 10


def test_a_run_is_a_function_of_its_seed() -> None:
    task = dataclasses.replace(benchmark.modes_task(5), samples=1000)
    first, again, other = (benchmark.train_modes(task, "SGAN", seed, lambda _: None) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_digits_give_a_fid_at_each_evaluated_step(tmp_path: Path) -> None:
    digits = np.random.default_rng(0).integers(0, 256, (300, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", images=digits)
    task = digits_task(str(tmp_path / "noise.npz"), 4, benchmark.methods_with(1.0))
    small = dataclasses.replace(
        task, every=2, samples=40, reference=32, shared=task.shared | {"width": 2}, data=task.data | {"batch_size": 16}
    )
    rows = train_digits(small, "RSGAN + R1 + R2", 0, lambda _: None)
    assert [row["step"] for row in rows] == [2, 4]
    assert all(float(str(row["fid"])) > 0 for row in rows)


def test_new_rows_follow_old_ones_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.csv"
    append_rows(path, [{"a": 1, "b": "x, y"}])
    append_rows(path, [{"a": 2, "b": "z"}])
    assert read_rows(path) == [{"a": "1", "b": "x, y"}, {"a": "2", "b": "z"}]
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(ValueError, match="has the columns a, b, but the new rows a, c"):
        append_rows(path, [{"a": 3, "c": "z"}])


def test_mean_and_spread_of_seeds() -> None:
    assert mean_and_spread([1.0, 2.0, 3.0]) == (2.0, 1.0)
    assert plus_minus([1.0, 2.0, 3.0]) == "2.0 ± 1.0"
    assert plus_minus([2.0]) == "2.0"


def _fid_row(method: str, seed: int, step: int, fid: float) -> dict[str, str]:
    row = {"method": method, "seed": seed, "step": step, "fid": fid, "cpu_seconds": 60 + seed}
    return {name: str(value) for name, value in row.items()} | {"date": "2026-01-01", "machine": "a machine"}


def test_tables_hold_means_spreads_and_each_seeds_best(tmp_path: Path) -> None:
    rows = [
        *(_fid_row("RSGAN", seed, 100, 90.0 + 10 * seed) for seed in range(3)),
        *(_fid_row("RSGAN", seed, 400, [8.0, 9.0, 130.0][seed]) for seed in range(3)),
        _fid_row("SGAN", 0, 100, 50.0),
    ]
    assert best_of_each_seed(rows[:6]) == [8.0, 9.0, 110.0]
    table = fid_table(rows, ["SGAN", "RSGAN"])
    assert table.splitlines()[2:] == [
        "| SGAN | 50 | - | 50.0 | 60 |",
        "| RSGAN | 100 ± 10 | 49.0 ± 70.1 | 42.3 ± 58.6 | 61 |",
    ]
    text = write_report(tmp_path, ("Settings.", rows), ("", []), ["SGAN", "RSGAN"])
    assert table in text
    assert "Seeds 0, 1, 2, measured 2026-01-01 on a machine." in text
    assert (tmp_path / "relativistic_gan.md").read_text() == text
    assert (tmp_path / "relativistic_gan_fid.png").stat().st_size > 1000


@pytest.mark.slow
def test_the_command_measures_both_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--quick", "--out", str(tmp_path)]
    benchmark.main(arguments)
    first = (tmp_path / "quick" / "relativistic_gan.md").read_text()
    assert "modes, RSGAN + R1 + R2, seed 0" in capsys.readouterr().out
    assert all(f"| {method} |" in first for method in benchmark.METHODS)
    benchmark.main(arguments)
    assert "seed 0: " not in capsys.readouterr().out
    assert (tmp_path / "quick" / "relativistic_gan.md").read_text() == first
