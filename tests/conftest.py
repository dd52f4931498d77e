"""Fixtures shared by all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import lightning.pytorch  # noqa: F401  (its logger keeps the stderr of this moment; a test's own is closed later)
import pytest
import torch

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """Folder of the real data sets beside the checkout; skips the test where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the real data sets in {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(autouse=True)
def a_run_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test's runs are first runs: no W&B service, and no folder, seed or processes left by the test before."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
