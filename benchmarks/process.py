"""Servers under test: each is a process of its own with a log file, and ends with the block that started it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.errors import BenchmarkError

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 30.0
STOP_SECONDS = 30.0
_POLL_SECONDS = 0.005


@dataclass(frozen=True)
class Program:
    """How a server is started, and the path that tells when it has."""

    command: Sequence[str]
    ready_path: str
    environment: Mapping[str, str] = field(default_factory=dict)
    start_seconds: float = START_SECONDS


@dataclass(frozen=True)
class Process:
    """A server that has started."""

    pid: int
    port: int
    ready_seconds: float  # from its start to its first 200

    @property
    def resident_mib(self) -> float:
        """Resident memory (VmRSS) in MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]

    def kill(self) -> None:
        """Ends the server and its children at once, as SIGKILL does."""
        os.killpg(self.pid, signal.SIGKILL)

    def get(self, path: str) -> str:
        """Returns the body of a GET."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as response:
            return str(response.read().decode())


def cpu_seconds(pids: Iterable[int]) -> float:
    """Adds up the CPU time of all threads of processes that live, and of those children of theirs that have ended.

    Of the living `schedstat` has nanoseconds; of the others `stat` has hundredths of a second.
    """
    return sum(_own_seconds(pid) + _childrens_seconds(pid) for pid in pids)


def _own_seconds(pid: int) -> float:
    nanoseconds = 0
    with suppress(FileNotFoundError, ProcessLookupError):  # one that has just ended
        for thread in Path(f"/proc/{pid}/task").iterdir():
            nanoseconds += int((thread / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9


def _childrens_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # from the third on, see proc(5)
    user, system = fields[13:15]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextmanager
def metrics_server(directory: Path, store: str, options: Sequence[str] = ()) -> Iterator[Process]:
    """Starts the metrics server, with defaults except for the store and the options."""
    port = free_port()
    with running(metrics_server_program(port, store, options), port, directory) as process:
        yield process


def metrics_server_program(port: int, store: str, options: Sequence[str] = ()) -> Program:
    """Returns how the metrics server is started."""
    command = (sys.executable, "-m", "metrics_server", "--store", store, *options, "--http_port", str(port))
    return Program(command, "/readyz")


@contextmanager
def baseline(directory: Path) -> Iterator[Process]:
    """Starts the do-nothing Tornado server."""
    port = free_port()
    with running(baseline_program(port, directory), port, directory) as process:
        yield process


def baseline_program(port: int, _: Path) -> Program:
    """Returns how the do-nothing Tornado server is started, which needs no directory."""
    return Program((sys.executable, str(ROOT / "benchmarks" / "baseline.py"), str(port)), "/")


@contextmanager
def running(program: Program, port: int, directory: Path) -> Iterator[Process]:
    """Starts a program, waits until it answers, and ends it and its children with the block."""
    log = directory / f"server-{port}-{time.monotonic_ns()}.log"
    environment = {k: v for k, v in os.environ.items() if k != "PORT" and not k.startswith("METRICS_SERVER_")}
    with log.open("wb") as stream:
        started = time.perf_counter()
        child = subprocess.Popen(
            program.command,
            cwd=ROOT,
            env=environment | program.environment,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
        try:
            _wait_until_ready(child, f"http://127.0.0.1:{port}{program.ready_path}", log, program.start_seconds)
            yield Process(child.pid, port, time.perf_counter() - started)
        finally:
            _stop(child)
    log.unlink()  # a line an event: with a few runs it would fill the disk


def _wait_until_ready(child: subprocess.Popen[bytes], url: str, log: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise BenchmarkError(f"the server ended at its start: {log.read_text()[-2000:]}")
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except (urllib.error.URLError, OSError):
            time.sleep(_POLL_SECONDS)
        else:
            return
    raise BenchmarkError(f"the server was not ready after {seconds:g} s: {log.read_text()[-2000:]}")


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with suppress(ProcessLookupError):  # its children, and it itself where it did not heed the signal
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def free_port() -> int:
    """Returns a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
