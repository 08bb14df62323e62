"""Foreign programs that their Go modules bring: built once by `go install`, kept between runs."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from benchmarks.environments import CACHE

HELM = "helm.sh/helm/v3/cmd/helm@v3.18.6"


def go_program(package: str, *replaced: str) -> Path:
    """The program of a package at a version. Where it cannot be built, the test is skipped, in CI too: it is a tool of
    people who deploy, no service that the server meets, and not every machine has Go or reaches its modules.

    Args:
        package: its path and version, such as `helm.sh/helm/v3/cmd/helm@v3.18.6`.
        replaced: modules in the place of others, as `old=new@version`: what the package's own go.mod replaces has no
            effect where another module builds it (Go Modules Reference, replace directive).
    """
    name = package.partition("@")[0].rpartition("/")[2]
    place = CACHE / hashlib.sha256("\n".join((package, *replaced)).encode()).hexdigest()[:16]
    if problem := _problem_of(place, name, package, replaced):
        pytest.skip(f"go cannot build {package}: {problem}")
    return place / name


@cache
def _problem_of(place: Path, name: str, package: str, replaced: tuple[str, ...]) -> str:
    """Why there is no such program; "" when there is one. Asked once, for the first build takes minutes."""
    go = shutil.which("go")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (place / name).exists():
            return ""
        return _build(go, place / name, package, replaced) if go else "go is not installed"


def _build(go: str, program: Path, package: str, replaced: tuple[str, ...]) -> str:
    """Builds a program from a module that has nothing but it; returns why that failed, "" if it did not."""
    replacements = [f"-replace={one}" for one in replaced]
    steps = (
        ("mod", "init", "built"),
        ("mod", "edit", *replacements, "-fmt"),
        ("get", package),
        ("build", "-o", program, package.partition("@")[0]),
    )
    with tempfile.TemporaryDirectory() as folder:
        return next(filter(None, (_failure([go, *step], folder) for step in steps)), "")


def _failure(command: list[str | Path], folder: str) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=1500,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "it took too long"
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["go said nothing"])[-1]
