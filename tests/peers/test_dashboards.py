"""The dashboards: what is committed is what the builder makes, and every query finds data in a Prometheus that scrapes
a busy server."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from metrics_server.commands.simulation.feedback_counts import NAMES as COUNTS
from metrics_server.metrics.confidence import difference_interval
from metrics_server.metrics.sequential.verdict import Verdict
from metrics_server.series.families import MODEL
from metrics_server.telemetry import all_families
from tests.support.dashboards import (
    BOARDS,
    DASHBOARDS,
    NAMES,
    OF_SERVER,
    Prometheus,
    choices,
    expressions,
    filled,
    panels,
    shown,
    variables,
)
from tests.support.running import RESPONSE, ROOT, RunningServer, ce, free_port, peer
from tests.support.waiting import until

# Queries that find nothing here, by what stands in them.
EMPTY = {
    "metrics_server_kafka": "there is no Kafka",
    "metrics_server_shared_store": "the store is not shared",
    "ALERTS{": "this Prometheus has no rules",
}
# Beside what the simulation has: a ranking, ratings, a correction, a reward, and a prediction that nobody labels.
CONFIGURATION = """
deployments:
  - {deployment: search, storage_uri: cm_models.ranking.Ranking}
  - {deployment: assistant, storage_uri: cm_models.human_feedback.HumanFeedback}
"""
FEEDBACK = [
    *({"deployment": "search", "prediction": [0.9, 0.5, 0.2], "truth": [0, 1, 0]} for _ in range(3)),
    *({"deployment": "assistant", "prediction": 0, "truth": truth} for truth in ("up", "up", "down")),
    {
        "deployment": "pets",
        "request_id": "p1",
        "prediction": "cat",
        "truth": "dog",
        "labelled_at": "2026-03-01T08:00:00Z",
    },
    {"deployment": "pets", "request_id": "p1", "truth": "cat", "labelled_at": "2026-03-01T09:00:00Z"},
]
UNLABELLED = {"data": {"ndarray": [[0.2, 0.8]]}}
REWARD = {"response": {"data": {"ndarray": [[0.1, 0.9]]}}, "reward": 1}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It scrapes a server every two seconds that a simulated cluster, and others, log to."""
    folder = tmp_path_factory.mktemp("scraped")
    (folder / "models.yaml").write_text(CONFIGURATION)
    program, port = peer("prometheus"), free_port()
    options = ["--slices", "protocol=attribute:protocol", "--custom_metrics", ",".join(COUNTS)]
    server = RunningServer(folder, "--config", "models.yaml", *options)
    ingress, custom = free_port(), free_port()
    jobs = [
        ("feedback-metrics-server", "/v1/metrics", server.port),
        ("executors", "/prometheus", ingress),
        ("wrappers", "/prometheus", custom),
    ]
    scrapes = [
        {"job_name": job, "metrics_path": path, "static_configs": [{"targets": [f"127.0.0.1:{at}"]}]}
        for job, path, at in jobs
    ]
    (folder / "prometheus.yml").write_text(json.dumps({"global": {"scrape_interval": "2s"}, "scrape_configs": scrapes}))
    simulate = [
        sys.executable,
        "-m",
        "metrics_server",
        "simulate",
        "--url",
        server.url,
        "--ingress_port",
        str(ingress),
        "--metrics_port",
        str(custom),
    ]
    scraper = [
        program,
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/tsdb",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    started = []
    with (folder / "log").open("ab") as log:
        try:
            for command in (scraper, [*simulate, "--past", "1", "--rate", "20", "--label_delay", "0.2", "--seed", "1"]):
                started.append(subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
            server.post(FEEDBACK, {"Content-Type": "application/json"}, "/v1/feedback")
            server.post(UNLABELLED, ce(RESPONSE, "e1", "r1"))
            server.post(REWARD, {"Content-Type": "application/json"}, "/seldon/shop/bandit/api/v1.0/feedback")
            scraping = Prometheus(f"http://127.0.0.1:{port}")
            _await_busy(scraping, folder / "log")
            yield scraping
        finally:
            for process in started:
                process.terminate()
                process.wait(20)
            server.stop()


def _await_busy(prometheus: Prometheus, log: Path) -> None:
    """Until labels have come live to all models of the simulation, those of numbers the latest."""
    labels = 'rate(model_label_delay_seconds_sum{slice=""}[10s])'
    predictions = 'rate(model_prediction_latency_seconds_count{slice=""}[10s])'
    live = f"count({labels} > 0 and {predictions} > 0)"
    deadline = time.monotonic() + 60
    while not _is_ready(prometheus.url) or prometheus.values(live, time=_settled()) != [4.0]:
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.2)


def _settled() -> str:
    """A time of which every scrape is stored, so that one query after another sees the same."""
    return str(time.time() - 3)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=10) as answer:
            return answer.status == 200
    except OSError:  # it does not listen yet, or answers 503
        return False


