"""What a large state costs: the time to start with it, to render it, and what a scrape of it does to ingest."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import page, process, wrk
from benchmarks.errors import BenchmarkError
from benchmarks.fill import fill, sums_stored
from benchmarks.process import Process
from benchmarks.wrk import Shape
from metrics_server.catalog import Catalog
from metrics_server.exposition import AncestorLabels, Exposition
from metrics_server.model import load
from metrics_server.readings import Reader
from metrics_server.settings import Settings, image_of
from metrics_server.store.interface import Store
from metrics_server.store.memory import MemoryStore
from metrics_server.store.sqlite import SqliteStore
from metrics_server.telemetry import Telemetry
from metrics_server.totals import Totals
from metrics_server.window import seconds_of

START_SHAPE = {"series": 98, "classes": 10, "buckets": 9}  # 100,940 sums
SCRAPE_SHAPE = {"series": 19, "classes": 10, "buckets": 3}  # 10,000 samples
FLEET_SHAPE = {"series": 1000, "classes": 3, "buckets": 3, "rows": 200}  # of probabilities
RENDERINGS = 5  # a round
MANY = 50_000  # samples beyond which one a round takes long enough
SCRAPE_EVERY = 5.0  # seconds
INGEST_SECONDS = 10  # long enough for two scrapes


@dataclass
class Starts:
    """Starts with a large state, a value for each round."""

    sums: int
    seconds: list[float]
    resident: list[float]  # MiB


@dataclass
class Renderings:
    """Seconds to render the same samples, a value for each rendering.

    Attributes:
        ours: when every series has changed since the last time, so that all values are read from the sums.
        quiet: when none has.
        prometheus_client: of values that are read already.
    """

    series: int
    samples: int
    ours: list[float]
    quiet: list[float]
    prometheus_client: list[float]

    @property
    def ratio(self) -> float:
        """How many times as long prometheus_client takes; renderings that followed each other are compared."""
        return _ratio(self.ours, self.prometheus_client)

    @property
    def quiet_ratio(self) -> float:
        """The same while nothing changes."""
        return _ratio(self.quiet, self.prometheus_client)


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return median(their / our for our, their in zip(ours, theirs, strict=True))


@dataclass
class Scraped:
    """p99 of ingest in milliseconds, without scrapes and with them, a pair for each round."""

    samples: int
    alone: list[float]
    scraped: list[float]

    @property
    def ratio(self) -> float:
        """How many times as long with scrapes."""
        return median(with_them / without for without, with_them in zip(self.alone, self.scraped, strict=True))


def starts(rounds: int, directory: Path) -> Starts:
    """Starts a server on a file with 100,000 sums, and looks whether it shows them all."""
    path = directory / "start.db"
    pairs, sums = _filled_file(path, START_SHAPE)
    result = Starts(sums, [], [])
    for _ in range(rounds):
        with process.metrics_server(directory, f"sqlite:///{path}") as server:
            result.seconds.append(server.ready_seconds)
            result.resident.append(server.resident_mib)
            shown = page.total(server.get("/v1/metrics"), "model_support", window="30d")
        if shown != pairs:
            raise BenchmarkError(f"start: {pairs:g} pairs are stored, the page says {shown:g}")
    return result


def _filled_file(path: Path, shape: dict[str, int]) -> tuple[float, int]:
    store = SqliteStore(str(path))
    try:
        return fill(store, **shape), sums_stored(store)
    finally:
        store.close()


def renderings(rounds: int, shape: dict[str, int]) -> Renderings:
    """Renders one page by turns with the server's exposition and with prometheus_client, in this process."""
    catalog, totals = _filled(shape)

    def render() -> tuple[float, float]:
        exposition = _exposition(catalog, totals)  # which has kept nothing yet
        return _seconds(lambda: exposition.render("text/plain")), _seconds(lambda: exposition.render("text/plain"))

    families = list(text_string_to_metric_families(_exposition(catalog, totals).render("text/plain")[0].decode()))
    registry = CollectorRegistry()
    registry.register(_Families(families))
    expected = _samples(families)
    if _samples(text_string_to_metric_families(generate_latest(registry).decode())) != expected:
        raise BenchmarkError("scrape: prometheus_client does not render the same samples")
    result = Renderings(shape["series"], len(expected), [], [], [])
    for _ in range(rounds * RENDERINGS if len(expected) < MANY else rounds):
        changed, quiet = render()
        result.ours.append(changed)
        result.quiet.append(quiet)
        result.prometheus_client.append(_seconds(lambda: generate_latest(registry)))
    return result


