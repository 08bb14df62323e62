"""The time that people wait for the page in Chromium: until it has loaded, and until its charts are drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import process
from benchmarks.errors import BenchmarkError
from benchmarks.fill import fill
from metrics_server.store import open_store
from tests.support.browser import Chromium, chromium

SERIES, CLASSES, BUCKETS, ROWS = 20, 3, 600, 200  # rows of probabilities in each of so many buckets
MODEL = "/ui/models/shop/wine-0/main/classifier?window=7d"
LOADED = "performance.getEntriesByType('navigation')[0].loadEventEnd"
DRAWN = (
    "[...document.querySelectorAll('figure .plot')].every(one => one.firstElementChild)"
    " && Bokeh.documents.every(one => one.is_idle)"
)


@dataclass
class Visits:
    """Seconds of visits, one of each kind for each round.

    Attributes:
        overview: until the first page of a fresh server has loaded.
        model: until the page of a model has loaded, in a browser that keeps nothing.
        drawn: until its charts stand there; Bokeh is imported by then.
    """

    overview: list[float] = field(default_factory=list)
    model: list[float] = field(default_factory=list)
    drawn: list[float] = field(default_factory=list)


def visits(rounds: int, directory: Path) -> Visits:
    """Opens pages of a server that holds some months of sums."""
    path = directory / "visits.db"
    store = open_store(f"sqlite:///{path}")
    fill(store, SERIES, CLASSES, BUCKETS, ROWS)
    store.close()
    seen = Visits()
    for browser in _browsers():
        for _ in range(rounds):
            with process.metrics_server(directory, f"sqlite:///{path}") as server:
                url = f"http://127.0.0.1:{server.port}"
                seen.overview.append(_visit(browser, url, "/", charts=False)[0])
                server.get(f"{MODEL}&figures=light")
                loaded, drawn = _visit(browser, url, MODEL, charts=True)
                seen.model.append(loaded)
                seen.drawn.append(drawn)
    return seen


def _browsers() -> Iterator[Chromium]:
    try:
        yield from chromium()
    except BaseException as error:
        if type(error).__module__.startswith("_pytest"):  # how tests say that there is none
            raise BenchmarkError("page: Chromium is not installed (Debian package chromium)") from error
        raise


def _visit(browser: Chromium, url: str, page: str, *, charts: bool) -> tuple[float, float]:
    """Returns the seconds from the navigation until a page has loaded, and until its charts are drawn."""
    tab = browser.tab(url)
    try:
        tab.open(page)
        tab.until(f"{LOADED} > 0")
        if charts:
            tab.until(f"window.Bokeh && Bokeh.documents.length && {DRAWN}")
        drawn = tab.evaluate("performance.now()")
        return float(tab.evaluate(LOADED)) / 1000, float(drawn) / 1000
    finally:
        tab.close()
