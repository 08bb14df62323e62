"""A canary that answers 100 for every house: seen on the dashboard, and told, without a single label."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import monitoring
from tests.support.dashboards import BOARDS, Prometheus, choices, expressions, filled
from tests.support.running import ROOT, RunningServer, free_port
from tests.support.waiting import until

REQUESTS = 60
ALERT = "ModelOutputMeanOutOfRange of house-price in seldon"
ARMS = ["canary", "main"]


class Stack:
    """A server, a simulated cluster, Prometheus, Alertmanager, and what stands in for Slack."""

    def __init__(self, directory: Path, opened: ExitStack) -> None:
        self.server, self.ingress = RunningServer(directory, "--store", "memory://"), free_port()
        opened.callback(self.server.stop)
        words = [sys.executable, "-m", "metrics_server", "simulate", "--rate", "0", "--seed", "1"]
        words += ["--url", self.server.url, "--ingress_port", str(self.ingress)]
        simulation = monitoring.Program(directory, words, self.ingress, "/prometheus")
        opened.callback(simulation.stop)
        self.receiver = monitoring.Receiver(directory)
        opened.callback(self.receiver.stop)
        alertmanager = monitoring.Alertmanager(directory, self.receiver)
        opened.callback(alertmanager.stop)
        scraper = monitoring.Prometheus(directory, self.server.port, alertmanager)
        opened.callback(scraper.stop)
        self.prometheus = Prometheus(scraper.url)

    def send_requests(self) -> str:
        """Runs the script of the example; what it says."""
        script = ROOT / "deploy/examples/seldon/send_requests.py"
        words = [sys.executable, str(script), "--url", f"http://127.0.0.1:{self.ingress}"]
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with ExitStack() as opened:
        yield Stack(tmp_path_factory.mktemp("bad_canary"), opened)


def test_the_bad_arm_is_told(stack: Stack) -> None:
    """Sixty requests are enough: the message names the canary and what it answers; the main model is no news."""
    said = stack.send_requests()
    assert said.startswith(f"{REQUESTS} predictions: min 100, ")
    message = until(lambda: stack.receiver.titled(f"Warning: {ALERT}"), 60, "no message")
    what, why, to_do = message["text"].splitlines()
    assert what == "*house-price canary: predictions are too low on average*"
    assert why == "Its mean prediction in 1d is 100, and should be at least 100k."
    assert to_do.startswith("What to do: ")
    firing = 'ALERTS{alertname="ModelOutputMeanOutOfRange", alertstate="firing", predictor_name="main"}'
    assert not stack.prometheus.values(firing)
    counted = stack.server.samples().items()
    predictions = [value for (name, _), value in counted if name == "model_predictions_total"]
    assert len(predictions) == len(ARMS)
    assert sum(predictions) == REQUESTS


def test_the_dashboard_has_each_arm(stack: Stack) -> None:
    """Predictions a second, latency, smallest, mean and largest output of both, and the canary's outputs are 100."""
    found: dict[str, float] = {}

    def asked() -> bool:
        if not stack.prometheus.values("rate(model_predictions_total[10s]) > 0"):
            stack.send_requests()
        return len(stack.prometheus.values("rate(model_predictions_total[10s]) > 0", time=str(time.time() - 1))) == 2

    until(asked, 40, "no rates of both")
    (way,) = [
        way
        for way in choices(stack.prometheus, BOARDS["canary"])
        if (way["baseline"], way["candidate"]) in (("main", "canary"), ("canary", "main"))
    ][:1]
    queries = [query for place, query in expressions(BOARDS["canary"]) if place == "Serving by predictor"]
    assert len(queries) == 5
    for query in queries:
        answer = stack.prometheus.get("query", query=filled(query, way))["result"]
        assert sorted(one["metric"]["predictor_name"] for one in answer) == ARMS, query
        (canary,) = [one for one in answer if one["metric"]["predictor_name"] == "canary"]
        found[query] = float(canary["value"][1])
    outputs = [value for query, value in found.items() if "model_output_" in query]
    assert outputs == pytest.approx([100.0] * 3, rel=0.025)
