"""The records of one batch of events: loaded as they are needed, merged where ids are of one request, written back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from metrics_server.metrics.sums import Sums
from metrics_server.pairing.record import (
    MAX_KEYS,
    PairingRecord,
    absorb_record,
    decode_record,
    encode_record,
    encode_redirect,
)
from metrics_server.pairing.usage import EVENT_KEYS, RECORDS, UsageDelta
from metrics_server.store.interface import Record, Store, Write

# A record is kept for --retention from its receipt. One that is used again later than this share of it is kept anew;
# earlier, that would move it in the order of expiry for next to nothing.
RENEWED_AFTER = 1 / 32


class LoadedRecord:
    """A record of this batch: the version that was read, and its content as it is now.

    Attributes:
        key: that it is stored under.
        version: of what was read; 0 for a key under which nothing was stored.
        length: of what was read, in bytes.
        redirect_to: the key whose record took this one in; b"" while it stands for itself.
        is_touched: whether it has to be written back.
    """

    __slots__ = ("is_touched", "key", "length", "record", "redirect_to", "version")

    def __init__(self, key: bytes, version: int, length: int, record: PairingRecord, redirect_to: bytes = b"") -> None:
        self.key = key
        self.version = version
        self.length = length
        self.record = record
        self.redirect_to = redirect_to
        self.is_touched = False

    def clear(self) -> None:
        """Empties it for good: what leads here is kept, and that nothing is taken any more."""
        self.record = PairingRecord(alias_keys=self.record.alias_keys, is_erased=True)

    def index_of(self, key: bytes) -> int:
        """Finds the index by which content of this record names one of the keys it is filed under."""
        if key == self.key:
            return 0
        aliases = self.record.alias_keys
        if key not in aliases:  # its redirect leads here still, while the record that it was made for has expired
            if len(aliases) + 1 >= MAX_KEYS:
                return 0
            aliases.append(key)
        return 1 + aliases.index(key)

    def indexes_of(self, keys: Iterable[bytes]) -> bytes:
        """Finds the indexes of several keys, in their order."""
        return bytes(map(self.index_of, keys))


class RecordSession:
    """The records that a batch has loaded. `writes`, then `usage`, are what the store has to apply for them."""

    def __init__(self, store: Store, now: float, retention: int, dedupe: int) -> None:
        self._store = store
        self._now = now
        self._retention = retention
        self._dedupe = dedupe
        self._asked: set[bytes] = set()
        self._stored: dict[bytes, Record] = {}
        self._records: dict[bytes, LoadedRecord] = {}
        self._event_keys: set[bytes] = set()
        self._usage = UsageDelta()

    def load(self, keys: Collection[bytes]) -> None:
        """Reads what is stored under these keys in one go, as far as it was not read yet."""
        new = set(keys) - self._asked
        self._asked |= new
        if new:
            self._stored.update(self._store.load(new))

    def load_request(self, request: bytes) -> list[LoadedRecord]:
        """Finds the records of all rows of a request, stored or new in this batch."""
        stored = self._store.load_prefix(request)
        self._stored.update({key: record for key, record in stored.items() if key not in self._asked})
        self._asked |= stored.keys()
        keys = {*stored, *(key for key in self._records if key.startswith(request))}
        found = {id(loaded): loaded for loaded in map(self.find, sorted(keys))}
        return list(found.values())

    def is_new_event(self, event: bytes) -> bool:
        """Tells whether an event that joins nothing comes for the first time; its key is kept from now on."""
        if event in self._event_keys or event in self._stored:
            return False
        self._event_keys.add(event)
        return True

    def find(self, key: bytes) -> LoadedRecord:
        """Finds the record that is filed under a key, new and empty if there is none."""
        loaded = self._at(key)
        while loaded.redirect_to:
            loaded = self._at(loaded.redirect_to)
        return loaded

    def merge_records(self, keys: Iterable[bytes]) -> tuple[LoadedRecord, list[bytes]]:
        """Makes one record of those of several keys.

        Returns:
            The record, and those of the keys under which it could be filed: all up to `MAX_KEYS`.
        """
        first, *others = keys
        kept, merged = self.find(first), [first]
        for key in others:
            other = self.find(key)
            if other is not kept:
                if len(kept.record.alias_keys) + len(other.record.alias_keys) + 2 > MAX_KEYS:
                    continue
                absorb_record(kept.record, kept.key, other.key, other.record)
                other.record, other.redirect_to, other.is_touched = PairingRecord(), kept.key, True
            if key not in merged:
                merged.append(key)
        return kept, merged

    def writes(self) -> Iterator[tuple[bytes, Write]]:
        """Yields the records to put; after them, `usage` is complete."""
        for event in self._event_keys:
            yield event, Write(0, b"", self._now + self._dedupe, EVENT_KEYS)
        self._usage.add_event_keys(len(self._event_keys))
        self._renew_redirects()
        for key, loaded in self._records.items():
            if loaded.is_touched:
                yield key, self._write(loaded)
            elif loaded.version:  # only looked at: it counts for what it did
                self._usage.add_record(None if loaded.redirect_to else loaded.record, loaded.length)

    @property
    def usage(self) -> Sums:
        """Sums up what has come, less what has gone."""
        return self._usage.sums

    @property
    def pending_by_second(self) -> Mapping[int, int]:
        """Counts the rows that wait, less those that do no more, by the second of receipt."""
        return self._usage.pending_by_second

    def _at(self, key: bytes) -> LoadedRecord:
        """Finds what stands under a key itself, a record or a redirect."""
        loaded = self._records.get(key)
        if loaded is None:
            if key not in self._asked:
                self.load([key])
            loaded = self._records[key] = self._decoded(key, self._stored.get(key))
        return loaded

    def _decoded(self, key: bytes, stored: Record | None) -> LoadedRecord:
        if stored is None:
            return LoadedRecord(key, 0, 0, PairingRecord())
        found, length = decode_record(stored.value), len(stored.value)
        if isinstance(found, bytes):
            self._usage.add_record(None, length, -1)
            return LoadedRecord(key, stored.version, length, PairingRecord(), found)
        self._usage.add_record(found, length, -1)
        return LoadedRecord(key, stored.version, length, found)

    def _renew_redirects(self) -> None:
        """Keeps the redirects to a record for as long as the record."""
        for loaded in [one for one in self._records.values() if one.is_touched and one.record.alias_keys]:
            if self._is_due(loaded.record):
                for key in loaded.record.alias_keys:
                    self._renew_redirect(key, loaded)

    def _renew_redirect(self, key: bytes, to: LoadedRecord) -> None:
        self.find(key)
        redirect = self._records[key]
        is_free = not redirect.version and not redirect.is_touched and not redirect.redirect_to
        if is_free or redirect.redirect_to == to.key:  # else it has gone its own way meanwhile
            redirect.redirect_to, redirect.is_touched = to.key, True

    def _is_due(self, record: PairingRecord) -> bool:
        """Tells whether a record that is used now is to be kept from now on."""
        return self._now - record.received_at > self._retention * RENEWED_AFTER

    def _write(self, loaded: LoadedRecord) -> Write:
        record, expiry_changed = loaded.record, True
        if loaded.redirect_to:
            value, received_at = encode_redirect(loaded.redirect_to), self._now
        else:
            expiry_changed = self._is_due(record)
            if expiry_changed:
                record.received_at = int(self._now)
            value, received_at = encode_record(record), record.received_at
        self._usage.add_record(None if loaded.redirect_to else record, len(value))
        return Write(loaded.version, value, received_at + self._retention, RECORDS, expiry_changed)
