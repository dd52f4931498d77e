"""A PostgreSQL server of a test's own: on loopback, its data in a temporary folder."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

# Debian keeps the server's programs out of the path.
FOLDERS = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), Path("/usr/local/bin"), Path("/usr/bin")]


def programs() -> Path | None:
    """The folder of initdb and pg_ctl; none where the server is not installed."""
    return next((folder for folder in FOLDERS if (folder / "initdb").exists() and (folder / "pg_ctl").exists()), None)


@contextmanager
def postgres_server() -> Iterator[str]:
    """Starts a server and stops it at the end; gives the address of its database."""
    found = programs()
    assert found is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Not pytest's folder, which is closed to other users.
    with TemporaryDirectory(prefix="litspaces-postgres-") as data:
        if os.geteuid() == 0:
            shutil.chown(data, "postgres", "postgres")
        _run(found / "initdb", "-D", data, "-U", "sweeper", "--auth=trust", "--no-sync")
        options = f"-c listen_addresses=127.0.0.1 -p {port} -c unix_socket_directories= -c fsync=off"
        _run(found / "pg_ctl", "-D", data, "-o", options, "-l", f"{data}/log", "-w", "start")
        try:
            yield f"postgresql://sweeper@127.0.0.1:{port}/postgres"
        finally:
            _run(found / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


def _run(*command: object) -> None:
    # The server refuses to run as root; Debian's package has a user for it.
    words = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    # Not captured by a pipe: the server would keep it open.
    done = subprocess.run([*words, *map(str, command)], cwd="/", stdout=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}"
