"""Several servers on one PostgreSQL, scraped all at once: no panel, no rule and no alert counts anything twice."""

from __future__ import annotations

import itertools
import math
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest
import yaml

from metrics_server.pairing.aggregator import PERSIST_EVERY
from tests.support.dashboards import BOARDS, OF_SERVER, Prometheus, choices, filled, shown
from tests.support.monitoring import RULES
from tests.support.monitoring import Prometheus as Scraper
from tests.support.postgres import Postgres
from tests.support.running import RunningServer, free_port
from tests.support.waiting import until

Labels: TypeAlias = frozenset[tuple[str, str]]

REPLICAS = 3
OF_MODELS = [name for name in OF_SERVER if name != "server"]
SIMULATED = 25.0  # seconds of traffic, so that rates of a minute and of ten seconds have some
# Rates differ by when each server was scraped, and by what lies before the first scrape; what is added up is thrice.
# One window of ten seconds may differ by more when a scrape comes late, so their mean over most of the traffic counts.
RATE_TOLERANCE = 0.5
MEAN_OF_RATES = "avg_over_time((({expression}) > -Inf)[20s:1s])"  # NaN, such as a ratio of nothing, is left out
FIRST_EVENTS = 30  # that one Prometheus may find counted already at its first scrape, and the other not
LAST_USED = "last_(?:prediction|label)[_:]timestamp"  # of which servers tell each other every ten seconds


class Scraped(NamedTuple):
    """Three servers, a Prometheus that scrapes the first, one that scrapes all; when the traffic ended, a time when all
    was stored, and one when all verdicts, which may be some seconds old, were of that.
    """

    servers: list[RunningServer]
    one: Prometheus
    three: Prometheus
    sent_at: str
    at: str
    judged_at: str

    def found(self, prometheus: Prometheus, expression: str, at: str | None = None) -> dict[Labels, float]:
        at = at or (self.judged_at if "canary_" in expression else self.at)
        vector = prometheus.get("query", query=expression, time=at)["result"]
        found = {frozenset(one["metric"].items()): float(one["value"][1]) for one in vector}
        return {labels: value for labels, value in found.items() if not math.isnan(value)}

    def both(self, expression: str) -> tuple[dict[Labels, float], dict[Labels, float]]:
        """Finds what an expression shows of one server and of three, a rate as its mean over the traffic."""
        query = MEAN_OF_RATES.format(expression=expression) if _is_rate(expression) else expression
        return self.found(self.one, query), self.found(self.three, query)


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """Traffic of a simulated cluster comes to the first, feedback to all; then it ends, and all is scraped."""
    folder = tmp_path_factory.mktemp("replicas")
    with ExitStack() as stack:
        postgres = Postgres().create()
        stack.callback(postgres.stop)
        servers: list[RunningServer] = []
        for _ in range(REPLICAS):
            servers.append(RunningServer(folder, "--store", postgres.url()))
            stack.callback(servers[-1].stop)
        one, three = _scraper(folder / "one", servers[:1]), _scraper(folder / "three", servers)
        stack.callback(one.stop)
        stack.callback(three.stop)
        _send(folder, servers)
        sent_at = str(time.time())
        at, judged_at = (_agreed_at(servers, names) for names in (r"model_\w+_total{", r"model_canary_\w+{"))
        yield Scraped(servers, Prometheus(one.url), Prometheus(three.url), sent_at, at, judged_at)


def _agreed_at(servers: list[RunningServer], names: str) -> str:
    """Waits until all servers show the same samples with such names, and Prometheus has them."""
    until(lambda: len({_samples(server, names) for server in servers}) == 1, 60, f"the servers show different {names}")
    time.sleep(2.5)  # two scrapes of each, and two evaluations of the rules
    return str(time.time() - 0.5)


def _scraper(folder: Path, servers: list[RunningServer]) -> Scraper:
    folder.mkdir()
    first, *others = (server.port for server in servers)
    return Scraper(folder, first, further_ports=others)


