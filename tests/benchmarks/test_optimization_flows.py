"""Article 3's benchmark at a tiny scale: its tables' numbers, how a rate is chosen, its report."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import optimization_flows as benchmark
from benchmarks import optimization_flows_functions as functions
from benchmarks.optimization_flows import best_rates, classifier, digits_table, train_digits


def cells(table: str) -> list[list[str]]:
    """The rows below a Markdown table's head."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_predicted_and_measured_slopes_are_the_formulas() -> None:
    rows = cells(functions.slopes())
    assert len(rows) == 7
    for name, _, *numbers in rows:
        formula, predicted, measured = map(float, numbers)
        assert predicted == pytest.approx(formula, rel=1e-3), name
        assert measured == pytest.approx(formula, rel=1e-2), name


@pytest.mark.slow
def test_the_order_is_1() -> None:
    for name, *_, coarse, fine in cells(functions.orders()):
        assert float(coarse) == pytest.approx(1, abs=0.15), name
        assert float(fine) == pytest.approx(1, abs=0.1), name


def test_the_experiment_ends_where_the_article_says(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {name: functions.experiments()[name] for name in ("GradientFlow", "LossGuidedFlow, M = 1000")}
    monkeypatch.setattr(functions, "experiments", lambda: chosen)
    gradient, guided = cells(functions.experiment(starts=1))
    assert gradient[1:] == ["3.0000", "never", "0 of 1", "0 of 1"]
    assert guided[1] == "0.4069"
    assert guided[2].isdigit()


def test_random_starts_are_always_the_same() -> None:
    starts = list(functions.random_starts(5))
    assert starts == list(functions.random_starts(5))
    assert all(3.2 <= start <= 5 for start in starts)


def test_all_optimizers_have_the_same_rates_and_the_best_one_is_taken() -> None:
    assert len(benchmark.RATES) == 11
    accuracies = {rate: 90 - number for number, rate in enumerate(benchmark.RATES)}
    accuracies[benchmark.RATES[4]] = accuracies[benchmark.RATES[5]] = 95
    rows = [
        {"method": benchmark.method_name(optimizer, rate), "accuracy": str(accuracy)}
        for optimizer in benchmark.OPTIMIZERS
        for rate, accuracy in accuracies.items()
    ]
    assert best_rates(rows) == dict.fromkeys(benchmark.OPTIMIZERS, benchmark.RATES[4])


def test_the_optimizers_differ_in_nothing_else() -> None:
    hparams = [dict(classifier(optimizer, 0.1, 64).hparams) for optimizer in benchmark.OPTIMIZERS]
    for own in hparams:
        del own["optimizer"]
    assert all(own == hparams[0] for own in hparams)


@pytest.fixture
def noise(tmp_path: Path) -> str:
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (300, 28, 28), dtype=np.uint8), random.integers(0, 10, 300)
    np.savez(tmp_path / "noise.npz", images=images, labels=labels)
    return str(tmp_path / "noise.npz")


def test_a_run_is_a_function_of_its_seed_and_one_that_breaks_off_has_no_accuracy(noise: str, tmp_path: Path) -> None:
    choices = [("Adam", 0.01), ("LossGuidedFlow", 1e30)]
    task = digits_table(noise, 3, choices, tmp_path / "a.csv").task
    advanced: list[int] = []
    first, again, other = (train_digits(task, "Adam lr 0.01", seed, advanced.append) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert advanced == [1] * 9
    assert first[0]["step"] == 3
    assert 0 <= float(str(first[0]["accuracy"])) <= 40
    (broken,) = train_digits(task, "LossGuidedFlow lr 1e+30", 0, lambda _: None)
    assert broken["accuracy"] == 0


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    benchmark.main(["--quick", "--out", str(tmp_path)])
    text = (tmp_path / "quick" / "optimization_flows.md").read_text()
    for name in (*benchmark.OPTIMIZERS, "DampedFlow", "LossGuidedFlow, M = 1000", "tuned lr"):
        assert f"| {name} |" in text
    assert (tmp_path / "quick" / "optimization_flows.png").stat().st_size > 10_000
