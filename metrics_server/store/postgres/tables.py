"""The tables of the store: made by the first server, checked by every other."""

from __future__ import annotations

from psycopg import Connection

from metrics_server.errors import StoreRefused
from metrics_server.store.postgres.sql import FUNCTIONS, SCHEMA, SCHEMA_VERSION, SET_UP, SETUP_LOCK

_HAS_TABLES = "SELECT FROM pg_class WHERE relname = 'catalog' AND relnamespace = current_schema()::regnamespace"

# The oldest server whose functions and types are used.
OLDEST_SERVER = 150000


def ensure_tables(connection: Connection) -> None:
    """Makes the tables if there are none, and refuses those of a newer version.

    Raises:
        StoreRefused: the database is too old, or its tables are not of this version.
    """
    if connection.info.server_version < OLDEST_SERVER:
        found = connection.info.server_version // 10000
        raise StoreRefused(f"--store: PostgreSQL {found} is too old; want 15 or later")
    if _version(connection) is None:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(current_schema()))", (SETUP_LOCK,))
            if _version(connection) is None:  # nobody else was first
                connection.execute((SCHEMA + FUNCTIONS + SET_UP).encode())
    if (version := _version(connection)) != SCHEMA_VERSION:
        raise StoreRefused(
            f"--store: the tables in PostgreSQL have version {version}, this server knows {SCHEMA_VERSION}; "
            "use a newer server"
        )


def _version(connection: Connection) -> int | None:
    """Returns the version of the tables, None if there are none."""
    # A look at the table of tables, not to_regclass(): its cache may miss what another server has made meanwhile.
    if not connection.execute(_HAS_TABLES).fetchall():
        return None
    row = connection.execute("SELECT schema_version FROM catalog").fetchone()
    return None if row is None else int(row[0])
