"""Connections to PostgreSQL: with every option of libpq in the URL, and defaults that notice a dead peer."""

from __future__ import annotations

import psycopg
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from metrics_server.store.postgres.arrays import register
from metrics_server.store.postgres.watchdog import Watchdog

SETTING_SECONDS = 5.0  # for what is set on a new connection

# Seconds, but for the last, which is milliseconds. What the URL says goes first.
_DEFAULTS = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "target_session_attrs": "read-write",  # of several hosts the primary
    # An old primary that is back and nobody has fenced finishes no write: the next attempt must find the other one.
    "load_balance_hosts": "random",
}
_SETTINGS = (
    # A server of ours that is stopped in a transaction must not hold locks for ever.
    "SET idle_in_transaction_session_timeout = '15s'",
    # Compiling takes a third of a second, for queries of arrays whose size the planner guesses too high.
    "SET jit = off",
)


def connect(url: str, purpose: str, watchdog: Watchdog) -> Connection:
    """Connects in autocommit mode.

    Raises:
        psycopg.Error: there is no such server, or it lets us not in.
    """
    given = conninfo_to_dict(url)
    options = {name: value for name, value in _DEFAULTS.items() if name not in given}
    name = {} if "application_name" in given else {"application_name": f"feedback-metrics-server {purpose}"}
    # Statements are not prepared: poolers between us and the server need not know of them.
    connection = psycopg.connect(make_conninfo(url, **options, **name), autocommit=True, prepare_threshold=None)
    try:
        register(connection)
        with watchdog.within(SETTING_SECONDS, connection):
            connection.execute("; ".join(_SETTINGS).encode())
            if connection.execute("SHOW synchronous_commit").fetchone() in (("off",), ("local",)):
                connection.execute("SET synchronous_commit = on")  # what is acknowledged must not be lost
    except BaseException:
        connection.close()
        raise
    return connection


def first_line(error: BaseException) -> str:
    """Returns the first line of what an error says; never a password, which libpq does not repeat."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
