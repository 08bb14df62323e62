"""A store whose versions count the writes of each key from 1, so that tests can write them down."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from metrics_server.store.interface import Change, Record, Store


class CountedVersions:
    """The same store: what it calls a version stands for the one that it gave to that write."""

    def __init__(self, store: Store, given: dict[bytes, list[int]]) -> None:
        self._store = store
        self._given = given  # the versions of what is stored under a key, the oldest first

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def load(self, keys: Collection[bytes]) -> Mapping[bytes, Record]:
        found = self._store.load(keys)
        for key in keys:
            given = self._given.setdefault(key, [])
            if key not in found:
                given.clear()
            elif found[key].version not in given:
                given.append(found[key].version)
        return self._counted(found)

    def load_prefix(self, prefix: bytes) -> Mapping[bytes, Record]:
        found = self._store.load_prefix(prefix)
        self.load(list(found))
        return self._counted(found)

    def commit(self, change: Change) -> bool:
        records = {
            key: write._replace(version=self._stored(key, write.version)) for key, write in change.records.items()
        }
        deletes = {key: self._stored(key, version) for key, version in change.deletes.items()}
        done = self._store.commit(dataclasses.replace(change, records=records, deletes=deletes))
        self.load([*records, *deletes])
        return done

    def expired(self, before: float, limit: int, expiry_queue: int = 0) -> Mapping[bytes, Record]:
        found = self._store.expired(before, limit, expiry_queue)
        self.load(list(found))
        return self._counted(found)

    def _counted(self, found: Mapping[bytes, Record]) -> dict[bytes, Record]:
        return {
            key: record._replace(version=self._given[key].index(record.version) + 1) for key, record in found.items()
        }

    def _stored(self, key: bytes, version: int) -> int:
        if version and key not in self._given:
            self.load([key])
        given = self._given.get(key, [])
        return given[version - 1] if 0 < version <= len(given) else -version  # one that the store never gave
