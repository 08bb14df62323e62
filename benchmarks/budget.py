"""`python -m benchmarks.budget`: the budget of one event, in microseconds of CPU, for docs/performance.md.

The loop's share is measured on the real connection, router and ingest, over a transport in memory; the writer's on the
real batch and SQLite. The kernel's share of a socket, and what the two threads take from each other, is not in it.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from tornado.web import Application

from benchmarks.core import FEEDBACK, NORMALIZE, NOWHERE, READ, STEPS, Core, Traffic, post_of
from benchmarks.progress import progress
from metrics_server.api.routes import Route
from metrics_server.http.access import Access
from metrics_server.http.certificate import Clients
from metrics_server.http.connection import Connection, HttpServer
from metrics_server.http.exchange import Exchange, Receiver
from metrics_server.http.token import Tokens
from metrics_server.ingest.pipeline import Ingest
from metrics_server.ingest.router import Gate, Router
from metrics_server.metrics.labels import Outcome
from metrics_server.pairing.writer import Submission, Writer
from metrics_server.store.sqlite.store import SqliteStore
from metrics_server.telemetry import Telemetry

CONNECTIONS = 32
ROUNDS = 200
BODY_BYTES = 2**20
HTTP, INGEST, ANSWER = "read the request", "route it, read it, queue its observation", "answer"
DISK = "/var/tmp"


class _Transport(asyncio.Transport):
    """Takes what is written."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def write(self, data: Any) -> None: ...
    def is_closing(self) -> bool:
        return False


class _Queue:
    """Stands where the writer does: keeps what is submitted."""

    def __init__(self) -> None:
        self.submissions: list[Submission] = []

    def submit(self, submission: Submission) -> None:
        self.submissions.append(submission)


class Budget:
    """The best of several rounds for each step, in microseconds an event."""

    def __init__(self) -> None:
        self.steps: dict[str, float] = {}

    @contextmanager
    def timed(self, step: str, events: int) -> Iterator[None]:
        """Measures a step that was taken for so many events."""
        started = time.thread_time()
        yield
        taken = (time.thread_time() - started) / events * 1e6
        self.steps[step] = min(taken, self.steps.get(step, taken))


def main() -> None:
    """Prints the table."""
    budget = Budget()
    asyncio.run(_measure_loop(budget))
    with tempfile.TemporaryDirectory(prefix="metrics-server-budget-", dir=os.environ.get("TMPDIR", DISK)) as directory:
        by_size = {size: _measured_writer(Path(directory), size) for size in (32, 1000)}
    _print(budget.steps, by_size)


async def _measure_loop(budget: Budget) -> None:
    queue, loop = _Queue(), asyncio.get_running_loop()
    ingest = Ingest(cast("Writer", queue), Telemetry(), NOWHERE, max_body_bytes=BODY_BYTES, call_soon=loop.call_soon)
    access = Access(Tokens(), Tokens(), Tokens(), Clients())
    gate = Gate(ingest, max_body_bytes=BODY_BYTES, max_bodies_bytes=2**30, access=access)
    accepts = {route.pattern: route.accept for route in Route if route.accept is not None}
    router = Router(gate, cast("Application", None), accepts, [route.pattern for route in Route])
    whole, bare = _connections(router.route), _connections(_Ignored)
    progress("the event loop")
    for number in range(ROUNDS):
        posts = [_post(CONNECTIONS * number + place) for place in range(CONNECTIONS)]
        with budget.timed(HTTP, CONNECTIONS):
            _receive(bare, posts)
        with budget.timed(INGEST, CONNECTIONS):
            _receive(whole, posts)
        await asyncio.sleep(0)
        taken, queue.submissions = queue.submissions, []
        with budget.timed(ANSWER, CONNECTIONS):
            for submission in taken:
                submission.on_result([Outcome.ACCEPTED])
    budget.steps[INGEST] -= budget.steps[HTTP]


class _Ignored:
    """Takes a request and answers nothing of its own: the least that is done for one."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def data_received(self, chunk: bytes) -> None: ...
    def on_connection_close(self) -> None: ...
    def finish(self) -> None:
        self._exchange.respond(200, {}, b"")


def _connections(route: Callable[[Exchange], Receiver]) -> list[Connection]:
    server = HttpServer(route, lambda exchange, error: None, lambda: None, lambda: None, CONNECTIONS + 1)
    made = [Connection(server) for _ in range(CONNECTIONS)]
    for connection in made:
        connection.connection_made(_Transport())
    return made


def _receive(connections: Sequence[Connection], posts: Sequence[bytes]) -> None:
    for connection, post in zip(connections, posts, strict=True):
        connection.data_received(post)


def _post(number: int) -> bytes:
    headers, body = post_of(FEEDBACK, number, Traffic())
    named = {f"Ce-{name.capitalize()}": value for name, value in headers.items()} | {
        "Host": "127.0.0.1:8080",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "User-Agent": "Go-http-client/1.1",
        "Accept-Encoding": "gzip",
        "Traceparent": headers["traceparent"],
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"POST / HTTP/1.1\r\n{lines}\r\n".encode() + body


def _measured_writer(directory: Path, size: int) -> dict[str, float]:
    core, best = Core(SqliteStore(str(directory / f"{size}.db"))), dict[str, float]()
    try:
        progress(f"batches of {size}")
        for _ in range(20):
            core.reset()
            while core.events < 4000:
                core.send(Traffic(together=size))
            each = {step: seconds / core.events * 1e6 for step, seconds in core.seconds.items()}
            best = {step: min(best.get(step, each[step]), each[step]) for step in each}
    finally:
        core.close()
    return best


def _print(loop: dict[str, float], by_size: dict[int, dict[str, float]]) -> None:
    progress("")
    single, batched = by_size[32], by_size[1000]
    writer = [step for step in STEPS if step not in (READ, NORMALIZE)]
    print("| step | single events, 32 at once | in batches of 1,000 |\n| --- | ---: | ---: |")
    for step, value in loop.items():
        print(f"| {step} | {value:.1f} | |")
        if step == INGEST:
            for part in (READ, NORMALIZE):
                print(f"| of which: {part} | {single[part]:.1f} | {batched[part]:.1f} |")
    print(f"| **event loop** | {sum(loop.values()):.1f} | |")
    for step in writer:
        print(f"| {step} | {single[step]:.1f} | {batched[step]:.1f} |")
    print(f"| **writer** | {sum(map(single.get, writer)):.1f} | {sum(map(batched.get, writer)):.1f} |")  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
