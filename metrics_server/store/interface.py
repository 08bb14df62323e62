"""The store's contract: what every implementation promises, tested for all in tests/contract/test_store_contract.py.

A store keeps four things: records (opaque bytes under a key, with a version), series with their claimed parameters,
sums, and registers (the latest value of each). It understands none of them. All changes go through `commit`, which
applies a change entirely or not at all.

A shared store has several writers, each in a process of its own with an object of its own. What a writer keeps in
memory of sums and series it brings up to date with `catch_up`, which tells what the others have committed.

Times are UTC Unix seconds. Every method may raise `StoreUnavailable`; after that nothing has changed as far as the
caller may assume, except that a failed `commit` may or may not have been applied: the caller reads again before it goes
on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

from metrics_server.metrics.sums import Sums
from metrics_server.metrics.window import Bucket, bucket_start, floor

# Numbers what stands in records, which only pairing understands: one more whenever a field is added.
RECORD_SCHEMA = 1

LONGEST_KEY = 64  # bytes of a record's key


class Record(NamedTuple):
    """Stored bytes of one key; `version` is positive and differs with every write of the key, also after a delete."""

    version: int
    value: bytes


class Write(NamedTuple):
    """Bytes to put under a key.

    Attributes:
        version: the version that the bytes were computed from; 0 for a key without a record.
        value: the bytes.
        expires_at: when the record may be forgotten.
        expiry_queue: 0 to 15; records of one queue are forgotten in the order in which their expiry was set. A key
            stays in its queue.
        expiry_changed: whether `expires_at` differs from the stored one; False saves the store from finding that out.
    """

    version: int
    value: bytes
    expires_at: float
    expiry_queue: int = 0
    expiry_changed: bool = True


class StoredSeries(NamedTuple):
    """A series and the parameters claimed for it.

    `identity` is opaque to the store. All times but `created_at` only move forward.
    """

    id: int
    identity: bytes
    created_at: float
    seen_at: float
    parameters: Mapping[str, str]
    predicted_at: float = 0.0
    labelled_at: float = 0.0


class StepSums(NamedTuple):
    """The sums of the time buckets of one step, added up.

    Attributes:
        start: the beginning of the step.
        width: the width of its widest bucket.
        sums: never empty, and without components that are 0.
    """

    start: int
    width: int
    sums: Sums


StepSumsStream: TypeAlias = Generator[StepSums, None, None]

# The seconds at which the buckets of some series are split, in order, by series; see `metrics_server.metrics.window`.
Splits: TypeAlias = Mapping[int, Sequence[int]]


def end_of_prefix(prefix: bytes) -> bytes:
    """Returns the first key, in their order, that is behind all those that begin with this.

    >>> list(end_of_prefix(bytes([7, 1, 255])))
    [7, 2]
    """
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else b"\xff" * LONGEST_KEY


def starts_of_split(fine_start: int, coarse: int, splits: Splits) -> dict[int, int]:
    """Returns where the coarse buckets begin that a fine one goes into, of the series of which it is no multiple.

    >>> starts_of_split(7260, 3600, {1: [7230, 7290], 2: [60], 3: []})
    {1: 7230}
    """
    begin = floor(fine_start, coarse)
    starts = {series_id: bucket_start(fine_start, coarse, seconds) for series_id, seconds in splits.items()}
    return {series_id: start for series_id, start in starts.items() if start != begin}


def never() -> bool:
    """Returns False: the deadline of a caller that waits as long as it takes."""
    return False


class Register(NamedTuple):
    """A value and the time that it is of. Of two the greater tuple stands, so that their order is of no consequence."""

    at: float
    value: float


@dataclass
class Change:
    """Everything that one commit applies: records, series, claims, sums to add, records to delete, registers.

    A register, named by series and name, is written if nothing stands there that is as new.
    """

    records: dict[bytes, Write] = field(default_factory=dict)
    series: dict[int, StoredSeries] = field(default_factory=dict)
    claims: dict[tuple[int, str], str] = field(default_factory=dict)
    sums: dict[tuple[int, Bucket], Sums] = field(default_factory=dict)
    deletes: dict[bytes, int] = field(default_factory=dict)
    registers: dict[tuple[int, str], Register] = field(default_factory=dict)


class News(NamedTuple):
    """What other writers have committed since the last look.

    Attributes:
        changes: sums, registers and the times at which series were used, in the order of each writer's commits.
        series: those that are new, or have new parameters.
        is_complete: False when not all can be told any more; everything has to be read anew.
    """

    changes: Sequence[Change] = ()
    series: Sequence[StoredSeries] = ()
    is_complete: bool = True


@dataclass
class Sharing:
    """How a writer of a shared store stands to the others. The writer's thread sets it, any thread may read it.

    Attributes:
        caught_up_at: when it last took what others have committed, as `time.monotonic()` says.
        upkeep_at: when it last did the upkeep, as `time.monotonic()` says; of all writers one does it.
        clock_offset: how much the time of all writers is ahead of this machine's clock, in seconds.
        unfolded: commits of all writers that are not added up yet.
        conflicts: commits of its own that were refused because another writer was first.
        record_schema: the lowest `RECORD_SCHEMA` of all writers that live. One that does not know a field drops it when
            it writes the record, so a new field is not set as long as this is lower than the number that it came with.
    """

    caught_up_at: float = field(default_factory=time.monotonic)
    upkeep_at: float = field(default_factory=time.monotonic)
    clock_offset: float = 0.0
    unfolded: int = 0
    conflicts: int = 0
    record_schema: int = RECORD_SCHEMA


class Store(Protocol):
    """Durable state.

    One thread at a time may call it. `history`, `steps` and `now` alone may be called by any thread, at any time.

    Attributes:
        upkeep_delay: how much later than its time a bucket is rolled up or deleted, in seconds, for writers that have
            not moved the edges of their windows yet.
    """

    upkeep_delay: float

    @property
    def sharing(self) -> Sharing | None:
        """How this writer stands to the others; None where there are none."""

    def now(self) -> float:
        """Returns the time of all writers."""

    def catch_up(self) -> News:
        """Tells what other writers have committed since this was last called; the first time that is not complete."""

    def snapshot(self) -> AbstractContextManager[None]:
        """Shows one moment to everything that is read within, `catch_up` too."""

    def takes_upkeep(self) -> bool:
        """Says that this writer lives, and tells whether the upkeep is its own: of all writers one has it at a time."""

    def tidy(self) -> bool:
        """Does a part of the store's own upkeep, and tells whether there is more to do."""

    def other_writers(self) -> int:
        """Counts the other writers that live."""

    def load(self, keys: Collection[bytes]) -> Mapping[bytes, Record]:
        """Returns the records of these keys; absent ones are left out."""

    def load_prefix(self, prefix: bytes) -> Mapping[bytes, Record]:
        """Returns the records of all keys that begin with this; a prefix of no bytes is not asked for."""

    def commit(self, change: Change) -> bool:
        """Applies the change, durably before it returns, unless something it was computed from has changed meanwhile.

        Returns False, with nothing applied, when a record's version is not the one named, a claim is already taken by
        another value, or another writer has changed series that `catch_up` has not told of; the caller catches up,
        loads and computes again. A series' row is inserted, or its times moved forward; the `parameters` of the row are
        ignored (claims set them).
        """

    def series(self) -> list[StoredSeries]:
        """Returns all series with their parameters."""

    def cumulative(self, bucket: Bucket) -> Mapping[int, Sums]:
        """Returns the sums of one cumulative bucket by series."""

    def registers(self) -> Mapping[int, Mapping[str, Register]]:
        """Returns all registers by series and name."""

    def totals(self, since: int, until: int | None = None) -> Mapping[int, Sums]:
        """Returns the sums of all time buckets with since <= start < until, by series."""

    def history(self, series_id: int, since: int, until: int | None = None) -> Mapping[Bucket, Sums]:
        """Returns the sums of one series by time bucket, of all buckets with since <= start < until.

        Any thread may ask, while another commits or rolls up: the result holds each commit and each roll-up entirely or
        not at all. Nobody waits for it but `close`, after which it raises `StoreUnavailable`. Memory grows with the
        number of buckets; that of `steps` does not.
        """

    def steps(
        self, series_id: int, since: int, until: int, step: int, is_over: Callable[[], bool] = never
    ) -> StepSumsStream:
        """Yields the buckets of `history` added up by step, in the order of time.

        A bucket belongs to the multiple of `step` that it starts in. One step is in memory at a time, however long the
        history is. As for `history`, a step holds each commit and each roll-up entirely or not at all; of a shared
        store all steps are of one moment, before the first is yielded. `close` ends it with `StoreUnavailable`, and so
        does `is_over`, which is asked several times a second.
        """

    def roll_up(self, fine: int, coarse: int, before: int, splits: Splits | None = None) -> bool:
        """Adds the oldest bucket of the fine width that starts before `before` to its bucket of the coarse width.

        That of a series that has splits begins at the latest one that is not after the fine bucket, if that is within.
        One bucket a call, in one transaction, so that a long roll-up holds nobody up. Returns whether there was one.
        """

    def forget_before(self, coarsest: int, before: int) -> bool:
        """Deletes the oldest bucket of the coarsest width that starts before `before`; returns if there was one."""

    def expired(self, before: float, limit: int, expiry_queue: int = 0) -> Mapping[bytes, Record]:
        """Returns the expired records at the head of an expiry queue, at most `limit`.

        A queue is in the order in which expiries were set, which with one retention is the order of expiry. The result
        ends before the first record that has not expired by `before`. Expired records are returned again until they are
        deleted or their expiry is changed.
        """

    def scan(self, position: bytes, limit: int) -> tuple[Mapping[bytes, Write], bytes]:
        """Reads records, at most `limit`, each expiry queue in its order, from a position on; b"" is the beginning.

        Returns them with their versions, and the position after them, b"" at the end. What is written meanwhile may be
        among them or not.
        """

    def forget_series(self, series_id: int, used_since: float = math.inf) -> bool:
        """Deletes a series with its parameters, sums and registers, unless it was used since; returns whether it did.

        In a shared store `catch_up` is not complete afterwards, for any writer.
        """

    def state_bytes(self) -> int:
        """Returns the size of the state, in bytes on disk or as an estimate of the memory it takes."""

    def ready(self) -> None:
        """Returns when the store can be used, and raises `StoreUnavailable` when it cannot."""

    def close(self) -> None:
        """Closes the store; closing it twice is harmless."""