def _send(folder: Path, servers: list[RunningServer]) -> None:
    """Sends until the simulation is over; more truths that wait in vain than an alert allows, too."""
    simulate = [sys.executable, "-m", "metrics_server", "simulate", "--url", servers[0].url]
    ports = ["--ingress_port", str(free_port()), "--metrics_port", str(free_port())]
    pace = ["--rate", "10", "--label_delay", "0.2", "--seed", "1"]
    waiting = [{"deployment": "pets", "request_id": f"lost{n}", "truth": "cat"} for n in range(1200)]
    _feed(servers[0], waiting)
    with (folder / "simulation.log").open("ab") as log:
        simulation = subprocess.Popen([*simulate, *ports, *pace], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            until_then = time.monotonic() + SIMULATED
            for number in itertools.count():
                if time.monotonic() > until_then:
                    break
                for server in servers:
                    _feed(
                        server, [{"deployment": "pets", "prediction": "cat", "truth": "dog" if number % 3 else "cat"}]
                    )
                    assert server.post(b"{", {"Content-Type": "application/json"}).status == 400
                time.sleep(0.1)  # so that they come in the course of several scrapes
        finally:
            simulation.terminate()
            simulation.wait(20)


def _feed(server: RunningServer, statements: list[dict[str, Any]]) -> None:
    assert server.post(statements, {"Content-Type": "application/json"}, "/v1/feedback").status in (200, 202)


def _samples(server: RunningServer, names: str) -> frozenset[str]:
    """The lines of some samples. Counts are exactly equal on all servers; real sums are but for the last digit, by the
    order they are added in.
    """
    lines = server.get("/v1/metrics").body.decode().splitlines()
    return frozenset(line for line in lines if re.match(names, line))


def _is_rate(expression: str) -> bool:
    return re.search(r"\b(rate|increase)\(|:ratio\d", expression) is not None


def _agree(expression: str, one: dict[Labels, float], three: dict[Labels, float]) -> bool:
    if one.keys() != three.keys():
        return False
    if re.search(LAST_USED, expression):
        return three == pytest.approx(one, abs=PERSIST_EVERY)
    if ":increase" in expression:
        return three == pytest.approx(one, rel=RATE_TOLERANCE, abs=FIRST_EVENTS)
    return three == pytest.approx(one, **({"rel": RATE_TOLERANCE, "abs": 0.2} if _is_rate(expression) else {}))


@pytest.mark.parametrize("name", OF_MODELS)
def test_panels_of_models_show_three_servers_as_one(scraped: Scraped, name: str) -> None:
    """Each query finds the same series with the same values, whether one server is scraped or three that have the
    same."""
    ways = choices(scraped.one, BOARDS[name])
    asked = {
        filled(target["expr"], way): panel["title"]
        for panel in shown(BOARDS[name])
        for target in panel["targets"]
        for way in ways
        if "ALERTS{" not in target["expr"]
    }
    found = {query: scraped.both(query) for query in asked}
    assert {f"{asked[query]}: {query}" for query, both in found.items() if not _agree(query, *both)} == set()
    assert sum(bool(one) for one, _ in found.values()) > 10


def _on(instance: str, expression: str) -> str:
    """The query of one server only."""
    return expression.replace("{", f'{{instance="{instance}",')


def test_panels_of_the_server_add_up_what_is_counted_and_nothing_else(scraped: Scraped) -> None:
    """While they are busy, a rate is the sum of those of the servers; any other value lies within what they tell."""
    instances = [f"127.0.0.1:{server.port}" for server in scraped.servers]
    wrong, added_up = [], 0
    for query in {filled(target["expr"], {"job": ".*"}) for p in shown(BOARDS["server"]) for target in p["targets"]}:
        apart = [scraped.found(scraped.three, _on(instance, query), scraped.sent_at) for instance in instances]
        is_sum = re.match(r"sum.*\brate\(|count by", query) is not None and " / " not in query
        for labels, value in scraped.found(scraped.three, query, scraped.sent_at).items():
            each = [found[labels] for found in apart if labels in found]
            if is_sum:
                added_up += sum(each) > 0
                wrong += [] if value == pytest.approx(sum(each), abs=1e-9) else [(query, value, each)]
            else:
                wrong += [] if min(each) - 1e-9 <= value <= max(each) + 1e-9 else [(query, value, each)]
    assert not wrong
    assert added_up >= 5


def _recorded() -> list[str]:
    rules = [
        rule
        for path in RULES.glob("*.yaml")
        if not path.stem.endswith("_test")
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]
    return sorted({rule["record"] for rule in rules if "record" in rule})


def test_rules_record_three_servers_as_one(scraped: Scraped) -> None:
    """Each recorded series is there once, with the value that it has of one server."""
    found = {name: scraped.both(name) for name in _recorded()}
    assert {name for name, both in found.items() if not _agree(name, *both)} == set()
    assert sum(bool(one) for one, _ in found.values()) > 40


def test_an_alert_about_what_is_shared_comes_once(scraped: Scraped) -> None:
    """Truths that wait in the common store, and models, are told of once and not by each server."""
    counted = scraped.found(scraped.three, 'count without (instance) (ALERTS{alertstate="firing"})')
    assert {labels: count for labels, count in counted.items() if count != 1} == {}
    assert "MetricsServerTruthsWait" in {dict(labels)["alertname"] for labels in counted}
