"""Two hosts on one machine, joined by a cable, without a shared file system: torchrun as docs/scaling.md has it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.comparing import assert_same
from tests.runner.command_line import ROOT, clean_environment, last_checkpoint, only_run, run_to_end

TORCHRUN = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d"]
RENDEZVOUS = ["--rdzv-endpoint=one:29400", "--rdzv-id=tests"]
FIT = [
    "fit",
    "--config=configs/relativistic_gan_points.yaml",
    "--trainer.accelerator=cpu",
    "--trainer.log_every_n_steps=1",
]
STEPS = ["--trainer.max_steps=4", "--trainer.val_check_interval=2"]


def namespaces() -> list[str]:
    """The command that makes namespaces, as root or as a user who may; skips the test where it can't be done."""
    command = ["unshare", "--mount", "--net", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0:
        command.append("--map-root-user")
    if missing := [tool for tool in ("unshare", "ip") if shutil.which(tool) is None]:
        pytest.skip(f"needs {' and '.join(missing)} (Debian's util-linux and iproute2)")
    tried = subprocess.run([*command, "ip", "netns", "list"], capture_output=True, text=True, timeout=30, check=False)
    if tried.returncode != 0:
        pytest.skip(f"namespaces can't be made here: {tried.stderr.strip()}")
    return command


def on_two_hosts(one: Path, two: Path, *arguments: str) -> str:
    """Runs run.py on both hosts, each in its folder, and returns what they printed."""
    # Which network is the other host's: gloo would take the one that the host's name is in, as is right here too.
    environment = clean_environment() | {"GLOO_SOCKET_IFNAME": "cable"}
    hosts = [*namespaces(), str(ROOT / "tests" / "two_hosts.sh"), str(one), str(two)]
    command = [
        *hosts,
        sys.executable,
        *TORCHRUN,
        *RENDEZVOUS,
        str(ROOT / "run.py"),
        *arguments,
        "--trainer.num_nodes=2",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.mark.slow
def test_two_hosts_train_and_resume_as_two_processes_of_one(tmp_path: Path) -> None:
    one, two, alone = tmp_path / "one", tmp_path / "two", tmp_path / "alone"
    for folder in (one, two, alone):
        folder.mkdir()
    on_two_hosts(one, two, *FIT, *STEPS, "--trainer.max_steps=2")
    assert last_checkpoint(one)["global_step"] == 2
    # The second host writes nothing; to go on, it needs the checkpoint.
    assert not list(two.rglob("*"))
    shutil.copytree(one / "runs", two / "runs")
    on_two_hosts(one, two, *FIT, *STEPS, "--ckpt_path=last")
    run_to_end(alone, *FIT, *STEPS, "--trainer.devices=2")
    assert_same(last_checkpoint(one), last_checkpoint(alone))
    rows = [(only_run(folder) / "metrics.csv").read_text() for folder in (one, alone)]
    assert rows[0] == rows[1]
    assert len(rows[0].splitlines()) > 4
