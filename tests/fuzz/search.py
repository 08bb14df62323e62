"""One search for input that breaks a target, in a process of its own:

    python -m tests.fuzz.search ENGINE TARGET SECONDS FOLDER

Both engines write to standard error as libFuzzer does: `#<executions>` now and then, and in the end how many there
were. A failing input is kept as a file, which every later run tries first.
"""

from __future__ import annotations

import hashlib
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase

from tests.fuzz.folder import Folder

CPU_SECONDS = 10  # for one input, of up to MOST_BYTES; a reader that needs more holds its server up
MOST_BYTES = 64 * 2**10
ADDRESS_SPACE = 4 * 2**30  # a reader that wants more gets a MemoryError
EXECUTIONS = "stat::number_of_executed_units:"


class TooSlow(Exception):
    """An input has taken more than its time."""


def bounded(take: Callable[[bytes], object], data: bytes) -> None:
    """Takes an input within its processor time.

    Raises:
        Exception: any at all, which is a finding.
    """
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
    try:
        take(data)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def bound() -> None:
    """Bounds this process from here on."""

    def stop(number: int, frame: object) -> None:
        raise TooSlow(f"more than {CPU_SECONDS} s")

    signal.signal(signal.SIGVTALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))


def retry(take: Callable[[bytes], object], folder: Folder) -> None:
    """Takes what has failed before."""
    for path in folder.failing():
        print(f"tries {path} again", file=sys.stderr)
        bounded(take, path.read_bytes())


def by_hypothesis(name: str, seconds: float, folder: Folder) -> None:
    """Searches until the time is up, or an input fails: the smallest that fails alike is kept."""
    from tests.fuzz.targets import TARGETS
    from tests.support.strategies import edited, edits

    target = TARGETS[name]
    retry(target.take, folder)
    executions, failing = 0, b""

    @settings(
        max_examples=200,
        deadline=None,
        database=DirectoryBasedExampleDatabase(folder.examples),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.builds(edited, st.sampled_from(target.seeds()), edits) | target.written)
    def takes(data: bytes) -> None:
        nonlocal executions, failing
        executions += 1
        try:
            bounded(target.take, data)
        except Exception:
            failing = data
            raise

    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            takes()
            print(f"#{executions}", file=sys.stderr)
    except BaseException:
        folder.keep(failing)
        raise
    finally:
        print(EXECUTIONS, executions, file=sys.stderr)


def by_atheris(name: str, seconds: float, folder: Folder) -> None:
    """Searches by coverage of our code and of YAML's until the time is up, or an input fails."""
    import atheris

    with atheris.instrument_imports(include=["metrics_server", "yaml"]):
        from tests.fuzz.targets import TARGETS

    target = TARGETS[name]
    for seed in target.seeds():
        (folder.corpus / hashlib.sha256(seed).hexdigest()).write_bytes(seed)
    limits = [f"-max_total_time={seconds:.0f}", f"-max_len={MOST_BYTES}", f"-timeout={3 * CPU_SECONDS}"]
    memory = f"-rss_limit_mb={ADDRESS_SPACE // 2**20}"
    kept = f"-artifact_prefix={folder.crashes}/"
    atheris.Setup(
        [sys.argv[0], *limits, memory, kept, "-print_final_stats=1", str(folder.corpus)], _taking(target.take)
    )
    atheris.Fuzz()


def _taking(take: Callable[[bytes], object]) -> Callable[[bytes], None]:
    return lambda data: bounded(take, data)


ENGINES = {"hypothesis": by_hypothesis, "atheris": by_atheris}

if __name__ == "__main__":
    engine, name, seconds, path = sys.argv[1:]
    bound()
    ENGINES[engine](name, float(seconds), Folder(Path(path)))
