"""Foreign programs that their Go modules bring: built once by `go install`, kept between runs."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from benchmarks.environments import CACHE

HELM = "helm.sh/helm/v3/cmd/helm@v3.18.6"


def go_program(package: str) -> Path:
    """The program of a package at a version. Where it cannot be built, the test is skipped, in CI too: it is a tool of
    people who deploy, no service that the server meets, and not every machine has Go or reaches its modules."""
    name = package.partition("@")[0].rpartition("/")[2]
    place = CACHE / hashlib.sha256(package.encode()).hexdigest()[:16]
    if problem := _problem_of(place, name, package):
        pytest.skip(f"go cannot install {package}: {problem}")
    return place / name


@cache
def _problem_of(place: Path, name: str, package: str) -> str:
    """Why there is no such program; "" when there is one. Asked once, for the first build takes minutes."""
    go = shutil.which("go")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (place / name).exists():
            return ""
        return _build(go, place, package) if go else "go is not installed"


def _build(go: str, place: Path, package: str) -> str:
    try:
        done = subprocess.run(
            [go, "install", package],
            env={**os.environ, "GOBIN": str(place)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=1500,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "it took too long"
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["go said nothing"])[-1]
