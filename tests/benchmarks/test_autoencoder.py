"""The report from made-up rows, the entropy term's time by two steps, and what needs no pythae."""

from pathlib import Path

import pytest
import torch

from benchmarks import autoencoder as benchmark
from benchmarks import autoencoder_speed as speed
from benchmarks.autoencoder_quality import QUALITIES
from benchmarks.autoencoder_report import (
    OUR_EAE,
    OUR_VAE,
    PYTHAE,
    PYTHAE_FUSED,
    TERM,
    WITH_TERM,
    WITHOUT_TERM,
    Measured,
    entropy_share,
    times_pythae,
    write_report,
)
from benchmarks.reporting import Row, read_rows

ORIGIN = {"date": "2026-01-02", "machine": "a machine"}


def _rows(column: str, values: dict[str, list[float]], network: str = "dense", **more: str) -> list[Row]:
    return [
        {"network": network, "contestant": name, "round": str(number), column: str(value)} | more | ORIGIN
        for name, of_rounds in values.items()
        for number, value in enumerate(of_rounds, 1)
    ]


def _entropy(with_term: list[float], without: list[float]) -> list[Row]:
    values = {WITH_TERM: with_term, WITHOUT_TERM: without, TERM: [0.001] * len(without)}
    return _rows("seconds", values)


def _speed(pythae: list[float], vae: list[float], eae: list[float]) -> list[Row]:
    values = {PYTHAE: pythae, PYTHAE_FUSED: [2 * value for value in pythae], OUR_VAE: vae, OUR_EAE: eae}
    return _rows("images_per_second", values, images="512", epochs="2", data="embedded")


def _quality(method: str, value: str = "12.3") -> Row:
    return {"method": method, "seed": "0"} | dict.fromkeys(QUALITIES, value) | {"cpu_seconds": "60"} | ORIGIN


def test_shares_and_ratios_are_medians_over_rounds() -> None:
    # The share of the medians, 0, and the ratio of the medians, 1, would be others.
    assert entropy_share(_entropy([2.0, 1.0, 4.0], [1.0, 0.9, 2.0]), "dense") == pytest.approx(50.0)
    rows = _speed([2.0, 1.0, 9.0], [4.0, 2.0, 1.0], [1.0, 2.0, 27.0])
    assert times_pythae(rows, "dense", OUR_VAE) == 2.0
    assert times_pythae(rows, "dense", OUR_EAE) == 2.0
    assert times_pythae(rows, "dense", OUR_EAE, PYTHAE_FUSED) == 1.0


def test_targets_are_judged_both_ways(tmp_path: Path) -> None:
    def text(share: float, ratio: float) -> str:
        entropy, speeds = _entropy([1.0], [1 - share]), _speed([100.0], [100 * ratio], [100 * ratio])
        return write_report(tmp_path, Measured(entropy, speeds), judge=True)

    good, bad = text(0.049, 1.301), text(0.051, 1.299)
    assert good.count(", reached.") == 3
    assert "not reached" not in good
    assert bad.count(", not reached.") == 3
    assert "dense: target at most 5 % of the step: 4.90 %, reached." in good
    assert "our VAE, target at least 1.3 times pythae VAE: 1.30, reached." in good


def test_tables_hold_medians(tmp_path: Path) -> None:
    measured = Measured(_entropy([0.02], [0.019]), _speed([1000.0], [2000.0], [1500.0]))
    text = write_report(tmp_path, measured, judge=False)
    assert "| dense | 20.00 | 19.00 | 5.00 | 1.00 | 5.00 |" in text
    assert "| our VAE | 2,000 | 128.0 | 2.00 | 1.00 |" in text
    assert "512 images of embedded, 2 timed epoch(s), 1 round(s). Measured 2026-01-02 on a machine." in text
    assert "these numbers mean nothing" in text
    assert "reached" not in text
    assert "Quality" not in text


def test_ours_stand_beside_pythaes(tmp_path: Path) -> None:
    theirs = [_quality("pythae VAE, 1")]
    alone = write_report(tmp_path, Measured(quality=theirs), judge=True)
    assert "python -m benchmarks.entropic_autoencoder" in alone
    assert "weights were chosen" not in alone
    tuning = [
        {"method": f"pythae VAE, {w}", "seed": "100", "fid_training": fid} | ORIGIN for w, fid in ((1, "7"), (3, "5"))
    ]
    beside = Measured(quality=theirs, tuning=tuning, ours=[_quality("EAE, 3", "4.5")], weights={"pythae VAE": [1, 3]})
    text = write_report(tmp_path, beside, judge=True)
    assert text.index("| EAE, 3 | 4.5 |") < text.index("| pythae VAE, 1 | 12.3 |")
    assert "not measured yet" not in text
    assert "| pythae VAE | 1: 7.0 | 3: **5.0** |" in text


@pytest.mark.parametrize("network", benchmark.NETWORKS)
def test_the_entropys_cost_is_measured(network: str) -> None:
    contestants = speed.entropy_contestants(network, "embedded", 2)
    assert list(contestants) == [WITH_TERM, WITHOUT_TERM, TERM]
    torch.manual_seed(0)
    assert all(0 < measure() < 10 for measure in contestants.values())


def test_a_step_is_timed_without_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([100.0, 101.0, 103.0])
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(now))
    assert speed.seconds_per_step("dense", "entropy", speed.fixed_batches("embedded", 3)) == 1.5


def test_images_per_second_counts_from_the_first_epochs_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def train(setting: speed.Setting, tell: speed.Tell) -> None:
        for seconds in (100.0, 2.0, 3.0):
            now[0] += seconds
            tell()
        now[0] += 50.0

    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])
    assert speed.images_per_second(train, speed.Setting("dense", "embedded", 512, 2)) == 2 * 512 / 5


@pytest.mark.filterwarnings(
    "ignore:The number of training batches",
    "ignore:Total length of",
    "ignore:Precision bf16-mixed is not supported by the",
)
@pytest.mark.parametrize("name", [OUR_EAE, f"{OUR_VAE}, tuned", f"{OUR_VAE}, tuned, bf16-mixed"])
def test_ours_train_on_all_images_in_each_epoch(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    batches: list[int] = []
    monkeypatch.setattr(speed.EntropicAutoencoder, "on_after_backward", lambda self: batches.append(1))
    setting = speed.Setting("dense", "embedded", 512, 2)
    assert speed.images_per_second(speed.OURS[name], setting) > 0
    assert len(batches) == 3 * 2
    assert setting.tensor().shape == (512, 1, 28, 28)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("part", ["speed", "quality"])
def test_without_pythae_one_line_tells_the_command(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stopped:
        benchmark.main(["--parts", part])
    message = str(stopped.value)
    assert "pip install -c constraints.txt -r benchmarks/autoencoder_requirements.txt" in message
    assert "\n" not in message
    assert (Path(benchmark.__file__).with_name("autoencoder_requirements.txt")).is_file()


def test_no_rounds_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        benchmark.main(["--rounds", "0"])
    assert "must be at least 1" in capsys.readouterr().err


def test_the_entropys_part_needs_no_pythae(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.main(["--quick", "--parts", "entropy", "--networks", "dense", "--out", str(tmp_path)])
    assert "share, %" in capsys.readouterr().out
    assert "these numbers mean nothing" in (tmp_path / "quick" / "autoencoder.md").read_text()
    rows = read_rows(tmp_path / "quick" / "autoencoder_entropy.csv")
    assert [row["contestant"] for row in rows] == [WITH_TERM, WITHOUT_TERM, TERM]
    assert all(float(row["seconds"]) > 0 for row in rows)
