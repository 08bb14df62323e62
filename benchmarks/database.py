"""A PostgreSQL for the time of a run: as safe as one in production, with fsync on, and with defaults but for memory."""

from __future__ import annotations

import atexit
from functools import lru_cache

from tests.support.postgres import Postgres

# The defaults write a checkpoint for every gigabyte, which a run of seconds is full of.
SETTINGS = {"fsync": "on", "synchronous_commit": "on", "shared_buffers": "256MB", "max_wal_size": "4GB"}


@lru_cache
def database() -> Postgres:
    """Starts it; it ends with this process."""
    server = Postgres(SETTINGS).create()
    atexit.register(server.stop)
    return server
