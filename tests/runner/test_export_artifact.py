"""An export as an artifact of Weights & Biases: offline for real, online as far as what is asked of wandb."""

from pathlib import Path
from typing import Any

import pytest

from runner import export_artifact
from runner.errors import UserError
from runner.export_artifact import artifact_name, log_artifact
from tests.runner.command_line import run_to_end
from tests.runner.exporting import fit_points


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "digits" / "20260101-000000-aaaaaa"
    (folder / "wandb").mkdir(parents=True)
    return folder


@pytest.mark.slow
def test_offline_it_waits_for_wandb_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    folder = fit_points(tmp_path)
    printed = run_to_end(tmp_path, "export", f"--ckpt={folder}", "--out=out", "--artifact=points-gan", wandb="offline")
    (offline,) = (folder / "wandb").glob("offline-run-*")
    assert f"wandb sync {offline}" in printed
    assert "Adding directory" not in printed
    (log,) = offline.glob("*.wandb")
    assert folder.name in log.name
    logged = log.read_bytes()
    for wanted in (b"points-gan", b"model.safetensors", b"config.json", b"README.md", b"RelativisticGAN"):
        assert wanted in logged, wanted


def test_a_run_that_wandb_has_online_gets_one(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    assert artifact_name(None, run_folder) is None
    (run_folder / "wandb" / "offline-run-20260101-aaaaaa").mkdir()
    assert artifact_name(None, run_folder) is None
    (run_folder / "wandb" / "run-20260101-aaaaaa").mkdir()
    assert artifact_name(None, run_folder) == "digits"
    assert artifact_name("mine", run_folder) == "mine"
    assert artifact_name(None, None) is None
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert artifact_name(None, run_folder) is None


def test_mistakes(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="--artifact with WANDB_MODE=disabled"):
        artifact_name("mine", run_folder)
    monkeypatch.setenv("WANDB_MODE", "offline")
    with pytest.raises(ValueError, match="may only contain alphanumeric characters"):
        artifact_name("my model!", run_folder)


def test_online_it_goes_to_the_run(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    asked: dict[str, Any] = {}

    class Started:
        url = "https://wandb.example/run"
        dir = str(run_folder / "wandb" / "run-1" / "files")

        def log_artifact(self, artifact: Any) -> None:
            asked["artifact"] = artifact

        def __enter__(self) -> "Started":
            return self

        def __exit__(self, *_: object) -> None:
            asked["finished"] = True

    monkeypatch.setattr(wandb, "init", lambda **options: asked.update(options) or Started())
    monkeypatch.setattr(export_artifact, "is_logged_in", lambda: True)
    out = tmp_path / "out"
    out.mkdir()
    (out / "config.json").write_text("{}")
    assert log_artifact(out, "digits", run_folder, {"val/fid": 1.0}) == Started.url
    assert (asked["id"], asked["mode"], asked["resume"]) == (run_folder.name, "online", "allow")
    assert asked["dir"] == run_folder
    assert asked["finished"]
    assert asked["artifact"].name.startswith("digits")
    assert asked["artifact"].metadata == {"val/fid": 1.0}
    assert list(asked["artifact"].manifest.entries) == ["config.json"]
