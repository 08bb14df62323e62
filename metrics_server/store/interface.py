"""The store's contract: what every implementation promises, tested once for all in tests/contract/test_store_contract.py.

A store keeps three things: records (opaque bytes under a key, with a version), series with their claimed parameters,
and sums. It understands none of them. All changes go through `commit`, which applies a change whole or not at all.

Times are UTC Unix seconds. Every method may raise `StoreUnavailable`; after that nothing has changed as far as the
caller may
assume, except that a failed `commit` may or may not have been applied: the caller reads again before it goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

from metrics_server.metrics.sums import Sums
from metrics_server.metrics.window import Bucket


class Record(NamedTuple):
    """Bytes under a key as read: `version` counts its writes, from 1."""

    version: int
    value: bytes


class Write(NamedTuple):
    """Bytes to put under a key.

    Attributes:
        version: what they were computed from; 0: there was none.
        expires_at: when they may be forgotten.
        lane: records of one lane are forgotten in the order in which their expiry was set. A key stays in its lane, of
            0 to 15.
        moved: whether `expires_at` differs from what it was; False saves finding that out.
    """

    version: int
    value: bytes
    expires_at: float
    expiry_queue: int = 0
    expiry_changed: bool = True


class StoredSeries(NamedTuple):
    """A series and the parameters claimed for it. `identity` is opaque to the store; times but the first only move
    forward.
    """

    id: int
    identity: bytes
    created_at: float
    seen_at: float
    parameters: Mapping[str, str]
    predicted_at: float = 0.0
    labelled_at: float = 0.0


class StepSums(NamedTuple):
    """Time buckets added up: since when, how wide the widest of them is, and their sums, never empty and without what
    is 0.
    """

    start: int
    width: int
    sums: Sums


StepSumsStream: TypeAlias = Generator[StepSums, None, None]


def never() -> bool:
    """For who waits as long as it takes."""
    return False


@dataclass
class Change:
    """What is applied at once: records, series, claims, sums to add, records to delete."""

    records: dict[bytes, Write] = field(default_factory=dict)
    series: dict[int, StoredSeries] = field(default_factory=dict)
    claims: dict[tuple[int, str], str] = field(default_factory=dict)
    sums: dict[tuple[int, Bucket], Sums] = field(default_factory=dict)
    deletes: dict[bytes, int] = field(default_factory=dict)


class Store(Protocol):
    """Durable state. One thread at a time may call it; `history` and `steps` alone may be called by any, meanwhile
    too.
    """

    def load(self, keys: Collection[bytes]) -> Mapping[bytes, Record]:
        """The records under these keys; absent ones are left out."""

    def commit(self, change: Change) -> bool:
        """Applies the change, durably before it returns, unless something it was computed from has moved meanwhile.

        Returns False, with nothing applied, when a record's version is not the one named, or a claim is already taken
        by another value; the caller loads and computes again. A series' row is inserted, or its times moved forward;
        the `parameters` of the row are not looked at (claims set those).
        """

    def series(self) -> list[StoredSeries]:
        """All series with their parameters."""

    def cumulative(self, cumulative: Bucket) -> Mapping[int, Sums]:
        """The sums of one ledger by series."""

    def totals(self, since: int, until: int | None = None) -> Mapping[int, Sums]:
        """The sums of all time buckets with since <= start < until, by series."""

    def history(self, series_id: int, since: int, until: int | None = None) -> Mapping[Bucket, Sums]:
        """The time buckets of one series with since <= start < until, by bucket.

        Any thread may ask, while another commits or rolls up: each of those is in the answer whole or not at all.
        Nobody waits for it but `close`, after which it raises `StoreUnavailable`. It takes as much memory as there is;
        `steps` does not.
        """

    def steps(
        self, series_id: int, since: int, until: int, step: int, is_over: Callable[[], bool] = never
    ) -> StepSumsStream:
        """What `history` has, added up by the multiple of `step` that a bucket starts in, in the order of time.

        One step is in memory at a time, however much there is. As for `history`, each commit and roll-up is in a step
        whole or not at
        all. `close` ends it, and so does `is_over`, which is asked several times a second: with `StoreUnavailable`.
        """

    def roll_up(self, fine: int, coarse: int, before: int) -> bool:
        """Adds the oldest bucket of the fine width that starts before `before` to its bucket of the coarse width.

        One bucket a call, in one transaction, so that a long roll-up holds nobody up. Says whether there was one.
        """

    def forget_before(self, coarsest: int, before: int) -> bool:
        """Deletes the oldest bucket of the coarsest width that starts before `before`; says whether there was one."""

    def expired(self, before: float, limit: int, expiry_queue: int = 0) -> Mapping[bytes, Record]:
        """The records of a lane whose expiry was set first, at most `limit`, up to the first that has not expired by
        `before`.

        With one retention that is the order of expiry. They come again until they are deleted or their expiry is moved.
        """

    def forget_series(self, series_id: int) -> None:
        """Deletes a series with its parameters and sums."""

    def state_bytes(self) -> int:
        """How large the state is, in bytes on disk or an estimate of the memory it takes."""

    def ready(self) -> None:
        """Returns if the store can be used now."""

    def close(self) -> None:
        """Ends it; calling twice is harmless."""
