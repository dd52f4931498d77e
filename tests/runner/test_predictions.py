"""predict writes a file a batch."""

import json
from pathlib import Path

import pytest
import torch

import datamodules
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


def test_the_competitions_file_goes_on_where_it_was_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line for each text, the mentions where they stand; from a checkpoint and the knowledge base."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = ["--config", "configs/entity_linker.yaml"]
    steps = ["--trainer.max_steps=2", "--trainer.val_check_interval=2"]
    assert run.main(["fit", *config, *steps]) == 0
    texts = (Path(datamodules.__file__).parent / "linking_validation.jsonl").read_text(encoding="utf-8").splitlines()
    predict = ["predict", *config, "--ckpt_path=last", "--trainer.callbacks.path=out.jsonl"]
    predict += ["--model.start_threshold=0", "--model.end_threshold=0", "--model.link_threshold=0"]
    whole = b""
    for cut in (0, 700):
        (tmp_path / "out.jsonl").write_bytes(whole[:cut])
        assert run.main([*predict, "--data.batch_size=7"]) == 0
        written = (tmp_path / "out.jsonl").read_bytes()
        assert not cut or written == whole
        whole = written
    records = [json.loads(line) for line in whole.decode().splitlines()]
    assert [record["text"] for record in records] == [json.loads(line)["text"] for line in texts]
    mentions = [(record["text"], mention) for record in records for mention in record["mention_data"]]
    assert len(mentions) > len(texts) / 2
    for text, mention in mentions:
        assert text.startswith(mention["mention"], int(mention["offset"]))
        assert set(mention) == {"kb_id", "mention", "offset"}
        assert mention["kb_id"].isdigit()
