"""Where caches are; test_token_cache.py has what holds for all of them."""

from pathlib import Path

import pytest

from datamodules.cache_folders import cache_folder


def test_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder(None, "text") == tmp_path / ".cache" / "litspaces" / "text"
    assert cache_folder("~/x", "text") == tmp_path / "x"
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert cache_folder(None, "knowledge") == Path("/cache/litspaces/knowledge")
