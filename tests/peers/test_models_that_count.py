"""Models that count their own feedback: the panels of a real Prometheus, and the queries that the docs have."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from metrics_server.commands.simulation.feedback_counts import NAMES
from tests.conftest import Serve
from tests.support.dashboards import BOARDS, filled, shown
from tests.support.monitoring import Prometheus
from tests.support.running import RESPONSE, ROOT, RunningServer, ce
from tests.support.waiting import until

# The shares that are read from counts, in the order of the page.
SHARES = ("Accuracy", "Precision", "Recall")
PANELS = {panel["title"]: panel["targets"][0]["expr"] for panel in shown(BOARDS["model"])}


@pytest.fixture
def server(serve: Serve) -> RunningServer:
    return serve("--store", "memory://", "--custom_metrics", ",".join(NAMES))


@pytest.fixture
def prometheus(server: RunningServer, tmp_path: Path) -> Iterator[Prometheus]:
    prometheus = Prometheus(tmp_path, server.port)
    yield prometheus
    prometheus.stop()


def _answer(server: RunningServer, deployment: str, kind: str, **counts: int) -> None:
    metrics = [{"type": kind, "key": name, "value": count} for name, count in counts.items()]
    body = {"data": {"ndarray": [[0.1, 0.9]]}, "meta": {"metrics": metrics}}
    assert server.post(body, ce(RESPONSE, deployment, deployment, inferenceservicename=deployment)).status == 200


def _shares(prometheus: Prometheus, deployment: str) -> dict[str, list[float]]:
    """What the panels show of a deployment."""
    chosen = {"namespace": "shop", "deployment": deployment, "predictor": "main", "model": "classifier"}
    queries = {name: filled(PANELS[f"{name}, by the model"], chosen) for name in SHARES}
    return {name: [*prometheus.values(query).values()] for name, query in queries.items()}


def _of(shares: Mapping[str, float]) -> dict[str, list[float]]:
    return {name: [pytest.approx(share)] for name, share in shares.items()}


@pytest.mark.parametrize("kind", ["GAUGE", "COUNTER"])
def test_what_a_model_counts_is_shown_as_shares(server: RunningServer, prometheus: Prometheus, kind: str) -> None:
    """Panels have accuracy, precision and recall of each model, as its four counts make them, of gauges and of
    counters. A count that is not there is 0; of a model that has counted nothing there is no share."""
    _answer(server, "wine", kind, true_pos=6, true_neg=5, false_pos=2, false_neg=3)
    _answer(server, "beer", kind, false_pos=4)
    _answer(server, "milk", kind, true_pos=0, true_neg=0, false_pos=0, false_neg=0)
    _answer(server, "rum", kind)
    ending = "" if kind == "GAUGE" else "_total"
    until(lambda: len(prometheus.values(f"false_pos{ending}")) == 3, 30, "not scraped")
    assert _shares(prometheus, "wine") == _of({"Accuracy": 11 / 16, "Precision": 6 / 8, "Recall": 6 / 9})
    assert _shares(prometheus, "beer") == {"Accuracy": [0], "Precision": [0], "Recall": []}
    assert _shares(prometheus, "milk") == _shares(prometheus, "rum") == {name: [] for name in SHARES}


def test_the_queries_of_the_page_are_those_shares(server: RunningServer, prometheus: Prometheus) -> None:
    """The page has a query for each, which a user may type in, and which says of gauges what the panel does."""
    page = (ROOT / "docs/how-to/expose-custom-metrics.md").read_text()
    _answer(server, "wine", "GAUGE", true_pos=6, true_neg=5, false_pos=2, false_neg=3)
    until(lambda: prometheus.values("false_neg"), 30, "not scraped")
    queries = re.findall(r"```promql\n(.*?)```", page, re.DOTALL)
    asked = {name: [*prometheus.values(query).values()] for name, query in zip(SHARES, queries, strict=True)}
    assert asked == _shares(prometheus, "wine") == _of({"Accuracy": 11 / 16, "Precision": 6 / 8, "Recall": 6 / 9})
