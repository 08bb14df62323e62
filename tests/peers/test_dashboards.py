"""The dashboards: what is committed is what the builder makes, and every query finds data in a Prometheus that scrapes
a busy server."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client import CollectorRegistry

from metrics_server.metrics.confidence import of_difference
from metrics_server.series.families import MODEL
from metrics_server.telemetry import KafkaTelemetry, Telemetry
from tests.support.running import RESPONSE, ROOT, RunningServer, ce, free_port, peer

DASHBOARDS = ROOT / "deploy/dashboards"
NAMES = ("quality", "model", "canary", "serving", "server")
BOARDS: dict[str, Any] = {name: json.loads((DASHBOARDS / f"{name}.json").read_text()) for name in NAMES}
# Queries that find nothing here, by what stands in them.
EMPTY = {
    "metrics_server_kafka": "there is no Kafka",
    "ALERTS{": "this Prometheus has no rules",
}
GRAFANAS_OWN = {"__rate_interval": "10s", "__range": "1m"}
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


def _panels(board: Any) -> Iterator[Any]:
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels", ())


def _shown(board: Any) -> list[Any]:
    return [panel for panel in _panels(board) if panel["type"] != "row"]


def _variables(board: Any) -> list[Any]:
    return board["templating"]["list"]


def _expressions(board: Any) -> list[tuple[str, str]]:
    """Every query with where it stands."""
    queries = [(panel["title"], target["expr"]) for panel in _shown(board) for target in panel["targets"]]
    return queries + [(mark["name"], mark["expr"]) for mark in board["annotations"]["list"]]


def _filled(text: str, values: dict[str, str]) -> str:
    """With the variables' values in their places, as Grafana has it; a variable that is not known stays."""
    known = GRAFANAS_OWN | values
    return re.sub(r"\$\{(\w+)\}|\$(\w+)", lambda found: known.get(found[1] or found[2], found[0]), text)


class Prometheus(NamedTuple):
    """A real one, that scrapes a real server."""

    url: str

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer; an error fails the test."""
        try:
            with urllib.request.urlopen(
                f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=10
            ) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def values(self, expression: str, **at: str) -> list[float]:
        """What a query finds, without what is not a number; now, or at a time."""
        found = [float(one["value"][1]) for one in self.get("query", query=expression, **at)["result"]]
        return [value for value in found if not math.isnan(value)]

    def options(self, query: str, regex: str) -> list[str]:
        """What a variable offers."""
        if found := re.fullmatch(r"label_values\((.*), (\w+)\)", query):
            texts = self.get(f"label/{found[2]}/values", **{"match[]": found[1]})
        else:
            asked = re.fullmatch(r"query_result\((.*)\)", query)
            assert asked, query
            texts = [
                json.dumps(one["metric"]).replace('": "', '="') for one in self.get("query", query=asked[1])["result"]
            ]
        kept = (
            [re.search(regex.strip("/"), text) for text in texts] if regex else [re.match(".*", text) for text in texts]
        )
        return [found[1] if found.re.groups else found[0] for found in kept if found]


def _choices(prometheus: Prometheus, board: Any) -> list[dict[str, str]]:
    """Every way to set the variables that their queries allow; of a variable that stands for all, all that it stands
    for."""
    ways: list[dict[str, str]] = [{}]
    for variable in _variables(board):
        if variable["type"] == "datasource":
            continue
        further = []
        for way in ways:
            query = _filled(variable["query"]["query"], way)
            found = prometheus.options(query, variable.get("regex", ""))
            if variable["name"] == "window":
                found = [window for window in found if window == variable["current"]["value"]]
            further += [
                {**way, variable["name"]: value}
                for value in ([variable["allValue"]] if "allValue" in variable else found)
            ]
        assert further, f"the variable {variable['name']} offers nothing"
        ways = further
    return ways


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It scrapes a server every second that a simulated cluster, and others, log to."""
    folder = tmp_path_factory.mktemp("scraped")
    (folder / "models.yaml").write_text(CONFIGURATION)
    program, port = peer("prometheus"), free_port()
    server = RunningServer(folder, "--config", "models.yaml", "--slices", "protocol=attribute:protocol")
    scrape = {
        "job_name": "feedback-metrics-server",
        "metrics_path": "/v1/metrics",
        "static_configs": [{"targets": [server.url[7:]]}],
    }
    (folder / "prometheus.yml").write_text(
        json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": [scrape]})
    )
    simulate = [
        sys.executable,
        "-m",
        "metrics_server",
        "simulate",
        "--url",
        server.url,
        "--ingress_port",
        str(free_port()),
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
    return str(time.time() - 2)


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
    board = BOARDS[name]
    ways = _choices(prometheus, board)
    silent = []
    for place, expression in _expressions(board):
        asked = dict.fromkeys(_filled(expression, way) for way in ways)
        if not any(prometheus.values(query) for query in asked) and not any(part in expression for part in EMPTY):
            silent.append(f"{place}: {expression}")
    assert not silent


def test_exceptions_are_still_needed() -> None:
    """Each names a query that is there."""
    expressions = [expression for board in BOARDS.values() for _, expression in _expressions(board)]
    assert all(any(part in expression for expression in expressions) for part in EMPTY)


def test_each_kind_of_model_has_its_values(prometheus: Prometheus) -> None:
    """The panels that repeat by what a model has are those of its task."""
    ways = _choices(prometheus, BOARDS["model"])
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
        for way in _choices(prometheus, BOARDS["canary"])
        if way["deployment"] == "digits" and way["metric"] == "model_accuracy_ratio"
    ]
    assert (ways[0]["baseline"], ways[0]["candidate"]) == ("main", "canary")
    at = _settled()
    panels = {panel["title"]: panel["targets"] for panel in _shown(BOARDS["canary"])}
    ends = {
        target["legendFormat"]: prometheus.values(_filled(target["expr"], ways[0]), time=at)[0]
        for target in panels["$metric"] + panels["Difference of $metric"]
    }
    candidate, baseline = ((ends[f"{name} lower"], ends[f"{name} upper"]) for name in ("candidate", "baseline"))
    lower, upper = of_difference(ends["candidate"], candidate, ends["baseline"], baseline)
    assert (ends["difference lower"], ends["difference upper"]) == pytest.approx((lower, upper))
    assert lower < ends["difference"] == pytest.approx(ends["candidate"] - ends["baseline"])
    assert upper < 0


