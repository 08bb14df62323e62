"""Several server processes on one port: the kernel gives each connection to one of them (SO_REUSEPORT)."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NamedTuple

logger = logging.getLogger(__name__)

# How the parent tells a worker what it is; no settings, for they are of no use to anybody else.
_NUMBER, _DIRECTORY, _PARENT = "METRICS_SERVER_WORKER", "METRICS_SERVER_WORKERS_DIRECTORY", "METRICS_SERVER_PARENT_PIPE"

LOOK_SECONDS = 0.1
RESTART_SECONDS = 1.0  # between the end of a worker and the start of the next in its place
START_SECONDS = 10.0  # a worker that ends sooner by itself could not start, and none will


class WorkerPlace(NamedTuple):
    """The place of a process among the workers of one port.

    Attributes:
        number: from 0; the worker that is started in the place of another has its number.
        directory: that all workers of the port have in common, as long as they run.
        parent_pipe: a file descriptor that ends with the parent.
    """

    number: int
    directory: Path
    parent_pipe: int


def worker_place(environment: Mapping[str, str]) -> WorkerPlace | None:
    """Returns the place that this process was started for; None if it is no worker."""
    if _NUMBER not in environment:
        return None
    return WorkerPlace(int(environment[_NUMBER]), Path(environment[_DIRECTORY]), int(environment[_PARENT]))


class Workers:
    """The parent: starts workers, replaces those that fail, and ends with them."""

    def __init__(self, arguments: Sequence[str], count: int, *, reloads: bool = False) -> None:
        """`arguments` are those of the command; `reloads` tells whether workers take SIGHUP."""
        self._command = [sys.executable, "-m", "metrics_server", *arguments]
        self._count = count
        self._reloads = reloads
        self._stopping = False
        self._running: dict[int, tuple[subprocess.Popen[bytes], float]] = {}  # by number, with the time of the start
        self._status = 0

    def run(self) -> int:
        """Runs workers until SIGTERM or Ctrl-C, or until one cannot start; returns the exit status of all."""
        for stopping in (signal.SIGTERM, signal.SIGINT):
            signal.signal(stopping, self._stop)
        if self._reloads:
            signal.signal(signal.SIGHUP, self._pass_on)
        reading, writing = os.pipe()
        with tempfile.TemporaryDirectory(prefix="metrics-server-") as directory:
            due = dict.fromkeys(range(self._count), 0.0)  # when a worker is to be started, by its number
            while self._running or not self._stopping:
                for number in [number for number, at in due.items() if not self._stopping and at <= time.monotonic()]:
                    del due[number]
                    self._running[number] = self._started(number, directory, reading), time.monotonic()
                for number in self._ended():
                    due[number] = time.monotonic() + RESTART_SECONDS
                time.sleep(LOOK_SECONDS)
        os.close(reading)
        os.close(writing)
        return self._status

    def _started(self, number: int, directory: str, pipe: int) -> subprocess.Popen[bytes]:
        place = {_NUMBER: str(number), _DIRECTORY: directory, _PARENT: str(pipe)}
        return subprocess.Popen(self._command, env=os.environ | place, pass_fds=[pipe])  # noqa: S603 - our own command

    def _ended(self) -> list[int]:
        """Takes note of workers that have ended, and lists the numbers of those."""
        ended = [number for number, (process, _) in self._running.items() if process.poll() is not None]
        for number in ended:
            process, started_at = self._running.pop(number)
            status = process.returncode
            if self._stopping:
                self._status = self._status or (1 if status < 0 else status)
            elif status > 0 and time.monotonic() - started_at < START_SECONDS:
                self._status = status
                self._stop()
            else:
                logger.error("Worker %d ended with status %d; another takes its place", number, status)
        return ended

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        for process, _ in self._running.values():
            process.send_signal(number)

    def _stop(self, number: int = signal.SIGTERM, frame: FrameType | None = None) -> None:
        self._stopping = True
        for process, _ in self._running.values():
            process.send_signal(signal.SIGTERM)
