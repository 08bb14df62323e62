"""A real PostgreSQL for tests: a cluster of its own in a temporary directory, started as a direct child."""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from tests.support.running import free_port, peer
from tests.support.waiting import until

_schemas = count(1)

# In the tests of promises about power loss fsync is on; elsewhere it only costs time.
FAST = {"fsync": "off", "full_page_writes": "off"}


def binaries() -> Path:
    """Where the programs of PostgreSQL are, as POSTGRES_PROGRAMS says, else of the newest that is installed; skips, or
    fails in CI, if there is none."""
    if named := os.environ.get("POSTGRES_PROGRAMS"):
        return Path(named)
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    return installed[-1].parent if installed else Path(peer("initdb")).parent


class Postgres:
    """One server of PostgreSQL on a free port of loopback.

    As root it runs as another user, for it refuses to run as root.
    """

    def __init__(
        self, settings: Mapping[str, str] = FAST, programs: Path | None = None, port: int | None = None
    ) -> None:
        self.programs = programs or binaries()
        self.directory = Path(tempfile.mkdtemp(prefix="postgres-"))
        self.data = self.directory / "data"
        self.port = port or free_port()
        self.settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": "100"}
        self.settings |= settings
        self.user = _unprivileged()
        if self.user:
            shutil.chown(self.directory, self.user)
        self.directory.chmod(0o755)
        self.process: subprocess.Popen[bytes] | None = None

    def create(self) -> Postgres:
        """Makes an empty cluster and starts it."""
        self.run("initdb", "-D", str(self.data), "-U", "test", "-A", "trust", "--no-sync", "--encoding=UTF8")
        return self.start()

    def run(self, program: str, *words: str) -> None:
        ran = subprocess.run(
            [str(self.programs / program), *words], cwd=self.directory, capture_output=True, text=True, check=False,
            timeout=120, **self.identity,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout + ran.stderr

    @property
    def identity(self) -> dict[str, Any]:
        return {"user": self.user, "group": pwd.getpwnam(self.user).pw_gid} if self.user else {}

    def start(self) -> Postgres:
        options = [word for name, value in self.settings.items() for word in ("-c", f"{name}={value}")]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(self.programs / "postgres"), "-D", str(self.data), "-p", str(self.port), *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory, **self.identity,
            )  # fmt: skip
        until(self.is_up, 60, f"PostgreSQL does not start, see {self.directory / 'log'}")
        return self

    def is_up(self) -> bool:
        with suppress(psycopg.Error):
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
            return True
        assert self.process is not None
        assert self.process.poll() is None, (self.directory / "log").read_text()[-2000:]
        return False

    def url(self, database: str = "postgres", **parameters: str) -> str:
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"postgresql://test@127.0.0.1:{self.port}/{database}" + (f"?{query}" if query else "")

    def fresh(self) -> str:
        """The URL of a schema of its own, empty."""
        schema = f"s{os.getpid()}_{next(_schemas)}"
        self.execute(f"CREATE SCHEMA {schema}")
        return self.url(options=f"-csearch_path%3D{schema}")

    def fresh_beside(self, other: Postgres) -> str:
        """The same, of this server and another that may take its place; this one is named first."""
        own = f"@127.0.0.1:{self.port}"
        return self.fresh().replace(f"{own}/", f"{own},127.0.0.1:{other.port}/")

    def execute(self, statement: str, *arguments: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            ran = connection.execute(statement.encode(), arguments or None)
            return ran.fetchall() if ran.description else []

    def kill(self) -> None:
        """Ends it as a power cut would, as far as its processes go."""
        self.end(signal.SIGQUIT)

    def end(self, how: int = signal.SIGINT) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(20)

    def signal_all(self, number: int) -> None:
        """Signals every one of its processes, the first of them first, so that it makes no more."""
        assert self.process is not None
        pid = self.process.pid
        children = children_of(pid) if number == signal.SIGKILL else []
        os.kill(pid, number)
        for child in children or children_of(pid):
            with suppress(ProcessLookupError):
                os.kill(child, number)

    def kill_all(self) -> None:
        """Ends all its processes by SIGKILL, and waits until none is left that a restart would meet."""
        if self.process is None or self.process.poll() is not None:
            return
        children = children_of(self.process.pid)
        self.signal_all(signal.SIGKILL)
        self.process.wait(20)
        until(lambda: not any(map(_is_running, children)), 20, "processes of PostgreSQL are still there")

    def standby(self) -> Postgres:
        """Makes and starts a server that follows this one; commits wait for it from then on."""
        copy = Postgres(self.settings, self.programs)
        copy.run("pg_basebackup", "-d", self.url(), "-D", str(copy.data), "-R", "--checkpoint=fast", "--no-sync")
        copy.start()
        self.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.execute("SELECT pg_reload_conf()")
        is_synchronous = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
        until(lambda: self.execute(is_synchronous), 20, "the standby does not follow")
        return copy

    def promote(self) -> None:
        """Makes a standby the primary."""
        self.execute("SELECT pg_promote()")

    def stop(self) -> None:
        """Ends it and deletes its directory."""
        self.end()
        shutil.rmtree(self.directory, ignore_errors=True)


@lru_cache
def shared_postgres() -> Postgres:
    """One server for all tests of this process that only need a database."""
    server = Postgres().create()
    atexit.register(server.stop)
    return server


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _unprivileged() -> str:
    if os.geteuid() != 0:
        return ""
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