class _Families:
    """A collector of families that are made already: only their rendering is measured."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _samples(families: Iterable[Metric]) -> set[tuple[str, frozenset[tuple[str, str]], float]]:
    return {(sample.name, frozenset(sample.labels.items()), sample.value) for family in families for sample in family.samples}


def _filled(shape: dict[str, int]) -> tuple[Catalog, Totals]:
    """A state in memory."""
    settings, store = Settings(), MemoryStore()
    fill(store, **shape)
    exported = {"max_exported_classes": settings.max_exported_classes}
    catalog = Catalog(settings.scoring_of, lambda path, parameters: load(path, {**parameters, **exported}), settings.max_series)
    totals = Totals({window: seconds_of(window) for window in settings.windows})
    _restore(catalog, totals, store)
    return catalog, totals


def _exposition(catalog: Catalog, totals: Totals) -> Exposition:
    """The server's own."""
    settings = Settings()
    ancestor = AncestorLabels("NOT_IMPLEMENTED", *image_of({}))
    reader = Reader(settings.max_exported_classes, settings.min_support)
    return Exposition(catalog, totals, Telemetry(), ancestor, seldon_metrics=settings.seldon_metrics, reader=reader)


def _restore(catalog: Catalog, totals: Totals, store: Store) -> None:
    catalog.restore(store.series())
    totals.rebuild(store, time.time())


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def scraped(rounds: int, directory: Path) -> Scraped:
    """Ingest on a server that shows 10,000 samples, by turns without scrapes and with one every 5 s."""
    path = directory / "scraped.db"
    _filled_file(path, SCRAPE_SHAPE)
    with process.metrics_server(directory, f"sqlite:///{path}") as server:
        wrk.run(server.port, Shape(), 1)
        samples = len([line for line in server.get("/v1/metrics").splitlines() if not line.startswith("#")])
        result = Scraped(samples, [], [])
        for number in range(rounds):
            for is_scraped in (False, True) if number % 2 == 0 else (True, False):
                with _scraping(server, on=is_scraped):
                    load_seen = wrk.run(server.port, Shape(), INGEST_SECONDS)
                (result.scraped if is_scraped else result.alone).append(load_seen.p99)
    return result


@contextmanager
def _scraping(server: Process, *, on: bool) -> Iterator[None]:
    """Scrapes beside the block, first after half the interval."""
    ended, failures = threading.Event(), list[Exception]()

    def scrape() -> None:
        wait = SCRAPE_EVERY / 2
        while not ended.wait(wait):
            wait = SCRAPE_EVERY
            try:
                # As Prometheus asks. Not decoded here: this process is to take no time from the server.
                url = f"http://127.0.0.1:{server.port}/v1/metrics"
                request = urllib.request.Request(url, headers={"Accept-Encoding": "gzip"})
                urllib.request.urlopen(request, timeout=SCRAPE_EVERY).read()
            except OSError as error:
                failures.append(error)

    thread = threading.Thread(target=scrape, daemon=True)
    if on:
        thread.start()
    try:
        yield
    finally:
        ended.set()
    if on:
        thread.join(SCRAPE_EVERY)
    if failures:
        raise BenchmarkError(f"ingest: a scrape failed: {failures[0]}")
