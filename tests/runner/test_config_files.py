"""Command lines that are shown; finding and refusing configs is tested with the errors and the package."""

import sys

import pytest

from runner.config_files import as_typed


@pytest.mark.parametrize(
    ("program", "shown"), [("/usr/bin/litspaces", "litspaces"), ("run.py", "python run.py"), ("-c", "python run.py")]
)
def test_command_is_shown_as_it_was_typed(program: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    assert as_typed(["fit", "--config", "a b.yaml"]) == f"{shown} fit --config 'a b.yaml'"
