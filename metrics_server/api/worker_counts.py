"""The server's own series of all workers of a port: any of them answers a scrape for all.

Each worker writes what it counts to a file of its own, twice a second and before it is shown; a scrape adds up the
files. A worker that takes the place of another goes on from its counts, so that none ever falls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Lock

import msgspec
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

EVERY_SECONDS = 0.5

# Gauges that are of each worker; all others say the same of what the workers share, or of the worst of them.
_ADDED = frozenset({"metrics_server_queue_events", "metrics_server_kafka_lag_records"})
_LEAST = frozenset({"metrics_server_store_up"})


class _Sample(msgspec.Struct, array_like=True):
    name: str
    labels: dict[str, str]
    value: float


class _Family(msgspec.Struct, array_like=True):
    name: str
    type: str
    help: str
    samples: list[_Sample]


class WorkerCounts(Collector):
    """What all workers count."""

    def __init__(self, own: CollectorRegistry, directory: Path, number: int) -> None:
        self._own = own
        self._directory = directory
        self._file = directory / f"{number}.json"
        self._lock = Lock()
        self._before = _read(self._file)  # of the worker that had this number
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def write(self) -> None:
        """Tells the other workers what this one has counted."""
        self._written()

    def _written(self) -> list[_Family]:
        with self._lock:  # a scrape is in a thread of its own
            counted = list(self._counted())
            new = self._file.with_suffix(".new")
            new.write_bytes(msgspec.json.encode(counted))
            new.replace(self._file)
        return counted

    def collect(self) -> Iterable[Metric]:
        """The series of all workers, added up. What is shown is written first: it must not be less after a kill."""
        others = [_read(path) for path in self._directory.glob("*.json") if path != self._file]
        for family in _merged([self._written(), *others]):
            metric = Metric(family.name, family.help, family.type)
            for sample in family.samples:
                metric.add_sample(sample.name, sample.labels, sample.value)
            yield metric

    def _counted(self) -> Iterator[_Family]:
        """What this worker and those before it in its place have counted; of gauges what they are now."""
        own = [
            _Family(
                family.name,
                family.type,
                family.documentation,
                [_Sample(sample.name, sample.labels, sample.value) for sample in family.samples],
            )
            for family in self._own.collect()
        ]
        return _merged([own, [family for family in self._before if family.type != "gauge"]])


def _read(file: Path) -> list[_Family]:
    """Reads what a worker has told; a worker that has told nothing yet has counted nothing."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[_Family])
    except FileNotFoundError:
        return []


def _merged(workers: Iterable[list[_Family]]) -> Iterator[_Family]:
    families: dict[str, _Family] = {}
    samples: dict[str, dict[tuple[str, frozenset[tuple[str, str]]], _Sample]] = {}
    for family in (family for counted in workers for family in counted):
        families.setdefault(family.name, family)
        merged = samples.setdefault(family.name, {})
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            known = merged.get(key)
            value = sample.value if known is None else _rule(family, sample)((known.value, sample.value))
            merged[key] = _Sample(sample.name, sample.labels, value)
    for name, family in families.items():
        yield _Family(name, family.type, family.help, list(samples[name].values()))


def _rule(family: _Family, sample: _Sample) -> Callable[[Iterable[float]], float]:
    """Tells how the values of several workers become one."""
    if family.name in _LEAST or sample.name.endswith("_created"):
        return min
    return sum if family.type != "gauge" or family.name in _ADDED else max
