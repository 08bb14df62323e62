"""SECURITY.md names only what there is."""

from __future__ import annotations

import re

from metrics_server.errors import Reason
from metrics_server.settings import OPTIONS
from tests.support.running import ROOT

TEXT = (ROOT / "SECURITY.md").read_text()


def test_its_options_exist() -> None:
    """Each option that it names is one of the server."""
    named = set(re.findall(r"`--([a-z_]+)`", TEXT)) - {"version"}
    assert named
    assert named <= set(OPTIONS)


def test_its_commands_exist() -> None:
    """Each `make` that it names is a target."""
    named = set(re.findall(r"`make ([a-z-]+)", TEXT))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named
    assert named <= targets


def test_its_reasons_exist() -> None:
    """Each reason that it names is one of the list."""
    assert set(re.findall(r"\(`([a-z_]+)`\)", TEXT)) <= {reason.label for reason in Reason}


def test_it_is_found() -> None:
    """The first page links to it."""
    assert "(SECURITY.md)" in (ROOT / "README.md").read_text()
