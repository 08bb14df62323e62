"""Servers on one database, under load and watched, while something happens to them."""

from __future__ import annotations

import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.support.fleet import Fleet, agreed, assert_shows, fleet
from tests.support.live_server import send
from tests.support.running import RunningServer
from tests.support.spread_load import Flow, Stories, finished, sending
from tests.support.waiting import until

COUNTERS = "/v1/metrics?name[]=model_predictions_total&name[]=model_confusion_total"
PAGE_SECONDS = 8.0  # within which a page is answered, on a machine that has other things to do


class Watch(threading.Thread):
    """Scrapes every server all the time: counters must not fall, and pages must come, whatever happens."""

    def __init__(self, servers: Fleet) -> None:
        super().__init__(daemon=True)
        self._servers = servers
        self._last: dict[tuple[int, Any], float] = {}
        self._halt = threading.Event()
        self.falls: list[Any] = []
        self.ready: Counter[int] = Counter()  # answers of /readyz
        self.pages: Counter[int | str] = Counter()

    def run(self) -> None:
        while not self._halt.wait(0.1):
            for server in list(self._servers.servers):
                try:
                    self._look(server.port)
                except (OSError, HTTPException) as error:
                    if not _is_dying(server):
                        self.pages[type(error).__name__] += 1

    def _look(self, port: int) -> None:
        self.ready[send(port, None, "/readyz", timeout=PAGE_SECONDS).status] += 1
        page = send(port, None, COUNTERS, timeout=PAGE_SECONDS)
        self.pages[page.status] += 1
        for family in text_string_to_metric_families(page.body.decode()):
            for sample in family.samples:
                self._note((port, (sample.name, frozenset(sample.labels.items()))), sample.value)

    def _note(self, key: tuple[int, Any], value: float) -> None:
        if key[1][0].endswith("_total"):
            if value < (last := self._last.get(key, 0.0)):
                self.falls.append((key, last, value))
            self._last[key] = value

    def end(self) -> None:
        self._halt.set()
        self.join(60)


def _is_dying(server: RunningServer) -> bool:
    """Tells whether a server ends within a moment, after it has failed to answer."""
    with suppress(subprocess.TimeoutExpired):
        server.process.wait(1)
        return True
    return False


class BadDay:
    """A load that goes on until `settle`, and what came of it."""

    def __init__(self, servers: Fleet, largest: int = 8) -> None:
        self.servers = servers
        self.told = Stories(16)
        self.flow = Flow(self.told, 16, largest)
        self.senders = sending(servers.ports, self.flow, pause=0.05)
        self.watch = Watch(servers)
        self.watch.start()

    @property
    def acknowledged(self) -> int:
        return sum(sender.acknowledged for sender in self.senders)

    @property
    def refused(self) -> int:
        return sum(sender.answers[503] for sender in self.senders)

    def go_on(self, events: int = 100, seconds: float = 90) -> None:
        """Waits until so many more events are acknowledged."""
        already = self.acknowledged
        until(lambda: self.acknowledged >= already + events, seconds, f"no load: {self._tell()}")

    def turn_away(self, seconds: float = 60) -> None:
        """Waits until servers say that they cannot: 503 to an event and to the probe."""
        refused, unready = self.refused, self.watch.ready[503]
        until(lambda: self.refused > refused and self.watch.ready[503] > unready, seconds, f"no 503: {self._tell()}")

    def settle(self, seconds: float = 150, *, counters_may_fall: bool = False, others: str = "") -> None:
        """Ends the load, and checks that every event counts once, everywhere, and that no counter has fallen; the
        events of another load are of another deployment.
        """
        self.flow.end()
        finished(self.senders, seconds)
        for server in self.servers.servers:
            until(lambda server=server: server.get("/readyz").status == 200, 60, "not ready again")  # type: ignore[misc]
        samples = agreed(self.servers)
        self.watch.end()
        assert_shows(
            {key: value for key, value in samples.items() if ("deployment_name", others) not in key[1]},
            self.told.expected,
        )
        assert counters_may_fall or self.watch.falls == [], self.watch.falls
        assert set(self.watch.pages) <= {200}, self.watch.pages
        print(self._tell())

    def _tell(self) -> str:
        answers = sum((sender.answers for sender in self.senders), Counter())
        rows, counted = sum(self.told.expected.predictions.values()), sum(self.told.expected.pairs.values())
        return (
            f"{self.acknowledged} events acknowledged, answers to batches {answers}; {rows} rows, {counted} pairs told"
        )


@contextmanager
def bad_day(directory: Path, store: str, count: int = 2, largest: int = 8) -> Iterator[BadDay]:
    """So many servers on a store, under a load of batches of this size at most."""
    with fleet(directory, store, count) as servers:
        day = BadDay(servers, largest)
        try:
            day.go_on(50)
            yield day
        finally:
            day.flow.end()
            day.watch.end()
