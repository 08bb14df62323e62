"""Servers on one PostgreSQL under a steady load: the CPU time that all of them take for an event.

The load is the same for any number of servers, and far from what they can take; so what grows is what each server does
whoever was sent an event: it reads what others have committed, once a second.
"""

from __future__ import annotations

import http.client
import json
import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import product
from pathlib import Path

from benchmarks.core import FEEDBACK, Traffic, post_of
from benchmarks.database import cpu_of, database
from benchmarks.errors import BenchmarkError
from benchmarks.picture import Drawing
from benchmarks.process import cpu_seconds, metrics_server
from benchmarks.progress import progress

COUNTS = (1, 2, 4)
POSTS_PER_SECOND = {1: 200, 32: 20}  # by the events of a POST
SENDERS = 8
WARM_UP_SECONDS, SECONDS = 2.0, 8.0
ROUNDS = 3
DISK = "/var/tmp"
BATCH = {"Content-Type": "application/cloudevents-batch+json"}


def drawing() -> Drawing:
    """Measures each number of servers; of some rounds the best."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for together, count in product(POSTS_PER_SECOND, COUNTS):
        progress(f"Replicas: {count}, {together} at once")
        rounds = [_measured(count, together) for _ in range(ROUNDS)]
        for who, taken in zip(("servers", "database"), map(min, zip(*rounds, strict=True)), strict=True):
            lines.setdefault(f"{who}, by {together}", []).append((count, taken))
    return Drawing("Replicas", "servers on one PostgreSQL", "µs an event", lines)


def _measured(count: int, together: int) -> tuple[float, float]:
    """Returns the microseconds of an event in all servers, and in the database."""
    store = database("postgres").fresh()
    with ExitStack() as running:
        where = tempfile.TemporaryDirectory(prefix="metrics-server-replicas-", dir=os.environ.get("TMPDIR", DISK))
        directory = Path(running.enter_context(where))
        servers = [running.enter_context(metrics_server(directory, store)) for _ in range(count)]
        ports, pids = [server.port for server in servers], [server.pid for server in servers]
        warm = _sent(ports, together, WARM_UP_SECONDS, 0)
        before = cpu_seconds(pids), cpu_of(database("postgres"))
        events = _sent(ports, together, SECONDS, warm)
        after = cpu_seconds(pids), cpu_of(database("postgres"))
    return (after[0] - before[0]) / events * 1e6, (after[1] - before[1]) / events * 1e6


def _sent(ports: Sequence[int], together: int, seconds: float, first: int) -> int:
    """Sends events with ids from a number on, steadily and to all servers in turn; returns how many."""
    rate, start = POSTS_PER_SECOND[together], time.monotonic()
    posts = round(seconds * rate)

    def send(sender: int) -> None:
        numbers = range(sender, posts, SENDERS)
        due = ((start + number / rate, _batch(first + number * together, together)) for number in numbers)
        _send(ports[sender % len(ports)], due)

    with ThreadPoolExecutor(SENDERS) as senders:
        list(senders.map(send, range(SENDERS)))
    return posts * together


def _send(port: int, due: Iterable[tuple[float, bytes]]) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        for at, body in due:
            time.sleep(max(0.0, at - time.monotonic()))
            connection.request("POST", "/", body, BATCH)
            reply = connection.getresponse()
            if reply.read() or reply.status != 200:
                raise BenchmarkError(f"a batch was answered {reply.status}")


def _batch(first: int, count: int) -> bytes:
    posts = (post_of(FEEDBACK, number, Traffic()) for number in range(first, first + count))
    return json.dumps([{**attributes, "data": json.loads(body)} for attributes, body in posts]).encode()
