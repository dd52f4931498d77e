"""Where trials are kept: locks that die with their owners, databases, addresses that are none."""

import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from runner.errors import UserError
from runner.sweep_storage import LockedJournal, open_storage
from tests.runner.command_line import finish, start, wait_for
from tests.runner.postgres import postgres_server, programs
from tests.runner.sweeping import LR, TIMEOUT, kill_a_busy_worker, logged, processes, results, states, write_sweep

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def ignore(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    """Nothing is done about a lost trial."""


@pytest.mark.timeout(25)
def test_a_process_that_is_killed_leaves_no_lock(tmp_path: Path) -> None:
    """Neither its trial's nor, killed as it writes, the journal's, for which Optuna's own would wait 30 seconds."""
    script = (
        "import os, optuna\n"
        "from pathlib import Path\n"
        "from runner.sweep_storage import LockedJournal\n"
        "storage = LockedJournal(Path('journal.log'), print)\n"
        "study = optuna.create_study(storage=storage, study_name='x')\n"
        "trial = storage.create_new_trial(study._study_id)\n"
        "storage.record_heartbeat(trial)\n"
        "storage._backend._lock.acquire()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env={"PYTHONPATH": root}, capture_output=True)
    assert done.returncode == -9, done.stderr
    storage = LockedJournal(tmp_path / "journal.log", ignore)
    study = optuna.load_study(study_name="x", storage=storage)
    assert storage._get_stale_trial_ids(study._study_id) == [0]
    study.tell(0, state=TrialState.FAIL)
    assert storage._get_stale_trial_ids(study._study_id) == []


def test_a_trial_is_lost_when_its_lock_is_free(tmp_path: Path) -> None:
    mine, other = (LockedJournal(tmp_path / "journal.log", ignore) for _ in range(2))
    study = optuna.create_study(storage=mine, study_name="x")
    first, second = (mine.create_new_trial(study._study_id) for _ in range(2))
    mine.record_heartbeat(first)
    mine.record_heartbeat(first)
    assert other._get_stale_trial_ids(study._study_id) == []
    # Whoever goes on to the next trial gives the lock of the last one back and takes its file away.
    lock = mine._held[first]
    mine.record_heartbeat(second)
    assert not lock.is_locked
    assert [path.name for path in (tmp_path / "locks").iterdir()] == [str(second)]
    mine._held[second].release()
    assert other._get_stale_trial_ids(study._study_id) == [second]


@pytest.mark.timeout(25)
def test_two_threads_may_take_the_same_lock(tmp_path: Path) -> None:
    """Optuna's heart beats in a thread, the worker's in its own, and file locks exclude even these."""
    storage = LockedJournal(tmp_path / "journal.log", ignore)
    study = optuna.create_study(storage=storage, study_name="x")
    trial = storage.create_new_trial(study._study_id)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(storage.record_heartbeat, [trial] * 16))
    assert list(storage._held) == [trial]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("runs/sweep.db", "is no address of a database"),
        ("postgres://host/x", "Did you mean 'postgresql'?"),
        ("oracle://host/x", "Known: mysql, postgresql, sqlite."),
        ("postgresql+pg8000://host/x", r"needs postgresql\+pg8000: pip install .* -e '\.\[databases\]'"),
        ("postgresql://127.0.0.1:9/x", "the database does not answer: .*refused"),
    ],
)
def test_addresses_that_do_not_work(address: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        open_storage(tmp_path, address, ignore)


def test_a_database(tmp_path: Path) -> None:
    storage = open_storage(tmp_path, f"sqlite:///{tmp_path}/trials.db", ignore)
    study = optuna.create_study(storage=storage)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    assert len(study.trials) == 2
    assert storage.get_heartbeat_interval() == 10
    storage.engine.dispose()  # type: ignore[union-attr]


@pytest.mark.slow
@pytest.mark.skipif(programs() is None, reason="needs PostgreSQL's server (Debian: apt-get install postgresql)")
@pytest.mark.timeout(900)
def test_two_machines_share_a_postgresql_server(tmp_path: Path) -> None:
    """Two command lines with folders of their own, as on two machines; a worker of one is killed."""
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    with postgres_server() as address:
        options = (f"--storage={address}", "--trials=6", "--model.init_args.step_seconds=0.5")
        commands = [(*write_sweep(folder, LR), *options) for folder in folders]
        sweeps = [
            start(folder, *command, f"--workers={n}")
            for folder, command, n in zip(folders, commands, (2, 1), strict=True)
        ]
        try:
            wait_for(lambda: len(logged(folders[0])) >= 2, sweeps[0], TIMEOUT)
            kill_a_busy_worker(folders[0])
            for sweep in sweeps:
                assert "trials      6 of 6" in finish(sweep, timeout=TIMEOUT)
        finally:
            for sweep in sweeps:
                sweep.kill()
    for folder in folders:
        assert states(folder) == ["complete"] * 6 + ["lost"]
        assert not processes(folder)
    assert results(folders[0]) == results(folders[1])
    assert {Path(row["folder"]).parents[4] for row in results(folders[0])} == set(folders)
