"""Several server processes on one store, and what they show about models."""

from __future__ import annotations

import json
import math
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.support.running import RunningServer
from tests.support.spread_load import Expected

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]
Key = tuple[str, frozenset[tuple[str, str]]]

AGREE_SECONDS = 15.0  # far more than the second that it takes: pages of many series are read meanwhile


class Fleet:
    """Servers that share a store. They may be killed, and others started, while they are sent to."""

    def __init__(self, directory: Path, store: str, *options: str) -> None:
        self._directory = directory
        self._store = store
        self._options = ("--log_level", "WARNING", *options)
        self.servers: list[RunningServer] = []

    def start(self, count: int = 1, store: str = "", **how: Any) -> RunningServer:
        """Starts so many more; returns the last."""
        for _ in range(count):
            self.servers.append(self._started(store or self._store, **how))
        return self.servers[-1]

    def _started(self, store: str, **how: Any) -> RunningServer:
        return RunningServer(self._directory, "--store", store, *self._options, **how)

    def ports(self) -> list[int]:
        return [server.port for server in list(self.servers)]

    def stop(self, server: RunningServer) -> None:
        self.servers.remove(server)
        assert server.stop() == 0

    def kill(self, server: RunningServer) -> None:
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(10)

    def replace(self, server: RunningServer) -> RunningServer:
        """Starts a server on the port of one that is dead."""
        started = self._started(self._store, port=server.port)
        self.servers[self.servers.index(server)] = started
        return started


@contextmanager
def fleet(directory: Path, store: str, count: int, *options: str) -> Iterator[Fleet]:
    """So many servers on a store, killed at the end."""
    servers = Fleet(directory, store, *options)
    try:
        servers.start(count)
        yield servers
    finally:
        for server in servers.servers:
            servers.kill(server)


def pairs(server: RunningServer) -> Counter[str]:
    """The pairs that stand, by deployment: a scrape of one name alone."""
    text = server.get("/v1/metrics?name[]=model_support").body.decode()
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.labels["deployment_name"]] += int(sample.value) * (sample.labels["window"] == "1d")
    return +found


def shown(server: RunningServer) -> Samples:
    """Every sample about models, but when the last row and label came: others know that to ten seconds."""
    return {
        key: value
        for key, value in server.samples().items()
        if key[0].startswith("model_") and not key[0].startswith("model_last_")
    }


def net(samples: Samples) -> dict[Key, float]:
    """What does not depend on the order in which events came: counters less their retracted twins, and gauges.

    Left out: labels by how each was taken and the delay of the first, which tell of the order itself; and what is 0,
    which may be exposed or not.
    """
    found: dict[Key, float] = {}
    for (name, labels), value in samples.items():
        if name.startswith(("model_labels", "model_label_delay")):
            continue
        is_retracted = name.endswith("_retracted_total")
        key = name.replace("_retracted_total", "_total"), labels
        found[key] = found.get(key, 0.0) + (-value if is_retracted else value)
    return {key: value for key, value in found.items() if value}


def cells(samples: Samples) -> Counter[tuple[str, str, str]]:
    """The pairs that stand, by deployment, truth and prediction."""
    found: Counter[tuple[str, str, str]] = Counter()
    for (name, labels), value in net(samples).items():
        if name == "model_confusion_total":
            have = dict(labels)
            found[have["deployment_name"], have["truth"], have["prediction"]] += int(value)
    return found


def by_deployment(samples: Samples, name: str, **labels: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for (sample, have), value in samples.items():
        if sample == name and labels.items() <= dict(have).items():
            found[dict(have)["deployment_name"]] += int(value)
    return +found


def assert_shows(samples: Samples, expected: Expected) -> None:
    """The page says what the authors of the stories say."""
    for found, told in (
        (cells(samples), expected.cells),
        (by_deployment(samples, "model_predictions_total"), expected.predictions),
        (by_deployment(samples, "model_support", window="1d"), +expected.pairs),
    ):
        assert found == told, differences(found, told)


def is_same(one: Any, other: Any) -> bool:
    """Tells whether two values say the same: counts exactly, what is computed of them to nine digits."""
    if isinstance(one, float) and isinstance(other, float) and not one.is_integer():
        return math.isclose(one, other, rel_tol=1e-9)
    return bool(one == other)


def differences(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> list[Any]:
    """What two pages or two readings do not say alike."""
    keys = sorted(one.keys() | other.keys(), key=str)
    return [(key, one.get(key), other.get(key)) for key in keys if not is_same(one.get(key), other.get(key))]


def agreed(servers: Fleet) -> Samples:
    """What all servers show, soon: every sample about models the same, and the readings too."""
    deadline = time.monotonic() + AGREE_SECONDS
    while True:
        pages = [{**shown(server), **readings(server)} for server in servers.servers]
        differing = [differences(pages[0], page) for page in pages]
        if not any(differing):
            return shown(servers.servers[0])
        assert time.monotonic() < deadline, differing


def readings(server: RunningServer) -> Mapping[Any, Any]:
    """Every value of /v1/models, by the way to it, but what `shown` leaves out."""
    found: dict[Any, Any] = {}

    def walk(value: Any, *way: str | int) -> None:
        if isinstance(value, dict | list):
            for key, part in value.items() if isinstance(value, dict) else enumerate(value):
                walk(part, *way, key)
        elif not str(way[-1]).startswith("last_"):
            found[way] = value

    walk(json.loads(server.get("/v1/models").body))
    return found
