"""Foreign programs as processes: servers that are awaited, and senders that are told line by line what to do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support.waiting import until

SENDERS = Path(__file__).parent / "senders"
WORDS = Iterable[str | Path]


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """Ours, without what would tell the program of our own packages or of a deployment."""
    own = ("PYTHON", "PREDICTI", "SELDON_", "METRICS_SERVER_", "COV_")
    return {name: value for name, value in os.environ.items() if not name.startswith(own)} | {
        "PYTHONPATH": str(SENDERS),
        "PYTHONDONTWRITEBYTECODE": "1",
        **more,
    }


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


class Program:
    """A server in a process group of its own, for it may fork."""

    def __init__(self, log: Path, words: WORDS, **environment: str) -> None:
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                list(words),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=log.parent,
                env=_environment(environment),
                start_new_session=True,
            )

    def await_answer(self, url: str) -> None:
        """Waits until there is any answer at this URL."""

        def answers() -> bool:
            assert self._process.poll() is None, self._log.read_text()[-2000:]
            return _answers(url)

        until(answers, 90, f"no answer at {url}; see {self._log}")

    def stop(self) -> None:
        """Asks it to end, for it may have started what is in no group of its own, and ends the group after that."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(20)


class Sender:
    """A program that reads jobs as lines of JSON, and answers each with one line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, **job: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the sender ended; what it said stands above"
        answer: dict[str, Any] = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer


@contextmanager
def sender(python: Path, script: str) -> Iterator[Sender]:
    """A running sender, ended afterwards."""
    process = subprocess.Popen(
        [python, SENDERS / script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=_environment({}),
    )
    try:
        yield Sender(process)
    finally:
        process.communicate(timeout=20)
