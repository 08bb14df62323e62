"""Processes that a notebook starts: what they print goes to a file, they are waited for, and they end with the
kernel."""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

STOP_SECONDS = 30.0

_started: list[subprocess.Popen[bytes]] = []


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(*command: str, log: Path, **environment: str) -> subprocess.Popen[bytes]:
    """Starts a command; it ends with the kernel, also after a cell that failed."""
    with log.open("wb") as output:
        # Apart from the kernel: to interrupt a cell does not interrupt it.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    _started.append(process)
    return process


@atexit.register
def stop() -> list[int]:
    """Ends all of them, the last one first; returns their statuses."""
    statuses = []
    while _started:
        process = _started.pop()
        process.terminate()
        try:
            statuses.append(process.wait(STOP_SECONDS))
        except subprocess.TimeoutExpired:
            process.kill()
            statuses.append(process.wait())
    return statuses


def wait_for(look: Callable[[], T], seconds: float = 30.0) -> T:
    """Returns what it sees as soon as that is true; raises TimeoutError if it never is. No answer is not yet one."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if seen := look():
                return seen
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise TimeoutError(f"not seen within {seconds:g} s")
        time.sleep(0.1)
