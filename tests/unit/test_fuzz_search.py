"""`make fuzz` itself: what it would miss, nobody would notice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import __main__ as fuzz
from tests.fuzz.folder import Folder
from tests.fuzz.search import retry
from tests.fuzz.targets import TARGETS
from tests.support.running import ROOT


def test_every_target_is_searched() -> None:
    """The command knows all targets."""
    assert list(fuzz.NAMES) == list(TARGETS)


@pytest.mark.parametrize("name", fuzz.NAMES)
def test_the_seeds_are_taken(name: str) -> None:
    """Good input of each kind is there, and breaks nothing."""
    seeds = TARGETS[name].seeds()
    assert seeds
    for seed in seeds[:30]:
        TARGETS[name].take(seed)


def test_what_failed_is_tried_first(tmp_path: Path) -> None:
    """An input that has failed is kept under a name that its content gives, and fails again in the next run."""
    folder = Folder(tmp_path / "target")
    folder.keep(b"bad")
    folder.keep(b"bad")

    def take(data: bytes) -> None:
        raise KeyError(data)

    with pytest.raises(KeyError, match="bad"):
        retry(take, Folder(tmp_path / "target"))
    assert [path.read_bytes() for path in folder.failing()] == [b"bad"]


def test_an_endless_input_is_found() -> None:
    """An input that needs more than its processor time ends in an error."""
    code = """
import tests.fuzz.search as search
search.CPU_SECONDS = 0.2
search.bound()
def take(data):
    while True: pass
try:
    search.bounded(take, b"")
except search.TooSlow:
    print("too slow")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "too slow\n"


def test_a_search_that_fails_tells_how(tmp_path: Path) -> None:
    """What a search has found before is told again, with its place in the code, until it is mended."""
    Folder(tmp_path).keep(b"\xff")
    code = "import tests.fuzz.targets as t; t.TARGETS['feedback'] = t.TARGETS['feedback']._replace(take=bytes.decode); "
    code += "import tests.fuzz.search as s, pathlib; s.by_hypothesis('feedback', 1, s.Folder(pathlib.Path('PATH')))"
    done = subprocess.run(
        [sys.executable, "-c", code.replace("PATH", str(tmp_path))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "UnicodeDecodeError" in done.stderr
    assert "tries" in done.stderr
