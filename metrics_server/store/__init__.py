"""Stores of sums: one interface, one contract suite, and `open_store` to choose an implementation by URL."""

from __future__ import annotations

from metrics_server.errors import BadConfiguration
from metrics_server.store.interface import Store


def open_store(url: str) -> Store:
    """Opens the store of a URL: memory:// or sqlite:///path (sqlite:////absolute/path).

    Raises:
        BadConfiguration: the URL names no store of ours.
        StoreRefused: the store exists and must not be used; see each implementation.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme in _OPENERS:
        return _OPENERS[scheme](rest)
    raise BadConfiguration(f"--store {url}: want one of " + ", ".join(f"{scheme}://" for scheme in _OPENERS))


def _open_memory(rest: str) -> Store:
    from metrics_server.store.memory import MemoryStore

    return MemoryStore()


def _open_sqlite(rest: str) -> Store:
    from metrics_server.store.sqlite.store import SqliteStore

    if not rest.startswith("/") or rest == "/":
        raise BadConfiguration(f"--store sqlite://{rest}: want sqlite:///relative/path or sqlite:////absolute/path")
    return SqliteStore(rest[1:])


_OPENERS = {"memory": _open_memory, "sqlite": _open_sqlite}
