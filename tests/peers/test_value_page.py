"""The value on the page of a model in a real browser: legible in both themes and on a desk and on a phone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.browser import OpenTab
from tests.support.running import RunningServer
from tests.support.valued import PAGE, VALUES, configured, send_pairs, send_patients

CELLS = "[...document.querySelectorAll('section.worth td')].map(cell => cell.textContent.trim())"


@pytest.fixture(scope="module")
def valued(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with real patients, whose pairs have a value."""
    folder = tmp_path_factory.mktemp("valued")
    options = configured(folder, {"deployment": "tumours", "value_matrix": VALUES})
    server = RunningServer(folder, "--store", "memory://", "--windows", "1h,1d", *options)
    try:
        send_patients(server)
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 420])
def test_the_value_is_legible(valued: RunningServer, open_tab: OpenTab, scheme: str, width: int) -> None:
    """No rule of accessibility is broken, contrast included, and the page does not scroll sideways."""
    tab = open_tab(valued.url, color_scheme=scheme, viewport={"width": width, "height": 900})
    tab.open(f"{PAGE}?window=1d")
    assert len(tab.evaluate(CELLS)) == 4
    assert tab.accessibility() == []
    assert not tab.evaluate("document.documentElement.scrollWidth > innerWidth")
    tab.assert_clean()


def test_a_pair_that_comes_is_seen_without_a_reload(valued: RunningServer, open_tab: OpenTab) -> None:
    """The section follows as the rest of the page does."""
    tab = open_tab(valued.url)
    tab.open(f"{PAGE}?window=1d")
    before = tab.evaluate(CELLS)
    send_pairs(valued, [0], [0.9])
    tab.until(f"before => JSON.stringify({CELLS}) !== JSON.stringify(before)", before)
