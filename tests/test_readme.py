"""The README's and the docs' words are true: each of their commands runs."""

import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import run
from tests.runner.command_line import run_to_end

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"(?:python run\.py|litspaces) ((?:fit|validate|test|predict|list|sweep|export)\b[^\n`&|]*)")


def commands(path: Path) -> list[str]:
    text = path.read_text().replace("\\\n", " ")
    return [
        match for block in re.findall(r"```(?:bash|sh)\n(.*?)```", text, re.DOTALL) for match in COMMAND.findall(block)
    ]


ALL = sorted({command.split(" #")[0].strip() for page in PAGES for command in commands(page)})
EXPORTS, SWEEPS = ([command for command in ALL if command.startswith(name)] for name in ("export", "sweep"))


def test_there_are_some() -> None:
    assert any(command.startswith("fit --config configs/relativistic_gan.yaml") for command in ALL)


@pytest.mark.parametrize("command", sorted({*ALL} - {*EXPORTS, *SWEEPS}))
def test_command_is_accepted(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsed with every option it has; the checkpoint and data it may name need not be there."""
    monkeypatch.chdir(tmp_path)
    arguments = shlex.split(command)
    if arguments[0] == "list":
        assert run.main(arguments) == 0
        return
    with pytest.raises(SystemExit) as ended:
        run.main([*arguments, "--print_config"])
    assert ended.value.code == 0


@pytest.mark.parametrize("command", EXPORTS)
def test_export_needs_only_the_checkpoint(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = shlex.split(command)
    assert run.main(arguments) == 2
    assert capsys.readouterr().err == f"error: there is no checkpoint {arguments[2]}.\n"


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in SWEEPS if "--storage" not in command])
def test_sweep_runs(command: str, tmp_path: Path) -> None:
    few = ("--trials=1", "--trainer.max_steps=2", "--trainer.val_check_interval=2", "--trainer.limit_val_batches=1")
    assert "trials      1 of 1" in run_to_end(tmp_path, *shlex.split(command), *few)


def test_python_examples_run(tmp_path: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", PAGES[0].read_text(), re.DOTALL):
        done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_first_command_keeps_its_promise(tmp_path: Path) -> None:
    """The number that the README promises for its first command; the time is promised for a quiet machine."""
    promised = float(re.search(r"`val/fid` (?:below|under) (\d+)", PAGES[0].read_text())[1])
    start = time.monotonic()
    said = run_to_end(tmp_path, "fit", "--config", "configs/relativistic_gan.yaml", wandb="offline")
    print(f"{time.monotonic() - start:.0f} s\n{said}")
    assert float(re.search(r"best\s+val/fid ([\d.]+)", said)[1]) < promised
    (folder,) = tmp_path.glob("runs/relativistic_gan/*")
    assert {"config.yaml", "metrics.csv", "checkpoints", "media", "wandb"} <= {path.name for path in folder.iterdir()}
    assert str(folder.relative_to(tmp_path)) in said
    assert re.search(r"resume\s+python run\.py fit .*--ckpt_path \S+last\.ckpt", said)
    assert list(folder.glob("media/*.png"))
    shutil.rmtree(folder)
