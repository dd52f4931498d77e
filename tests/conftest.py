"""Fixtures shared by all tests."""

from pathlib import Path

import lightning.pytorch  # noqa: F401  (its logger keeps the stderr of this moment; a test's own is closed later)
import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """Folder of the real data sets beside the checkout; skips the test where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the real data sets in {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(autouse=True)
def a_run_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test's runs are first runs: no W&B service, no folder or seed left by the test before."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.delenv("LITSPACES_RUN_FOLDER", raising=False)
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