def test_promtool_reads_every_query(tmp_path: Path) -> None:
    """Prometheus would take each as a rule, whatever the variables are."""
    expressions = [_filled(expression, {}) for board in BOARDS.values() for _, expression in _expressions(board)]
    rules = [
        {"record": f"query:{number}", "expr": re.sub(r"\$\{?\w+\}?", "x", text)}
        for number, text in enumerate(expressions)
    ]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboards", "rules": rules}]}))
    checked = subprocess.run(
        [peer("promtool"), "check", "rules", str(tmp_path / "rules.yml")], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_metric_is_one_that_the_server_shows() -> None:
    """A name in a query is a family's, and a pattern of names fits some."""
    registry = CollectorRegistry()
    KafkaTelemetry(registry)
    families = [*MODEL, *(family.name for source in (Telemetry().registry, registry) for family in source.collect())]
    names = {name + suffix for name in families for suffix in ("", "_total", "_bucket", "_sum", "_count", "_created")}
    for _, expression in (found for board in BOARDS.values() for found in _expressions(board)):
        patterns = re.findall(r'__name__=~"([^"$]*)"', expression)
        assert all(any(re.fullmatch(pattern, name) for name in names) for pattern in patterns)
        plain = re.sub(r'"[^"]*"', '""', expression)
        assert set(re.findall(r"\b(?:model|metrics_server)_\w+", plain)) - {"model_name"} <= names


def test_what_was_taken_back_is_not_shown() -> None:
    """A query of a counter that has a twin of what was taken back asks for the twin too."""
    twins = {name for name in MODEL if f"{name}_retracted" in MODEL}
    shown = set()
    for place, expression in (found for board in BOARDS.values() for found in _expressions(board)):
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
    identifiers = [panel["id"] for panel in _panels(board)]
    assert len(identifiers) == len(set(identifiers))
    for panel in _shown(board):
        assert panel["title"]
        assert len(panel["description"]) > 15
        assert {panel["datasource"]["uid"], *(target["datasource"]["uid"] for target in panel["targets"])} == {
            "${datasource}"
        }


@pytest.mark.parametrize("name", NAMES)
def test_panels_fill_the_width_and_do_not_overlap(name: str) -> None:
    """Each cell of the grid is of one panel at most, and no line of panels is wider than the page."""
    taken: set[tuple[int, int]] = set()
    for panel in _panels(BOARDS[name]):
        place = panel["gridPos"]
        cells = set(product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])))
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


@pytest.mark.parametrize("name", NAMES)
def test_every_variable_is_there_and_used(name: str) -> None:
    """What a query, a title or another variable asks for is defined; no choice is without effect."""
    board = BOARDS[name]
    defined = {variable["name"] for variable in _variables(board)}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(board["panels"]) + json.dumps(board["templating"]))) - {"1"}
    grafanas_own = {name for name in used if name.startswith("__")}
    assert used - grafanas_own == defined
