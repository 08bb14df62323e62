"""Groups on the page of a model in a real browser: legible in both themes, on a desk and on a phone, by everybody."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.browser import OpenTab
from tests.support.grouped import REFERENCE, SLICES, patients, send
from tests.support.running import RunningServer

TABLE = "document.querySelector('section.groups table').getBoundingClientRect()"


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with real patients in three groups."""
    options = ("--store", "memory://", "--windows", "1h,1d", "--slices", SLICES, "--groups", f"size={REFERENCE}")
    server = RunningServer(tmp_path_factory.mktemp("grouped"), *options)
    try:
        send(server, patients())
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 420])
def test_groups_are_legible(grouped: RunningServer, open_tab: OpenTab, scheme: str, width: int) -> None:
    """No rule of accessibility is broken, contrast included, the table fits a desk, and the page never scrolls
    sideways: on a phone the table does alone.
    """
    tab = open_tab(grouped.url, color_scheme=scheme, viewport={"width": width, "height": 900})
    tab.open("/ui/models/shop/wine/main/classifier?window=1d")
    assert tab.accessibility() == []
    assert not tab.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert (tab.evaluate(f"{TABLE}.right") < width) == (width == 1280)
    tab.assert_clean()


def test_a_label_that_comes_is_seen_without_a_reload(grouped: RunningServer, open_tab: OpenTab) -> None:
    """The table follows as the rest of the page does."""
    tab = open_tab(grouped.url)
    tab.open("/ui/models/shop/wine/main/classifier?window=1d")
    cells = "[...document.querySelectorAll('section.groups tbody tr:nth-child(2) td')].map(cell => cell.textContent)"
    before = tab.evaluate(cells)
    unlabelled = next(n for n, is_labelled in enumerate(patients().are_labelled) if not is_labelled)
    labels = {"request_id": f"r{unlabelled}", "truth": 1}
    assert grouped.post(labels, {"Content-Type": "application/json"}, "/v1/feedback").status == 200
    tab.until(f"before => JSON.stringify({cells}) !== JSON.stringify(before)", before)
    assert sum(one != other for one, other in zip(before, tab.evaluate(cells), strict=True)) == 1
