"""Which tests come first: a file is one worker's, so that its servers and peers start once."""

from __future__ import annotations

import pytest

# The longest come first, so that no worker is left with one of them in the end.
FOLDERS = ("peers", "server", "laws", "contract", "unit")
LONGEST = (
    "test_browser",
    "test_oracles",
    "test_kafka",
    "test_real_senders",
    "test_simulator",
    "test_compose",
    "test_dashboards",
    "test_rules",
    "test_bad_canary",
    "test_simulator_address",
)


def arrange(items: list[pytest.Item]) -> None:
    """Puts the longest files first; within a file tests keep their order."""
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> tuple[int, int]:
    stem, folder = item.path.stem, item.path.parent.name
    return (
        LONGEST.index(stem) if stem in LONGEST else len(LONGEST),
        FOLDERS.index(folder) if folder in FOLDERS else len(FOLDERS),
    )