def test_the_committed_dashboards_are_those_of_the_builder(tmp_path: Path) -> None:
    """Building them anew changes no byte."""
    subprocess.run([sys.executable, "-m", "deploy.dashboards.builder", str(tmp_path)], cwd=ROOT, check=True)
    built = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert built == {path.name: path.read_bytes() for path in DASHBOARDS.glob("*.json")}


@pytest.mark.parametrize("name", NAMES)
def test_every_query_finds_data(prometheus: Prometheus, name: str) -> None:
    """Some choice of the variables gives every query a number, and every answer is one that Prometheus could give."""
    silent: list[str] = []

    def all_speak() -> bool:
        silent[:] = _silent(prometheus, BOARDS[name])
        return not silent

    with suppress(AssertionError):  # on a busy machine a scrape may take longer than Prometheus waits
        until(all_speak, 60, "")
    assert not silent


def _silent(prometheus: Prometheus, board: Any) -> list[str]:
    """The queries that find nothing, whatever is chosen."""
    ways = choices(prometheus, board)
    silent = []
    for place, expression in expressions(board):
        asked = dict.fromkeys(filled(expression, way) for way in ways)
        if not any(prometheus.values(query) for query in asked) and not any(part in expression for part in EMPTY):
            silent.append(f"{place}: {expression}")
    return silent


def test_exceptions_are_still_needed() -> None:
    """Each names a query that is there."""
    asked = [expression for board in BOARDS.values() for _, expression in expressions(board)]
    assert all(any(part in expression for expression in asked) for part in EMPTY)


def test_each_kind_of_model_has_its_values(prometheus: Prometheus) -> None:
    """The panels that repeat by what a model has are those of its task."""
    ways = choices(prometheus, BOARDS["model"])
    found = {
        name: {way[kind] for way in ways if way["deployment"] == name for kind in ("ratio", "amount")}
        for name in ("digits", "diabetes")
    }
    assert {"model_accuracy_ratio", "model_cohen_kappa", "model_calibration_error_ratio"} <= found["digits"]
    assert {"model_mean_absolute_error", "model_weighted_absolute_percentage_error_ratio", "model_r2"} <= found[
        "diabetes"
    ]
    assert not found["digits"] & found["diabetes"]
    assert not [
        value
        for values in found.values()
        for value in values
        if value.endswith(("_lower", "_upper", "_support", "_coverage_ratio"))
    ]


def test_the_canary_is_compared_with_what_it_may_replace(prometheus: Prometheus) -> None:
    """The predictor with the most labels comes first as the baseline, and the interval of the difference is that of the
    server."""
    ways = [
        way
        for way in choices(prometheus, BOARDS["canary"])
        if way["deployment"] == "digits" and way["metric"] == "model_accuracy_ratio"
    ]
    assert (ways[0]["baseline"], ways[0]["candidate"]) == ("main", "canary")
    at = _settled()
    panels = {panel["title"]: panel["targets"] for panel in shown(BOARDS["canary"])}
    ends = {
        target["legendFormat"]: prometheus.values(filled(target["expr"], ways[0]), time=at)[0]
        for target in panels["$metric"] + panels["Difference of $metric"]
    }
    candidate, baseline = ((ends[f"{name} lower"], ends[f"{name} upper"]) for name in ("candidate", "baseline"))
    lower, upper = difference_interval(ends["candidate"], candidate, ends["baseline"], baseline)
    assert (ends["difference lower"], ends["difference upper"]) == pytest.approx((lower, upper))
    assert lower < ends["difference"] == pytest.approx(ends["candidate"] - ends["baseline"])
    assert upper < 0


def test_the_verdict_on_a_canary_is_one_line_beside_its_interval(prometheus: Prometheus) -> None:
    """Of five series one is shown, by its name, whichever the server's baseline is; the difference is within its
    interval."""
    way = next(way for way in choices(prometheus, BOARDS["canary"]) if way["deployment"] == "digits")
    panels = {panel["title"]: panel for panel in shown(BOARDS["canary"])}
    (asked,) = panels["Verdict"]["targets"]
    assert panels["Verdict"]["options"]["textMode"] == "name"

    def verdicts() -> list[dict[str, str]]:
        found = prometheus.get("query", query=filled(asked["expr"], way), time=_settled())["result"]
        return [one["metric"] for one in found]

    (labels,) = until(verdicts, 40, "no verdict")
    assert set(re.findall(r"\{\{(\w+)\}\}", asked["legendFormat"])) == labels.keys()
    assert labels["verdict"] in set(Verdict)
    assert {labels["predictor_name"], labels["baseline"]} == {way["candidate"], way["baseline"]} == {"main", "canary"}
    queries = [filled(target["expr"], way) for target in panels["Difference at every look"]["targets"]]
    until(lambda: prometheus.values(queries[0], time=_settled()), 40, "no interval")
    at = _settled()
    lower, upper, difference = (prometheus.values(query, time=at)[0] for query in queries)
    assert lower < difference < upper


