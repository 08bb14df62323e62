"""The cost of a large state: to start with it, to render it, and the effect of a scrape of it on ingest."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from metrics_server.api.exposition import AncestorLabels, Exposition
from metrics_server.ingest.pod import image_of
from metrics_server.metrics.model import load
from metrics_server.metrics.window import seconds_of
from metrics_server.series.evaluator import Evaluator
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.totals import Totals
from metrics_server.settings import Settings
from metrics_server.store.interface import Store
from metrics_server.store.memory import MemoryStore
from metrics_server.store.sqlite.store import SqliteStore
from metrics_server.telemetry import Telemetry

START_SHAPE = {"series": 98, "classes": 10, "buckets": 9}  # 100,940 sums
SCRAPE_SHAPE = {"series": 19, "classes": 10, "buckets": 4}  # 10,000 samples
FLEET_SHAPE = {"series": 1000, "classes": 3, "buckets": 4, "rows": 200}  # of probabilities
RENDERINGS = 5  # a round
MANY = 50_000  # samples beyond which one a round takes long enough
ASKED_EVERY = 5.0  # seconds
WATCHERS = 5  # each with the list of models open, and a model
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
        ours: when every series has changed since the last time, so that all values are computed from the sums.
        quiet: when none has.
        prometheus_client: of values that are computed already.
    """

    series: int
    samples: int
    ours: list[float]
    quiet: list[float]
    prometheus_client: list[float]

    @property
    def ratio(self) -> float:
        """The time of prometheus_client over ours; renderings that followed each other are compared."""
        return _ratio(self.ours, self.prometheus_client)

    @property
    def quiet_ratio(self) -> float:
        """The time of prometheus_client over ours while nothing changes."""
        return _ratio(self.quiet, self.prometheus_client)


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return median(their / our for our, their in zip(ours, theirs, strict=True))


@dataclass
class Disturbed:
    """The p99 of ingest in milliseconds, by round: alone, with scrapes, and with pages open."""

    samples: int
    alone: list[float] = field(default_factory=list)
    scraped: list[float] = field(default_factory=list)
    watched: list[float] = field(default_factory=list)

    def ratio(self, disturbed: list[float]) -> float:
        """Returns how many times as long ingest takes as alone."""
        return median(with_them / without for without, with_them in zip(self.alone, disturbed, strict=True))


def starts(rounds: int, directory: Path) -> Starts:
    """Starts a server on a file with 100,000 sums, and checks that it shows all of them."""
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
    registry, totals = _filled(shape)

    def render() -> tuple[float, float]:
        exposition = _exposition(registry, totals)  # with an empty cache
        return _seconds(lambda: exposition.render("text/plain")), _seconds(lambda: exposition.render("text/plain"))

    families = list(text_string_to_metric_families(_exposition(registry, totals).render("text/plain")[0].decode()))
    collectors = CollectorRegistry()
    collectors.register(_Families(families))
    expected = _samples(families)
    if _samples(text_string_to_metric_families(generate_latest(collectors).decode())) != expected:
        raise BenchmarkError("scrape: prometheus_client does not render the same samples")
    result = Renderings(shape["series"], len(expected), [], [], [])
    for _ in range(rounds * RENDERINGS if len(expected) < MANY else rounds):
        changed, quiet = render()
        result.ours.append(changed)
        result.quiet.append(quiet)
        result.prometheus_client.append(_seconds(lambda: generate_latest(collectors)))
    return result


class _Families:
    """A collector of ready-made families, so that only their rendering is measured."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _samples(families: Iterable[Metric]) -> set[tuple[str, frozenset[tuple[str, str]], float]]:
    return {
        (sample.name, frozenset(sample.labels.items()), sample.value)
        for family in families
        for sample in family.samples
    }


def _filled(shape: dict[str, int]) -> tuple[SeriesRegistry, Totals]:
    """Fills a state in memory."""
    settings, store = Settings(), MemoryStore()
    fill(store, **shape)
    exported = {"max_exported_classes": settings.max_exported_classes}
    registry = SeriesRegistry(
        settings.scoring_of, lambda path, parameters: load(path, {**parameters, **exported}), settings.max_series
    )
    totals = Totals({window: seconds_of(window) for window in settings.windows})
    _restore(registry, totals, store)
    return registry, totals


def _exposition(registry: SeriesRegistry, totals: Totals) -> Exposition:
    """Builds the exposition of the server."""
    settings = Settings()
    ancestor = AncestorLabels("NOT_IMPLEMENTED", *image_of({}))
    evaluator = Evaluator(settings.max_exported_classes, settings.min_support)
    return Exposition(
        registry, totals, Telemetry(), ancestor, seldon_metrics=settings.seldon_metrics, evaluator=evaluator
    )


def _restore(registry: SeriesRegistry, totals: Totals, store: Store) -> None:
    registry.restore(store.series())
    totals.rebuild(store, time.time())


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def disturbed(rounds: int, directory: Path) -> Disturbed:
    """Measures ingest on a server with 10,000 samples, by turns alone, with a scrape every 5 s, and with pages open."""
    path = directory / "disturbed.db"
    _filled_file(path, SCRAPE_SHAPE)
    with process.metrics_server(directory, f"sqlite:///{path}") as server:
        wrk.run(server.port, Shape(), 1)
        samples = len([line for line in server.get("/v1/metrics").splitlines() if not line.startswith("#")])
        model = json.loads(server.get("/v1/models"))["models"][0]["path"].replace("/v1/", "/ui/")
        server.get(f"{model}?figures=light")  # Bokeh is imported once in the life of a server
        result = Disturbed(samples)
        turns = [(result.alone, []), (result.scraped, ["/v1/metrics"]), (result.watched, ["/ui", model] * WATCHERS)]
        for number in range(rounds):
            for seen, paths in turns if number % 2 == 0 else reversed(turns):
                with _asking(server, paths):
                    seen.append(wrk.run(server.port, Shape(), INGEST_SECONDS).p99)
    return result


@contextmanager
def _asking(server: Process, paths: Sequence[str]) -> Iterator[None]:
    """Requests all of these paths every 5 s beside the block, first after half of that."""
    ended, failures = threading.Event(), list[Exception]()

    def ask() -> None:
        wait = ASKED_EVERY / 2
        while not ended.wait(wait):
            wait = ASKED_EVERY
            for path in paths:
                try:
                    # As Prometheus and browsers ask. Not decoded here: this process is to take no time from the server.
                    request = urllib.request.Request(
                        f"http://127.0.0.1:{server.port}{path}", headers={"Accept-Encoding": "gzip"}
                    )
                    urllib.request.urlopen(request, timeout=ASKED_EVERY).read()
                except OSError as error:
                    failures.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    if paths:
        thread.start()
    try:
        yield
    finally:
        ended.set()
    if paths:
        thread.join(ASKED_EVERY)
    if failures:
        raise BenchmarkError(f"ingest: a request beside it failed: {failures[0]}")
