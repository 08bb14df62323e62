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

import pytest

_HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "feedback-metrics-server" / "peers"
CACHE = Path(os.environ.get("PEERS_CACHE") or _HOME)
SELDON = ("seldon-core==1.17.1", "setuptools<81")  # later ones are not free; its gunicorn imports pkg_resources
PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "20")


def programs_of(*requirements: str) -> Path:
    """The `bin` of an environment with these packages. Where they cannot be installed, a laptop skips the test and CI
    fails."""
    recipe = "\n".join((sys.version, *requirements))
    found = CACHE / hashlib.sha256(recipe.encode()).hexdigest()[:16]
    if problem := _problem_of(found, requirements):
        reason = f"pip cannot install {' '.join(requirements)}: {problem}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found / "bin"


@cache
def _problem_of(place: Path, requirements: tuple[str, ...]) -> str:
    """Why there is no such environment; "" when there is one. Asked once, for pip takes its time to give up."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        complete = place / "complete"
        problem = "" if complete.exists() else _build(place, requirements)
        if not problem:
            complete.write_text("\n".join(requirements))
    return problem


def _build(place: Path, requirements: tuple[str, ...]) -> str:
    shutil.rmtree(place, ignore_errors=True)  # of a run that was interrupted
    subprocess.run([sys.executable, "-m", "venv", place], check=True, capture_output=True, timeout=200)
    words = [place / "bin" / "python", *PIP, *requirements]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280, check=False)
    if done.returncode == 0:
        return ""
    shutil.rmtree(place)
    return (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
