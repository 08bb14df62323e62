"""Python environments of foreign programs, each with its own packages: built once, kept between runs."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

_HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "feedback-metrics-server" / "peers"
CACHE = Path(os.environ.get("PEERS_CACHE") or _HOME)
PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "20")


class NotInstallable(Exception):
    """An environment that cannot be had here; the text says why."""


def programs_of(*requirements: str, seconds: float = 280) -> Path:
    """Returns the `bin` of an environment with these packages, which is built when it is not there yet.

    Raises:
        NotInstallable: pip cannot install them, or not in so many seconds.
    """
    recipe = "\n".join((sys.version, *requirements))
    found = CACHE / hashlib.sha256(recipe.encode()).hexdigest()[:16]
    if problem := _problem_of(found, requirements, seconds):
        raise NotInstallable(f"pip cannot install {' '.join(requirements)}: {problem}")
    return found / "bin"


@cache
def _problem_of(place: Path, requirements: tuple[str, ...], seconds: float) -> str:
    """Why there is no such environment; "" when there is one. Asked once, for pip takes its time to give up."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        complete = place / "complete"
        problem = "" if complete.exists() else _build(place, requirements, seconds)
        if not problem:
            complete.write_text("\n".join(requirements))
    return problem


def _build(place: Path, requirements: tuple[str, ...], seconds: float) -> str:
    shutil.rmtree(place, ignore_errors=True)  # of a run that was interrupted
    subprocess.run([sys.executable, "-m", "venv", place], check=True, capture_output=True, timeout=200)
    words = [place / "bin" / "python", *PIP, *requirements]
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        problem = f"it takes longer than {seconds:g} s"
    else:
        problem = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1] if done.returncode else ""
    if problem:
        shutil.rmtree(place)
    return problem
