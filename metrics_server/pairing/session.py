"""The cases of one group of events: opened as they are needed, made one where ids turn out to be of one request,
written back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

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

# A half is kept for --retention from its receipt. One that is used again later than this share of it is kept anew;
# earlier, that would move it in the order of expiry for next to nothing.
RENEWED_AFTER = 1 / 32


class LoadedRecord:
    """A case of this group: as it was read, and as it is now."""

    __slots__ = ("case", "is_touched", "key", "length", "moved_to", "version")

    def __init__(self, key: bytes, version: int, length: int, case: PairingRecord, moved_to: bytes = b"") -> None:
        self.key = key
        self.version = version
        self.length = length  # of the value, as it was read
        self.case = case
        self.moved_to = moved_to  # the key whose case took this one in
        self.is_touched = False

    def index_of(self, key: bytes) -> int:
        """How the halves in this case name one of the keys it is filed under."""
        if key == self.key:
            return 0
        if key not in self.case.alias_keys:  # it points here still, while the case it pointed to has expired
            if len(self.case.alias_keys) + 1 >= MAX_KEYS:
                return 0
            self.case.alias_keys.append(key)
        return 1 + self.case.alias_keys.index(key)


class RecordSession:
    """What a group of events has opened. `writes` and `sums` are what the store has to apply for it."""

    def __init__(self, store: Store, now: float, retention: int, dedupe: int) -> None:
        self._store = store
        self._now = now
        self._retention = retention
        self._dedupe = dedupe
        self._asked: set[bytes] = set()
        self._loaded: dict[bytes, Record] = {}
        self._folders: dict[bytes, LoadedRecord] = {}
        self._events: set[bytes] = set()
        self._balance = UsageDelta()

    def load(self, keys: Collection[bytes]) -> None:
        """Reads what is kept under these keys, in one go, as far as it was not read yet."""
        new = set(keys) - self._asked
        self._asked |= new
        if new:
            self._loaded.update(self._store.load(new))

    def is_new(self, event: bytes) -> bool:
        """Whether an event that joins nothing comes for the first time; its key is kept from now on."""
        if event in self._events or event in self._loaded:
            return False
        self._events.add(event)
        return True

    def folder(self, key: bytes) -> LoadedRecord:
        """The case that is filed under a key."""
        folder = self._folders.get(key)
        if folder is None:
            if key not in self._asked:
                self.load([key])
            folder = self._folders[key] = self._opened(key, self._loaded.get(key))
        return self.folder(folder.moved_to) if folder.moved_to else folder

    def _opened(self, key: bytes, record: Record | None) -> LoadedRecord:
        if record is None:
            return LoadedRecord(key, 0, 0, PairingRecord())
        found = decode_record(record.value)
        length = len(record.value)
        if isinstance(found, bytes):
            self._balance.add_record(None, length, -1)
            return LoadedRecord(key, record.version, length, PairingRecord(), found)
        self._balance.add_record(found, length, -1)
        return LoadedRecord(key, record.version, length, found)

    def joined(self, keys: Iterable[bytes]) -> tuple[LoadedRecord, list[bytes]]:
        """The one case of several keys, made of theirs, and those of the keys it could be filed under: all but too
        many.
        """
        first, *others = keys
        folder, joined = self.folder(first), [first]
        for key in others:
            other = self.folder(key)
            if other is not folder:
                if len(folder.case.alias_keys) + len(other.case.alias_keys) + 2 > MAX_KEYS:
                    continue
                absorb_record(folder.case, folder.key, other.key, other.case)
                other.case, other.moved_to, other.is_touched = PairingRecord(), folder.key, True
            if key not in joined:
                joined.append(key)
        return folder, joined

    def writes(self) -> Iterator[tuple[bytes, Write]]:
        """The records to put; after them, `sums` is what they count for."""
        for event in self._events:
            yield event, Write(0, b"", self._now + self._dedupe, EVENT_KEYS)
        self._balance.add_event_keys(len(self._events))
        self._renew_pointers()
        for key, folder in self._folders.items():
            if folder.is_touched:
                yield key, self._write(folder)
            elif folder.version:  # only looked at: it counts for what it did
                self._balance.add_record(None if folder.moved_to else folder.case, folder.length)

    def _renew_pointers(self) -> None:
        """Keeps what points to a case for as long as the case."""
        for folder in [
            one for one in self._folders.values() if one.is_touched and one.case.alias_keys and self._is_due(one.case)
        ]:
            for key in folder.case.alias_keys:
                self.folder(key)
                pointer = self._folders[key]
                is_free = not pointer.version and not pointer.is_touched and not pointer.moved_to
                if is_free or pointer.moved_to == folder.key:  # else it has gone its own way meanwhile
                    pointer.moved_to, pointer.is_touched = folder.key, True

    def _is_due(self, case: PairingRecord) -> bool:
        """Whether a case that is used now is to be kept from now on."""
        return self._now - case.received_at > self._retention * RENEWED_AFTER

    @property
    def sums(self) -> Sums:
        """What has come, less what has gone."""
        return self._balance.sums

    def _write(self, folder: LoadedRecord) -> Write:
        case, expiry_changed = folder.case, True
        if folder.moved_to:
            value, received = encode_redirect(folder.moved_to), self._now
        else:
            expiry_changed = self._is_due(case)
            if expiry_changed:
                case.received_at = int(self._now)
            value, received = encode_record(case), case.received_at
        self._balance.add_record(None if folder.moved_to else case, len(value))
        return Write(folder.version, value, received + self._retention, RECORDS, expiry_changed)
