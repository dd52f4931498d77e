"""predict writes a file a batch."""

from pathlib import Path

import pytest
import torch

import run
from tests.runner.command_line import only_run


def test_predict_writes_what_the_module_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    gan = ["--model=RelativisticGAN", "--model.width=8", "--data=ImageDataModule", "--data.subset=200"]
    assert run.main(["predict", *gan, "--data.batch_size=16", "--trainer.enable_progress_bar=false"]) == 0
    files = sorted((only_run(tmp_path) / "predictions").iterdir())
    assert [path.name for path in files] == ["batch-0000000.pt", "batch-0000001.pt"]
    samples = torch.cat([torch.load(path, weights_only=True) for path in files])
    assert samples.shape == (20, 1, 28, 28)
    assert samples.abs().max() <= 1
    assert samples[0].ne(samples[16]).any()
