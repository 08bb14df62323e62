"""Keeps the records of a consumer on their way through the server: they are offered until they are answered, which
tells the offsets to commit.

Knows no driver. A consumer's thread and the event loop share it; who changes what stands beside each part.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import deque
from collections.abc import Sequence

from metrics_server.errors import Rejected
from metrics_server.http.response import Response
from metrics_server.ingest.cloudevent import Event
from metrics_server.ingest.pipeline import Ingest

RETRY_SECONDS = (0.25, 0.5, 1.0, 2.0, 4.0)
TURN_SECONDS = 0.005  # of offering, before the event loop does something else


class Partition:
    """Tracks the records of an assigned partition that are not answered yet. Changed in the consumer's thread, but for
    `waiting`.
    """

    def __init__(self, topic: str, number: int) -> None:
        self.topic = topic
        self.number = number
        self.open: set[int] = set()  # offsets that were read and are not answered
        self.next: int | None = None  # the offset after the last one read
        self.committed: int | None = None
        self.in_flight = 0  # handed to the event loop
        self.waiting = 0  # of these, to be offered again after a while; changed in the event loop
        self.revoked = False  # taken away: nothing of it is offered any more
        self.paused = False

    def read(self, offset: int) -> None:
        """Notes a record. Offsets may start again from the beginning, when a topic does."""
        self.open.add(offset)
        self.next = offset + 1

    @property
    def durable(self) -> int | None:
        """The offset to go on from: every record before it was answered. None while nothing was read."""
        return min(self.open) if self.open else self.next

    @property
    def is_settled(self) -> bool:
        """Is true while nothing of it is being applied."""
        return self.in_flight == self.waiting


class InFlightRecord:
    """One record, and how often it was offered."""

    __slots__ = ("answered", "attempts", "event", "offset", "partition", "size")

    def __init__(self, partition: Partition, offset: int, event: Event | Rejected) -> None:
        self.partition = partition
        self.offset = offset
        self.event = event
        self.size = memoryview(event.data).nbytes if isinstance(event, Event) else 0
        self.attempts = 0
        self.answered = False


class InFlight:
    """The records between a consumer's thread and the event loop. Made in the loop."""

    def __init__(self, ingest: Ingest, max_records: int, max_bytes: int) -> None:
        self._ingest = ingest
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._loop = asyncio.get_running_loop()
        self._records = self._bytes = 0  # in flight; changed in the consumer's thread
        self._returned: deque[InFlightRecord] = deque()  # answered, or given up
        self._news = threading.Event()  # something was returned
        self._handed: deque[InFlightRecord] = deque()  # not offered yet; changed in the event loop

    # In the consumer's thread

    @property
    def has_room(self) -> bool:
        """Is true while more may be handed over."""
        return self._records < self._max_records and self._bytes < self._max_bytes

    def add(self, record: InFlightRecord) -> None:
        """Counts a record that is about to be handed over."""
        self._records += 1
        self._bytes += record.size
        record.partition.in_flight += 1

    def hand_over(self, records: Sequence[InFlightRecord]) -> None:
        """Gives records to the event loop."""
        self._loop.call_soon_threadsafe(self._take, records)

    def collect(self) -> None:
        """Takes note of what the event loop has returned."""
        self._news.clear()
        while self._returned:
            record = self._returned.popleft()
            self._records -= 1
            self._bytes -= record.size
            record.partition.in_flight -= 1
            if record.answered:
                record.partition.open.discard(record.offset)

    def wait(self, seconds: float) -> bool:
        """Waits until something is returned; returns false after so many seconds without."""
        return self._news.wait(seconds)

    # In the event loop

    def _take(self, records: Sequence[InFlightRecord]) -> None:
        idle = not self._handed
        self._handed.extend(records)
        if idle:
            self._take_turn()

    def _take_turn(self) -> None:
        """Offers for a while; the rest after whatever else is due. At least one record a turn."""
        end = self._loop.time() + TURN_SECONDS
        try:
            while self._handed:
                self._offer(self._handed.popleft())
                if self._loop.time() >= end:
                    break
        finally:
            if self._handed:
                self._loop.call_soon(self._take_turn)

    def _offer(self, record: InFlightRecord) -> None:
        if record.partition.revoked:
            self._return(record)
        else:
            self._ingest.accept_event(record.event, lambda response: self._on_answer(record, response))

    def _on_answer(self, record: InFlightRecord, response: Response) -> None:
        record.answered = response.status != 503
        if record.answered or record.partition.revoked:
            self._return(record)
            return
        # Spread, so that a record that makes its group fail does not meet the same group again.
        seconds = RETRY_SECONDS[min(record.attempts, len(RETRY_SECONDS) - 1)] * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
        record.attempts += 1
        record.partition.waiting += 1
        self._loop.call_later(seconds, self._offer_again, record)

    def _offer_again(self, record: InFlightRecord) -> None:
        # First this, then whether the partition is revoked: the other thread notes that it is, then looks whether
        # anything is applied.
        record.partition.waiting -= 1
        self._offer(record)

    def _return(self, record: InFlightRecord) -> None:
        self._returned.append(record)
        if not self._news.is_set():
            self._news.set()
