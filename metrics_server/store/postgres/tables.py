"""The tables of the store: made by the first server, brought to its version by a newer one, checked by every other."""

from __future__ import annotations

from typing import NamedTuple

from psycopg import Connection

from metrics_server.errors import StoreRefused
from metrics_server.store.postgres.sql import (
    FUNCTIONS,
    MIGRATIONS,
    SCHEMA,
    SCHEMA_VERSION,
    SET_UP,
    SETUP_LOCK,
    USABLE_FROM,
)

_HAS_TABLES = "SELECT FROM pg_class WHERE relname = 'catalog' AND relnamespace = current_schema()::regnamespace"

# The oldest server whose functions and types are used.
OLDEST_SERVER = 150000


def ensure_tables(connection: Connection) -> None:
    """Makes the tables if there are none, migrates those of an older version, and refuses those that are too new.

    Raises:
        StoreRefused: the database is too old, or its tables are too new.
    """
    if connection.info.server_version < OLDEST_SERVER:
        release = connection.info.server_version // 10000
        raise StoreRefused(f"--store: PostgreSQL {release} is too old; want 15 or later")
    if (found := _versions(connection)) is None or found.schema < SCHEMA_VERSION:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(current_schema()))", (SETUP_LOCK,))
            _make_or_migrate(connection, _versions(connection))  # unless somebody else was first
        found = _versions(connection)
    if found is not None and found.usable_from > SCHEMA_VERSION:
        raise StoreRefused(
            f"--store: the tables in PostgreSQL have version {found.schema}, this server knows up to {SCHEMA_VERSION}; "
            "use a newer server"
        )


def _make_or_migrate(connection: Connection, found: _Versions | None) -> None:
    if found is None:
        connection.execute((SCHEMA + FUNCTIONS + SET_UP).encode())
        return
    for version in range(found.schema, SCHEMA_VERSION):
        connection.execute(MIGRATIONS[version].encode())
        connection.execute("UPDATE catalog SET schema_version = %s, usable_from = %s", (version + 1, USABLE_FROM))


class _Versions(NamedTuple):
    """The version of the tables, and the oldest one whose servers can use them."""

    schema: int
    usable_from: int


def _versions(connection: Connection) -> _Versions | None:
    """Reads the versions of the tables, None if there are none."""
    # A look at the table of tables, not to_regclass(): its cache may miss what another server has made meanwhile.
    if not connection.execute(_HAS_TABLES).fetchall():
        return None
    row = connection.execute("SELECT schema_version, usable_from FROM catalog").fetchone()
    return None if row is None else _Versions(*row)
