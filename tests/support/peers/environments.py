"""Environments of foreign programs for tests: where they cannot be had, a laptop skips the test and CI fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks import environments

SELDON = ("seldon-core==1.17.1", "setuptools<81")  # later ones are not free; its gunicorn imports pkg_resources


def programs_of(*requirements: str) -> Path:
    """The `bin` of an environment with these packages."""
    try:
        return environments.programs_of(*requirements)
    except environments.NotInstallable as problem:
        if os.environ.get("CI"):
            pytest.fail(str(problem))
        pytest.skip(str(problem))
