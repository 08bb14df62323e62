"""Which tests one worker runs together, and which come first."""

from __future__ import annotations

import pytest

# The longest come first, so that no worker is left with one of them in the end.
FOLDERS = ("peers", "server", "laws", "contract", "unit")
LONGEST = ("test_image", "test_kafka", "test_simulator", "test_rules", "test_notebooks", "test_browser", "test_compose")


def arrange(items: list[pytest.Item]) -> None:
    """Makes a group of each file with real servers or peers, which start once for all of its tests, and puts the
    longest first."""
    for item in items:
        if item.path.parent.name in ("peers", "server"):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    items.sort(key=_turn)  # within a file tests keep their order


def _turn(item: pytest.Item) -> tuple[int, int]:
    stem, folder = item.path.stem, item.path.parent.name
    return (
        LONGEST.index(stem) if stem in LONGEST else len(LONGEST),
        FOLDERS.index(folder) if folder in FOLDERS else len(FOLDERS),
    )