def test_promtool_reads_every_query(tmp_path: Path) -> None:
    """Prometheus would take each as a rule, whatever the variables are."""
    asked = [filled(expression, {}) for board in BOARDS.values() for _, expression in expressions(board)]
    rules = [
        {"record": f"query:{number}", "expr": re.sub(r"\$\{?\w+\}?", "x", text)} for number, text in enumerate(asked)
    ]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboards", "rules": rules}]}))
    checked = subprocess.run(
        [peer("promtool"), "check", "rules", str(tmp_path / "rules.yml")], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_metric_is_one_that_the_server_shows() -> None:
    """A name in a query is a family's, and a pattern of names fits some; those of the platform are not ours."""
    families = [*MODEL, *(family.name for family in all_families())]
    names = {name + suffix for name in families for suffix in ("", "_total", "_bucket", "_sum", "_count", "_created")}
    names |= {*COUNTS}  # custom metrics, which models have
    for _, expression in (found for name in OF_SERVER for found in expressions(BOARDS[name])):
        patterns = re.findall(r'__name__=~"([^"$]*)"', expression)
        assert all(any(re.fullmatch(pattern, name) for name in names) for pattern in patterns)
        plain = re.sub(r'"[^"]*"', '""', expression)
        assert set(re.findall(r"\b(?:model|metrics_server)_\w+", plain)) - {"model_name"} <= names


def test_what_was_taken_back_is_not_shown() -> None:
    """A query of a counter that has a twin of what was taken back asks for the twin too."""
    twins = {name for name in MODEL if f"{name}_retracted" in MODEL}
    shown = set()
    for place, expression in (found for board in BOARDS.values() for found in expressions(board)):
        for name in twins & {counter.removesuffix("_total") for counter in re.findall(r"\w+", expression)}:
            assert f"{name}_retracted_total{{" in expression, place
            shown.add(name)
    assert shown == {"model_labels", "model_confusion", "model_predicted_class", "model_reward_values"}


@pytest.mark.parametrize("name", NAMES)
def test_dashboards_keep_the_rules_of_the_house(name: str) -> None:
    """Each has a lasting address, is found by its tag, is edited here only, and its panels say what they show, of which
    source."""
    board = BOARDS[name]
    assert board["uid"] == f"feedback-{name}"
    assert board["schemaVersion"] in (41, 42)
    assert board["editable"] is False
    assert board["tags"] == [link for links in board["links"] for link in links["tags"]]
    identifiers = [panel["id"] for panel in panels(board)]
    assert len(identifiers) == len(set(identifiers))
    for panel in shown(board):
        assert panel["title"]
        assert len(panel["description"]) > 15
        assert {panel["datasource"]["uid"], *(target["datasource"]["uid"] for target in panel["targets"])} == {
            "${datasource}"
        }


@pytest.mark.parametrize("name", NAMES)
def test_panels_fill_the_width_and_do_not_overlap(name: str) -> None:
    """Each cell of the grid is of one panel at most, and no line of panels is wider than the page."""
    taken: set[tuple[int, int]] = set()
    for panel in panels(BOARDS[name]):
        place = panel["gridPos"]
        cells = set(product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])))
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


@pytest.mark.parametrize("name", NAMES)
def test_every_variable_is_there_and_used(name: str) -> None:
    """What a query, a title or another variable asks for is defined; no choice is without effect."""
    board = BOARDS[name]
    defined = {variable["name"] for variable in variables(board)}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(board["panels"]) + json.dumps(board["templating"]))) - {"1"}
    grafanas_own = {name for name in used if name.startswith("__")}
    assert used - grafanas_own == defined


def test_the_queries_of_the_page_find_data(prometheus: Prometheus) -> None:
    """What the docs say to ask in OpenShift's console finds the executors' series, and custom metrics are scraped."""
    page = (ROOT / "docs/how-to/see-it-in-grafana.md").read_text()
    queries = [query for query in re.findall(r"```promql\n(.*?)```", page, re.DOTALL) if "seldon_api" in query]
    assert len(queries) == 2
    scraped = (
        "simulated_rows_total",
        "simulated_output",
        "rate(simulated_predict_count[1m])",
        'true_pos{job="wrappers"}',
    )
    for query in (*queries, *scraped):
        asked = query.replace("[5m]", "[30s]")
        until(lambda asked=asked: prometheus.values(asked), 40, query)
