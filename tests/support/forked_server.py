"""Server processes forked from one that has imported what each of them imports.

Imports are four fifths of the processor time of a start, and the tests start some four hundred servers. What is forked
is a process like any other: signals, files, memory and status of its own.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_forking = multiprocessing.get_context("forkserver")
_forking.set_forkserver_preload([__name__, "metrics_server.__main__"])


class ForkedServer:
    """`python -m metrics_server` with these words, and as much of subprocess.Popen as tests ask of it."""

    def __init__(self, words: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        # What tests forget to end ends with them: a daemon in the words of multiprocessing.
        self._process = _forking.Process(target=_serve, args=(words, log, dict(environment)), daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if (status := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired("metrics_server", timeout or 0.0)
        return status

    def send_signal(self, number: signal.Signals) -> None:
        if self._process.exitcode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _serve(words: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
    """What the interpreter does for `python -m metrics_server`, but for the imports."""
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(log.parent)
    folders = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [str(log.parent), *filter(None, folders)]
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.close(output)

    from metrics_server.__main__ import main

    try:
        sys.exit(main(words))
    finally:
        logging.shutdown()  # what an interpreter does at its end, which multiprocessing leaves out
