"""State files of SQLite, and what a store that does not take one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from metrics_server.errors import StoreRefused
from metrics_server.store.interface import Change, Write
from metrics_server.store.sqlite.store import SqliteStore


def records(count: int, size: int = 200) -> Change:
    return Change({b"%06d" % number: Write(0, b"%06d" % number * (size // 6), 1e12) for number in range(count)})


def refusal(path: Path) -> str:
    """The message with which the file is refused: one line that names it."""
    with pytest.raises(StoreRefused) as caught:
        SqliteStore(str(path)).close()
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message
