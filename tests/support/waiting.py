"""Waiting for what a server does in the background, never longer than is needed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def until(found: Callable[[], Found], seconds: float, what: str) -> Found:
    """Returns what is found as soon as that is something; fails with `what` after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return result
