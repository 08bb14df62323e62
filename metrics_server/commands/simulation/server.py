"""The server that `metrics-server simulate --serve` starts, and ends with itself."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from metrics_server.commands.simulation.cluster import Failed
from metrics_server.commands.simulation.delivery import Link
from metrics_server.commands.simulation.feedback_counts import NAMES

READY_SECONDS = 30.0
STOP_SECONDS = 25.0  # beyond the server's own --drain_seconds


@dataclass(frozen=True)
class Child:
    """A server process of ours; its log goes to a file, the console stays readable."""

    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raises Failed when the process has ended."""
        if self.process.poll() is not None:
            raise self.failure(f"the server stopped with status {self.process.returncode}")

    def failure(self, what: str) -> Failed:
        """Returns the error of a server that cannot go on, with the end of its log."""
        lines = self.log.read_text(errors="replace").splitlines()[-10:]
        return Failed("\n  ".join([f"{what}; the end of its log, {self.log}:", *lines]))

    async def ready(self, link: Link) -> None:
        """Returns when the server takes events; raises Failed when it does not in time."""
        deadline = time.monotonic() + READY_SECONDS
        while not await link.is_ready():
            self.check()
            if time.monotonic() > deadline:
                raise self.failure(f"the server was not ready after {READY_SECONDS:.0f} s")
            await asyncio.sleep(0.1)
        self.check()

    def stop(self) -> None:
        """Ends the process. It blocks, so that a second Ctrl-C does not leave the process behind."""
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def started(url: str, store: str) -> Iterator[Child]:
    """Starts a server at the port of the address, and stops it in the end.

    Raises:
        Failed: the port is taken.
    """
    port = str(urlsplit(url).port or 80)
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", int(port))) == 0:
            raise Failed(
                f"port {port} is taken: stop what listens there, or choose another with --url http://127.0.0.1:PORT"
            )
    descriptor, log = tempfile.mkstemp(prefix="metrics-server-", suffix=".log")
    command = [sys.executable, "-m", "metrics_server", "--host", "127.0.0.1", "--http_port", port, "--store", store]
    command += ["--custom_metrics", ",".join(NAMES)]
    with os.fdopen(descriptor, "wb") as output:
        # In a session of its own the terminal's Ctrl-C does not reach it before the last events have.
        process = subprocess.Popen(  # noqa: S603 - ourselves
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    child = Child(process, Path(log))
    try:
        yield child
    finally:
        child.stop()
        if process.returncode == 0:  # or somebody wants to read why
            child.log.unlink(missing_ok=True)
