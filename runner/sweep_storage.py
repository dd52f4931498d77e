"""Where the trials of a sweep are kept: a journal file for the workers of one machine, a database for several."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy.exc
from filelock import FileLock, Timeout
from optuna.storages import RDBStorage
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.storages.journal._file import BaseJournalFileLock
from optuna.trial import FrozenTrial, TrialState

from runner.errors import UserError, nearest

# SQLAlchemy's name of a driver -> the package that has it, by what stands before :// in an address.
DRIVERS = {
    "postgresql": ("postgresql+psycopg", "psycopg"),
    "mysql": ("mysql+pymysql", "pymysql"),
    "sqlite": ("sqlite", ""),
}
# A worker that has not been heard of for so many seconds is gone.
GRACE = 30
# How often a database is opened in which tables are just made.
TABLE_TRIES = 20
OnLost = Callable[[optuna.Study, FrozenTrial], None]


class _JournalLock(BaseJournalFileLock):
    """A lock that the system frees when its owner is killed; Optuna's own blocks the others for 30 seconds then."""

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(path.with_suffix(".lock"), thread_local=False)

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()


class LockedJournal(JournalStorage, BaseHeartbeat):
    """Optuna's journal file, with a file lock for each running trial in place of heartbeats.

    The system frees the lock at the moment that its owner dies, and only then: no clock decides, and a laptop that
    slept has lost nothing.

    Args:
        path: the journal; the locks are in `locks` beside it.
        on_lost: called with each trial whose owner is gone.
    """

    def __init__(self, path: Path, on_lost: OnLost) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._locks = path.parent / "locks"
        self._held: dict[int, FileLock] = {}
        # Optuna's thread and the worker's take the same lock.
        self._taking = threading.Lock()
        self._on_lost = on_lost
        super().__init__(JournalFileBackend(str(path), lock_obj=_JournalLock(path)))

    def record_heartbeat(self, trial_id: int) -> None:
        """Takes the trial's lock; the one of this process's trial before it is given back."""
        with self._taking:
            if trial_id in self._held:
                return
            lock = self._lock(trial_id)
            lock.acquire()
            for finished in list(self._held):
                self._held.pop(finished).release()
                self._path(finished).unlink(missing_ok=True)
            self._held[trial_id] = lock

    def get_heartbeat_interval(self) -> int:
        """Seconds between two calls of `record_heartbeat`: any number, the first takes the lock."""
        return GRACE

    def get_heartbeat_stale_trial_callback(self) -> OnLost:
        """What is to be done with a lost trial."""
        return self._on_lost

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        running = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))
        return [trial._trial_id for trial in running if self._path(trial._trial_id).exists() and self._is_free(trial)]

    def _is_free(self, trial: FrozenTrial) -> bool:
        try:
            with self._lock(trial._trial_id).acquire(timeout=0):
                return True
        except Timeout:
            return False

    def _lock(self, trial_id: int) -> FileLock:
        self._locks.mkdir(exist_ok=True)
        return FileLock(self._path(trial_id), thread_local=False)

    def _path(self, trial_id: int) -> Path:
        return self._locks / str(trial_id)


def open_storage(folder: Path, address: str | None, on_lost: OnLost) -> LockedJournal | RDBStorage:
    """Opens the journal in the sweep's folder, or a database.

    Args:
        folder: of the sweep.
        address: `postgresql://...`, `mysql://...` or `sqlite:///...`; none for the journal.
        on_lost: called with each trial whose worker is gone.

    Raises:
        UserError: the address is not one, the driver is not installed, the database does not answer.
    """
    if address is None:
        return LockedJournal(folder / "journal.log", on_lost)
    scheme, found, rest = address.partition("://")
    if not found or scheme.split("+")[0] not in DRIVERS:
        raise UserError(f"--storage {address} is no address of a database.{nearest(scheme, DRIVERS)}")
    name, package = DRIVERS.get(scheme, (scheme, scheme))
    try:
        return _database(f"{name}://{rest}", on_lost)
    except ImportError as error:
        install = "pip install -c constraints.txt -e '.[databases]'"
        raise UserError(f"--storage {scheme}://... needs {package or 'a driver'}: {install}") from error


def _database(address: str, on_lost: OnLost) -> RDBStorage:
    options: dict[str, Any] = {"connect_args": {"timeout": 60}} if address.startswith("sqlite") else {}
    # A connection that the server has closed meanwhile is made anew.
    settings: dict[str, Any] = {
        "engine_kwargs": {"pool_pre_ping": True, **options},
        "heartbeat_interval": GRACE // 3,
        "grace_period": GRACE,
        "heartbeat_stale_trial_callback": on_lost,
    }
    for _ in range(TABLE_TRIES):
        try:
            return RDBStorage(address, **settings)
        except sqlalchemy.exc.OperationalError as error:
            raise UserError(f"the database does not answer: {str(error.orig).splitlines()[0]}") from error
        except (sqlalchemy.exc.ProgrammingError, sqlalchemy.exc.IntegrityError):
            # Another command line is making the tables, one after the other.
            time.sleep(0.5)
    return RDBStorage(address, **settings)
