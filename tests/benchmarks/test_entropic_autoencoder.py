"""The benchmark at a tiny scale: what methods differ in, the choice of weights, tables, its command."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import seed_everything

from benchmarks import entropic_autoencoder as benchmark
from benchmarks.autoencoder_quality import QUALITIES
from benchmarks.entropic_autoencoder import (
    METHODS,
    WEIGHTS,
    AutoencoderTask,
    also_in_bf16,
    best_weights,
    digits_task,
    train,
    tune,
    weighted_methods,
)
from benchmarks.entropic_autoencoder_report import quality_table, tuning_table, write_report

CHOSEN = {"VAE": [3.0], "WAE-MMD": [30.0], "EAE": [1.0]}
ORIGIN = {"cpu_seconds": "60", "date": "2026-01-01", "machine": "a machine"}


@pytest.fixture
def small_task(tmp_path: Path) -> AutoencoderTask:
    digits = np.random.default_rng(0).integers(0, 256, (400, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", images=digits)
    task = digits_task(str(tmp_path / "noise.npz"), 2, weighted_methods(CHOSEN), 100)
    return dataclasses.replace(task, data=task.data | {"batch_size": 32})


def test_methods_differ_in_the_regularizer_only() -> None:
    task = digits_task("embedded", 1, weighted_methods(CHOSEN))
    hparams = {method: task.model(method).hparams for method in task.methods}
    differing = {name for name in hparams["AE"] if len({repr(own[name]) for own in hparams.values()}) > 1}
    assert differing == {"regularizer", "regularizer_weight", "code_norm"}
    assert [own["regularizer"] for own in hparams.values()] == ["none", "none", "kl", "mmd", "entropy"]
    assert list(hparams) == ["AE", "AE + BN", "VAE, 3", "WAE-MMD, 30", "EAE, 1"]


def test_every_method_with_a_weight_is_tuned_with_equal_effort() -> None:
    assert set(METHODS) - set(WEIGHTS) == {"AE", "AE + BN"}
    assert {len(tried) for tried in WEIGHTS.values()} == {7}


def test_methods_start_from_the_same_weights() -> None:
    """But for the encoder's last layer, which is twice as wide in a VAE."""
    task = digits_task("embedded", 1, weighted_methods(CHOSEN))
    decoders = []
    for method in ("AE", "AE + BN", "WAE-MMD, 30", "EAE, 1"):
        seed_everything(3, verbose=False)
        decoders.append(task.model(method).decoder.state_dict())
    for decoder in decoders[1:]:
        torch.testing.assert_close(decoder, decoders[0], rtol=0, atol=0)


def test_a_run_is_a_function_of_its_seed(small_task: AutoencoderTask) -> None:
    for method in "VAE, 3", "EAE, 1":
        first, again, other = (train(small_task, method, seed, lambda _: None) for seed in (0, 0, 1))
        assert first == again != other
        assert set(first[0]) == set(QUALITIES)
    assert set(tune(small_task, "WAE-MMD, 30", 0, lambda _: None)[0]) == {"fid_training"}


def test_mixed_precision_is_another_training_of_the_same_model(small_task: AutoencoderTask) -> None:
    task = dataclasses.replace(small_task, methods=also_in_bf16(small_task.methods))
    assert [name for name in task.methods if name.endswith("bf16-mixed")] == [
        "VAE, 3, bf16-mixed",
        "EAE, 1, bf16-mixed",
    ]
    (full,), (mixed,) = (train(task, method, 0, lambda _: None) for method in ("EAE, 1", "EAE, 1, bf16-mixed"))
    assert full != mixed
    assert mixed["reconstruction"] == pytest.approx(full["reconstruction"], rel=0.01)


def test_the_lowest_fid_chooses_the_weight() -> None:
    rows = [{"method": f"EAE, {weight:g}", "fid_training": fid} for weight, fid in [(0.3, "9"), (1, "7.5"), (3, "8")]]
    assert best_weights(rows, {"EAE": [0.3, 1, 3]}) == {"EAE": [1]}
    assert tuning_table(rows, {"EAE": [0.3, 1, 3]}).splitlines()[-1] == "| EAE | 0.3: 9.0 | 1: **7.5** | 3: 8.0 |"


def test_the_report_holds_both_tables(tmp_path: Path) -> None:
    values = {name: str(number) for number, name in enumerate(QUALITIES)}
    rows = [{"method": "AE", "seed": str(seed)} | values | ORIGIN for seed in (0, 1)]
    tuning = [{"method": "EAE, 1", "fid_training": "7", "seed": "100"} | ORIGIN]
    text = write_report(tmp_path, "Settings.", rows, tuning, {"EAE": [1]})
    assert (tmp_path / "entropic_autoencoder.md").read_text() == text
    assert quality_table(rows) in text
    assert tuning_table(tuning, {"EAE": [1]}) in text
    line = "| AE | 0.0 ± 0.0 | 1.0 ± 0.0 | 2.0 ± 0.0 | 3.0 ± 0.0 | 4.0 ± 0.0 | 5.000 ± 0.000 | 60 |"
    assert quality_table(rows).splitlines()[-1] == line


@pytest.mark.slow
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.main(["--quick", "--out", str(tmp_path)])
    assert capsys.readouterr().out.count("seed 0: ") == 7
    first = (tmp_path / "quick" / "entropic_autoencoder.md").read_text()
    assert all(f"| {method}" in first for method in METHODS)
    benchmark.main(["--quick", "--out", str(tmp_path)])
    assert "seed 0: " not in capsys.readouterr().out
    assert (tmp_path / "quick" / "entropic_autoencoder.md").read_text() == first
