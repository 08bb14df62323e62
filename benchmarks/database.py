"""PostgreSQL for the time of a run: as safe as in production, with fsync on, and with defaults but for memory."""

from __future__ import annotations

import atexit
from functools import lru_cache

from benchmarks.errors import BenchmarkError
from benchmarks.process import cpu_seconds
from tests.support.postgres import Postgres, children_of

# The defaults write a checkpoint for every gigabyte, which a run of seconds is full of.
_SETTINGS = {"fsync": "on", "synchronous_commit": "on", "shared_buffers": "256MB", "max_wal_size": "4GB"}

# With commit_delay (microseconds) the server waits before each flush, as for a disk in a network.
DATABASES = {"postgres": {}, "slow-postgres": {"commit_delay": "3000", "commit_siblings": "0"}}


@lru_cache
def database(name: str) -> Postgres:
    """Starts one of `DATABASES`; it ends with this process."""
    server = Postgres(_SETTINGS | DATABASES[name]).create()
    atexit.register(server.stop)
    return server


def cpu_of(server: Postgres) -> float:
    """The CPU time of its processes so far, in seconds."""
    if server.process is None:
        raise BenchmarkError("PostgreSQL is not running")
    return cpu_seconds([server.process.pid, *children_of(server.process.pid)])
