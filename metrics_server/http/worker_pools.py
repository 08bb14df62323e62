"""Where questions wait for their answers: beside the event loop, in lanes, for as long as somebody is there to hear."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from metrics_server.errors import BadRequest, Unavailable
from metrics_server.http.handler import Encoded, Rendered, RenderedHandler
from metrics_server.http.response import unavailable_response

STOPPING = "the server is stopping"
TOO_MUCH = "too much is asked at once"
TELL_SECONDS = 0.02  # for those whose turn never came to be told


class NoTurn(Unavailable):
    """A question is not answered.

    Attributes:
        reason: crowded when too many wait, late when its turn came too late or nobody waits, stopping.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class WorkerPool:
    """Answers questions beside the event loop, so many at a time; only some more may wait."""

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self.executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._room = threads + waiting
        self._open: set[Deadline] = set()
        self._is_stopped = False

    @property
    def is_busy(self) -> bool:
        return bool(self._open)

    @contextmanager
    def slot(self) -> Iterator[Deadline]:
        """A place in it until the answer is given; raises `NoTurn` if there is none."""
        if self._is_stopped:
            raise NoTurn("stopping", STOPPING)
        if len(self._open) >= self._room:
            raise NoTurn("crowded", TOO_MUCH)
        deadline = Deadline()
        self._open.add(deadline)
        try:
            yield deadline
        finally:
            self._open.discard(deadline)

    def stop(self) -> None:
        """Takes no more questions, and answers none of those that it has."""
        self._is_stopped = True
        for deadline in self._open:
            deadline.end("stopping", STOPPING)

    def close(self) -> None:
        self.executor.shutdown(wait=False, cancel_futures=True)


class WorkerPools:
    """Where questions wait: those about the past, which may take seconds, by themselves; pages and pictures too, and
    none with the scrapes, which wait for nothing else.
    """

    def __init__(self) -> None:
        self.readings = WorkerPool("api", threads=2, waiting=100)
        self.past = WorkerPool("past", threads=1, waiting=20)
        self.pages = WorkerPool("pages", threads=1, waiting=50)
        self.pictures = WorkerPool("pictures", threads=1, waiting=300)
        self.scrapes = WorkerPool("scrapes", threads=1, waiting=100)

    async def stop(self, seconds: float) -> None:
        """Answers what takes milliseconds, and tells who asked about the past to ask elsewhere; after so many seconds
        it ends anyhow.
        """
        quick = self.readings, self.scrapes
        pools = self.past, self.pages, self.pictures, *quick
        for slow in pools[: -len(quick)]:
            slow.stop()
        deadline = time.monotonic() + seconds
        while any(pool.is_busy for pool in pools) and time.monotonic() < deadline:  # noqa: ASYNC110 - counters, looked at once
            await asyncio.sleep(0.01)
        for pool in quick:
            pool.stop()
        for pool in pools:
            pool.close()
        await asyncio.sleep(TELL_SECONDS)


class SharedPages:
    """Makes pages in a pool, each once for all who have asked for it by the time that it is begun.

    Who asks while one is being made gets the next, so nobody is shown less than was acknowledged before.
    """

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._waiting: dict[Hashable, asyncio.Task[Encoded]] = {}

    def page(self, key: Hashable, make: Callable[[], Encoded]) -> Awaitable[Encoded]:
        """The page of this key; raises `NoTurn` when too many wait, or for too long."""
        task = self._waiting.get(key)
        if task is None:
            task = self._waiting[key] = asyncio.create_task(self._made(key, make))
        return asyncio.shield(task)

    async def _made(self, key: Hashable, make: Callable[[], Encoded]) -> Encoded:
        try:
            with self._pool.slot() as deadline:
                return await asyncio.get_running_loop().run_in_executor(
                    self._pool.executor, self._begun, key, make, deadline
                )
        except asyncio.CancelledError:  # the pool was closed
            raise NoTurn("stopping", STOPPING) from None
        finally:
            if self._waiting.get(key) is asyncio.current_task():
                del self._waiting[key]

    def _begun(self, key: Hashable, make: Callable[[], Encoded], deadline: Deadline) -> Encoded:
        """Called in the pool: from here on who asks for the same has to wait for the next."""
        self._waiting.pop(key, None)
        deadline.begin()
        return make()


class PooledHandler(RenderedHandler):
    """A route whose answer waits for its turn in a lane."""

    def initialize(self, pools: WorkerPools) -> None:
        self._pools = pools
        self._deadline: Deadline | None = None

    async def ask(self, pool: WorkerPool, make: Callable[[Deadline], Rendered]) -> None:
        """Answers with what is made when there is time for it."""
        self.EXECUTOR = pool.executor
        try:
            with pool.slot() as self._deadline:
                await self.respond(partial(_in_turn, make, self._deadline))
        except Unavailable as error:  # no place
            self.answer(unavailable_response(str(error)))

    def on_connection_close(self) -> None:
        if self._deadline is not None:
            self._deadline.end("late", "the client has gone")
        super().on_connection_close()


def _in_turn(make: Callable[[Deadline], Rendered], deadline: Deadline) -> Rendered:
    deadline.begin()
    return make(deadline)


WAIT_SECONDS = 10.0  # for a turn; who waited longer has mostly left, and whoever comes now would wait behind it


READ_SECONDS = 10.0  # for one history


class Deadline:
    """Whether somebody waits for an answer, and for how long. Made when the question comes; any thread may end it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._came = clock()
        self._latest = math.inf
        self._end: NoTurn | None = None

    def end(self, reason: str, why: str) -> None:
        """Nobody waits any more."""
        self._end = NoTurn(reason, why)

    def begin(self) -> None:
        """The question's turn has come; raises `Unavailable` if that took too long, or nobody waits."""
        if self._clock() > self._came + WAIT_SECONDS:
            self.end("late", TOO_MUCH)
        self.check()

    def limit(self, seconds: float) -> None:
        """It may take so long in all, from the first time that this is said."""
        self._latest = min(self._latest, self._clock() + seconds)

    def is_over(self) -> bool:
        return self._end is not None or self._clock() > self._latest

    def check(self) -> None:
        """Raises what ended it."""
        if self._end is not None:
            raise self._end
        if self.is_over():
            raise BadRequest(
                f"from: to read so much takes longer than {READ_SECONDS:g} s; want less time between `from` and `to`"
            )
