"""Where questions wait for their answers: beside the event loop, in lanes, for as long as somebody is there to hear."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from metrics_server.answer import unavailable_answer
from metrics_server.api import Patience
from metrics_server.errors import Unavailable
from metrics_server.handlers import Rendered, Rendering

STOPPING = "the server is stopping"


class Lane:
    """Answers questions beside the event loop, so many at a time; only some more may wait."""

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self.executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._room = threads + waiting
        self._open: set[Patience] = set()
        self._is_stopped = False

    @property
    def is_busy(self) -> bool:
        return bool(self._open)

    @contextmanager
    def place(self) -> Iterator[Patience]:
        """A place in it until the answer is given; raises `Unavailable` if there is none."""
        if self._is_stopped or len(self._open) >= self._room:
            raise Unavailable(STOPPING if self._is_stopped else "too much is asked at once")
        patience = Patience()
        self._open.add(patience)
        try:
            yield patience
        finally:
            self._open.discard(patience)

    def stop(self) -> None:
        """Takes no more questions, and answers none of those that it has."""
        self._is_stopped = True
        for patience in self._open:
            patience.end(STOPPING)

    def close(self) -> None:
        self.executor.shutdown(wait=False, cancel_futures=True)


class Desk:
    """Where questions wait: those about the past, which may take seconds, by themselves; pages and pictures too, and none with the scrapes."""

    def __init__(self) -> None:
        self.readings = Lane("api", threads=2, waiting=100)
        self.past = Lane("past", threads=1, waiting=20)
        self.pages = Lane("pages", threads=1, waiting=50)
        self.pictures = Lane("pictures", threads=1, waiting=300)

    async def stop(self, seconds: float) -> None:
        """Answers what takes milliseconds, and tells who asked about the past to ask elsewhere; after so many seconds it ends anyhow."""
        lanes = self.past, self.pages, self.pictures, self.readings
        for slow in lanes[:-1]:
            slow.stop()
        deadline = time.monotonic() + seconds
        while any(lane.is_busy for lane in lanes) and time.monotonic() < deadline:  # noqa: ASYNC110 - counters, looked at once
            await asyncio.sleep(0.01)
        self.readings.stop()
        for lane in lanes:
            lane.close()


class Asking(Rendering):
    """A route whose answer waits for its turn in a lane."""

    def initialize(self, desk: Desk) -> None:
        self._desk = desk
        self._patience: Patience | None = None

    async def ask(self, lane: Lane, make: Callable[[Patience], Rendered]) -> None:
        """Answers with what is made when there is time for it."""
        self.EXECUTOR = lane.executor
        try:
            with lane.place() as self._patience:
                await self.respond(partial(_in_turn, make, self._patience))
        except Unavailable as error:  # no place
            self.answer(unavailable_answer(str(error)))

    def on_connection_close(self) -> None:
        if self._patience is not None:
            self._patience.end("the client has gone")
        super().on_connection_close()


def _in_turn(make: Callable[[Patience], Rendered], patience: Patience) -> Rendered:
    patience.begin()
    return make(patience)
