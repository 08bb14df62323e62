"""The names of the components of sums, and their numbers: a stored sum takes 16 bytes instead of some 60."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from psycopg import Connection

from metrics_server.store.postgres.sql import COMPONENTS_NAMED, COMPONENTS_OF, NAME_COMPONENTS


def encoded(text: str) -> bytes:
    """Returns text as it is stored: as bytes, because PostgreSQL's text has no NUL."""
    return text.encode("utf-8", "surrogatepass")


def decoded(stored: bytes) -> str:
    """Returns stored text."""
    return stored.decode("utf-8", "surrogatepass")


class Components:
    """Numbers that were given to names, once and for ever; remembers those it was asked for."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._names: dict[int, str] = {}

    def ids(self, connection: Connection, names: Collection[str]) -> dict[str, int]:
        """Returns the numbers of names, and gives numbers to those that have none."""
        if unknown := [encoded(name) for name in names if name not in self._ids]:
            unknown.sort()  # two writers that give numbers to the same names wait for each other in one order
            connection.execute(NAME_COMPONENTS, (unknown,))
            self._note(connection.execute(COMPONENTS_NAMED, (unknown,), binary=True))
        return self._ids

    def names(self, connection: Connection, ids: Iterable[int]) -> dict[int, str]:
        """Returns the names of numbers."""
        if unknown := [number for number in ids if number not in self._names]:
            self._note(connection.execute(COMPONENTS_OF, (unknown,), binary=True))
        return self._names

    def _note(self, rows: Iterable[tuple[int, bytes]]) -> None:
        for number, name in rows:
            text = decoded(name)
            self._ids[text], self._names[number] = number, text
