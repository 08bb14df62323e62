"""The log goes to a pipe that somebody may not read: events, scrapes and the end of the server do not wait for it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.raw_http import Answer, Client, Served, request
from tests.support.running import free_port
from tests.support.waiting import until

PAIR = {"response": {"data": {"ndarray": ["cat"]}}, "truth": {"data": {"ndarray": ["cat"]}}}
LINE = "PROCESSING Feedback Event."
DROPPED = re.compile(r"(\d+) lines of this log were dropped")
PIPE_BYTES = 4096
BATCH = 5000  # lines of one POST: a third of a megabyte


class Piped(Served):
    """A server whose standard error is a small pipe."""

    def __init__(self, directory: Path, *options: str) -> None:
        port = free_port()
        self._reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        words = [sys.executable, "-m", "metrics_server", "--store", "memory://", "--http_port", str(port), *options]
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=writing, cwd=directory)
        os.close(writing)
        super().__init__(port, process)

    def ask(self, data: bytes, *, head: bool = False) -> Answer:
        with Client(self.port, timeout=20) as client:
            client.send(data)
            return client.answer(head=head)

    def await_ready(self) -> None:
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/readyz", timeout=5):
                return
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def lines(self) -> Iterator[str]:
        """All lines from now to the end of the process."""
        with os.fdopen(self._reading, encoding="utf-8") as pipe:
            yield from (line.rstrip("\n") for line in pipe)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):
            os.close(self._reading)

    def dropped(self) -> float:
        return sum(self.by_name("metrics_server_dropped_log_lines_total"))

    def by_name(self, name: str) -> list[float]:
        return [value for (found, _), value in self.page().samples.items() if found == name]


@pytest.fixture
def piped(tmp_path: Path) -> Iterator[Piped]:
    server = Piped(tmp_path)
    try:
        server.await_ready()
        yield server
    finally:
        server.close()


def _batch(lines: int) -> bytes:
    """A POST of so many feedbacks."""
    event = {"specversion": "1.0", "source": "test", "type": "io.seldon.serving.feedback", "data": PAIR}
    events = [{**event, "id": str(number)} for number in range(lines)]
    return request("/", json.dumps(events).encode(), "Content-Type: application/cloudevents-batch+json")


def test_a_log_that_nobody_reads_holds_nothing_up(piped: Piped) -> None:
    """With the pipe full for long, events, probes and scrapes are answered as ever."""
    started = time.monotonic()
    for _ in range(500):
        assert piped.ask(request("/", PAIR)).status == 200
    assert piped.ask(request("/healthz", method="GET")).status == 200
    assert piped.page().outcomes["accepted"] == 500
    assert time.monotonic() - started < 20


def test_an_unread_log_is_bounded_and_says_what_is_missing(piped: Piped) -> None:
    """Beyond a few megabytes lines are dropped and counted; when somebody reads again, one line says how many, and
    lines written and dropped are together what was logged."""
    posts = 16
    for _ in range(posts):
        assert piped.ask(_batch(BATCH)).status == 200
    dropped = piped.dropped()
    assert dropped > 0
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(piped.lines()))
    reader.start()
    deadline = time.monotonic() + 20
    while piped.ask(request("/", PAIR)).status == 200 and piped.dropped() > dropped and time.monotonic() < deadline:
        dropped = piped.dropped()
    until(lambda: any(DROPPED.search(line) for line in list(lines)), 20, "nothing was said of the lines dropped")
    piped.process.send_signal(signal.SIGTERM)
    assert piped.process.wait(30) == 0
    reader.join(30)
    told = [int(found[1]) for line in lines if (found := DROPPED.search(line))]
    assert len(told) >= 1
    assert told[0] >= dropped - 1
    written = sum(LINE in line for line in lines)
    assert written + sum(told) >= posts * BATCH
    assert lines[-1].endswith("metrics_server] Stopped")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_does_not_wait_for_a_log_that_nobody_reads(piped: Piped, number: signal.Signals) -> None:
    """A stop is clean and takes a second more at most, also when the log cannot be written."""
    for _ in range(3):
        assert piped.ask(_batch(1000)).status == 200
    started = time.monotonic()
    piped.process.send_signal(number)
    assert piped.process.wait(30) == 0
    assert time.monotonic() - started < 10


def test_a_log_whose_reader_has_gone_ends_nothing(piped: Piped) -> None:
    """A closed pipe costs the lines and nothing else."""
    os.close(piped._reading)
    for _ in range(3):
        assert piped.ask(_batch(1000)).status == 200
    piped.process.send_signal(signal.SIGTERM)
    assert piped.process.wait(30) == 0


def test_every_line_of_a_log_that_is_read_is_there_in_order(tmp_path: Path) -> None:
    """However much is logged at once, nothing is lost, cut or out of order, to the last line before the end."""
    server = Piped(tmp_path)
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(server.lines()))
    reader.start()
    try:
        server.await_ready()
        for _ in range(5):
            assert server.ask(_batch(BATCH)).status == 200
        assert server.dropped() == 0
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
    finally:
        server.process.kill()
        reader.join(30)
    form = re.compile(r"\[[IW] \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [\w.]+\] \S.*")
    assert all(form.fullmatch(line) for line in lines)
    assert sum(line.endswith(f"] {LINE}") for line in lines) == 5 * BATCH
    order = [line.partition("] ")[2] for line in lines if LINE not in line]
    assert order[0].startswith("Registering model:")
    assert order[1].startswith("Listening on port")
    assert order[2:] == ["Stopping", "Stopped"]
