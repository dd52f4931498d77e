"""Run folders never collide, and a checkpoint is found again."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runner import run_folder
from runner.cli import RunCLI
from runner.errors import UserError


def with_last(parent: Path, name: str) -> Path:
    folder = parent / "digits" / name
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").touch()
    (folder / "checkpoints" / "last.ckpt").touch()
    return folder


def test_runs_of_the_same_second_get_folders_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        folders = list(pool.map(lambda _: run_folder.create(tmp_path, "digits"), range(64)))
    assert len(set(folders)) == 64
    assert all(folder.is_dir() for folder in folders)


def test_an_id_that_is_taken_is_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = iter(["aaaaaa", "aaaaaa", "bbbbbb"])
    monkeypatch.setattr(run_folder.secrets, "token_hex", lambda _: next(tokens))
    monkeypatch.setattr(time, "strftime", lambda _: "20260101-000000")
    assert run_folder.create(tmp_path, "digits") != run_folder.create(tmp_path, "digits")


def test_last_is_that_of_the_newest_run_that_has_one(tmp_path: Path) -> None:
    with_last(tmp_path, "20260101-000000-aaaaaa")
    newest = with_last(tmp_path, "20260102-000000-aaaaaa")
    (tmp_path / "digits" / "20260103-000000-aaaaaa").mkdir()
    assert run_folder.resolve_checkpoint("last", tmp_path, "digits") == newest / "checkpoints" / "last.ckpt"


def test_best(tmp_path: Path) -> None:
    folder = with_last(tmp_path, "20260101-000000-aaaaaa")
    best = folder / "checkpoints" / "best-step=7.ckpt"
    best.touch()
    assert run_folder.resolve_checkpoint("best", tmp_path, "digits") == best


def test_a_run_folder_stands_for_its_last_checkpoint(tmp_path: Path) -> None:
    folder = with_last(tmp_path, "20260101-000000-aaaaaa")
    assert run_folder.resolve_checkpoint(str(folder), tmp_path, "x") == folder / "checkpoints" / "last.ckpt"


def test_a_missing_checkpoint_names_its_neighbor(tmp_path: Path) -> None:
    folder = with_last(tmp_path, "20260101-000000-aaaaaa")
    with pytest.raises(UserError, match=r"lost\.ckpt.* Did you mean 'last\.ckpt'"):
        run_folder.resolve_checkpoint(str(folder / "checkpoints" / "lost.ckpt"), tmp_path, "x")


def test_only_the_last_checkpoint_goes_on_in_its_own_folder(tmp_path: Path) -> None:
    folder = with_last(tmp_path, "20260101-000000-aaaaaa")
    assert run_folder.folder_of(folder / "checkpoints" / "last.ckpt") == folder
    assert run_folder.folder_of(folder / "checkpoints" / "best-step=7.ckpt") is None


def test_lock(tmp_path: Path) -> None:
    lock = run_folder.lock(tmp_path)
    with pytest.raises(UserError, match="another process is running"):
        run_folder.lock(tmp_path)
    lock.release()
    run_folder.lock(tmp_path).release()


def test_write_atomically_keeps_the_old_text_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.yaml"
    run_folder.write_atomically(path, "old")

    def out_of_space(*args: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", out_of_space)
    monkeypatch.setattr(Path, "replace", out_of_space)
    with pytest.raises(OSError, match="no space"):
        run_folder.write_atomically(path, "new")
    assert path.read_text() == "old"


def test_the_second_machine_makes_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first process doesn't know its rank yet when it is started by hand."""
    monkeypatch.setenv("NODE_RANK", "1")
    assert RunCLI._claim_folder(object.__new__(RunCLI), tmp_path, "digits") == tmp_path
    assert not list(tmp_path.iterdir())
