"""Custom metrics of models on a real server: on the page for Prometheus, in the API, on the page, over restarts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from metrics_server.api.exposition import AncestorLabels
from metrics_server.metrics.custom_metric import METHOD, WRAPPER_LABELS
from metrics_server.series.series import Labels
from tests.conftest import Serve
from tests.support.deployments import starter
from tests.support.page_html import Html
from tests.support.running import FEEDBACK, RESPONSE, RunningServer, ce

OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
# As Seldon's Python wrapper 1.17.1 answers for a model with these metrics.
METRICS = [
    {"key": "mycounter", "tags": {"method": "transform_input", "mytag": "v"}, "type": "COUNTER", "value": 1},
    {"key": "made_total", "type": "COUNTER", "value": 2.5},
    {"key": "mygauge", "type": "GAUGE", "value": 22.0},
    {"key": "mytimer", "type": "TIMER", "value": 20.2},
]
# What the wrapper has beside the tags, but for the number of its process.
OF_WRAPPER = {
    "deployment_name": "wine",
    "image_name": "NOT_IMPLEMENTED",
    "image_version": "NOT_IMPLEMENTED",
    "method": "predict",
    "model_image": "NOT_IMPLEMENTED",
    "model_name": "classifier",
    "model_version": "NOT_IMPLEMENTED",
    "predictor_name": "main",
    "predictor_version": "NOT_IMPLEMENTED",
    "seldon_deployment_name": "wine",
    "seldon_deployment_namespace": "shop",
}
TOKEN = "a token that none of these servers but one asks for"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
MODEL = "/v1/models/shop/wine/main/classifier"


def post(server: RunningServer, number: int, metrics: Any = METRICS, kind: str = RESPONSE, **attributes: str) -> None:
    message = {"data": {"ndarray": [[0.9, 0.1]]}, "meta": {"metrics": metrics}}
    body = message if kind == RESPONSE else {"response": message, "truth": {"data": {"ndarray": [0]}}, "reward": 1}
    event = f"{attributes.get('inferenceservicename', 'wine')}-{number}"
    assert server.post(body, {**ce(kind, event, event, **attributes), **BEARER}).status == 200


def samples(server: RunningServer, *, as_openmetrics: bool = False) -> dict[tuple[str, frozenset[Any]], float]:
    """Every sample of the page, which its strict parser has read; no sample stands there twice."""
    text = server.get("/v1/metrics", OPENMETRICS if as_openmetrics else {}).body.decode()
    families = list((openmetrics if as_openmetrics else prometheus)(text))
    assert len({family.name for family in families}) == len(families)
    found = [(one.name, frozenset(one.labels.items()), one.value) for family in families for one in family.samples]
    by_labels = {(name, labels): value for name, labels, value in found}
    assert len(by_labels) == len(found)
    return by_labels


def custom(server: RunningServer) -> dict[str, float]:
    """The samples of these metrics but buckets, by name."""
    names = ("mycounter_total", "made_total", "mygauge", "mytimer_count", "mytimer_sum")
    return {name: value for (name, _), value in samples(server).items() if name in names}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One that takes all, but of some deployments."""
    folder = tmp_path_factory.mktemp("custom")
    entries = [
        {"deployment": "few", "custom_metrics": ["mygauge"]},
        {"deployment": "none", "custom_metrics": []},
        *({"deployment": level, "expose": level} for level in ("essential", "standard", "full")),
    ]
    (folder / "config.yaml").write_text(json.dumps({"custom_metrics": ["*"], "deployments": entries}))
    yield from starter(folder, "--config", str(folder / "config.yaml"), "--store", "memory://", "--windows", "1h")


@pytest.mark.parametrize("as_openmetrics", [False, True], ids=["text", "OpenMetrics"])
def test_names_and_labels_of_the_wrapper(server: RunningServer, *, as_openmetrics: bool) -> None:
    """Counters, gauges and timers have the names and labels that the wrapper exposes them with, in both formats: the
    tags beside them, what was called as `method`, timers in seconds. However often an event comes, and whatever
    feedback copies of it, it adds once."""
    name = "text" if not as_openmetrics else "open"
    for number in (1, 2, 2, 1):
        post(server, number, inferenceservicename=name)
        post(server, number, kind=FEEDBACK, inferenceservicename=name)
    found = samples(server, as_openmetrics=as_openmetrics)
    labels = OF_WRAPPER | {"deployment_name": name, "seldon_deployment_name": name}
    tagged = labels | {"method": "transform_input", "mytag": "v"}
    key = frozenset(labels.items())
    assert found["mycounter_total", frozenset(tagged.items())] == 2
    assert found["made_total", key] == 5
    assert found["mygauge", key] == 22
    assert found["mytimer_count", key] == 2
    assert found["mytimer_sum", key] == pytest.approx(0.0404)
    buckets = {dict(of)["le"]: n for (one, of), n in found.items() if one == "mytimer_bucket" and key < of}
    assert (buckets["0.01"], buckets["0.025"], buckets["+Inf"]) == (0, 2, 2)
    assert (("mygauge_created", key) in found) is False


def test_labels_that_tags_may_not_have() -> None:
    """The labels of the wrapper that a tag may not take are those that the page has, and that of its process."""
    labels = AncestorLabels("", "", "", "").of(Labels("", "", "", ""))
    assert {*labels, "worker_id"} == {*WRAPPER_LABELS, METHOD}


def test_types_that_contradict_each_other(server: RunningServer) -> None:
    """One key with two types in different series leaves a page that can be read in both formats: the first type stands
    and the other is counted as dropped. The API has what the page has."""
    before = server.value("metrics_server_dropped_custom_metrics_total", reason="type") or 0
    for deployment, kind in (("first", "GAUGE"), ("second", "COUNTER"), ("third", "TIMER")):
        post(server, 1, [{"key": "twofold", "type": kind, "value": 7}], inferenceservicename=deployment)
    for as_openmetrics in (False, True):
        found = [key for key in samples(server, as_openmetrics=as_openmetrics) if key[0].startswith("twofold")]
        assert [(name, dict(labels)["deployment_name"]) for name, labels in found] == [("twofold", "first")]
    assert server.value("metrics_server_dropped_custom_metrics_total", reason="type") == before + 2
    assert json.loads(server.get(MODEL.replace("wine", "second")).body)["custom_metrics"] == []


def test_which_deployment_has_which(server: RunningServer) -> None:
    """Each deployment has the names that its entry allows."""
    for deployment in ("few", "none"):
        post(server, 1, inferenceservicename=deployment)
    found = [key for key in samples(server) if key[0] in ("mycounter_total", "made_total", "mygauge", "mytimer_count")]
    have = {(dict(labels)["deployment_name"], name) for name, labels in found}
    assert {one for one in have if one[0] in ("few", "none")} == {("few", "mygauge")}


def test_levels_of_exposure(server: RunningServer) -> None:
    """`full` and `standard` show custom metrics, `essential` does not; the API has them at every level."""
    for level in ("essential", "standard", "full"):
        post(server, 1, inferenceservicename=level)
        assert len(json.loads(server.get(MODEL.replace("wine", level)).body)["custom_metrics"]) == 4
    shown = {dict(labels)["deployment_name"] for name, labels in samples(server) if name == "mygauge"}
    assert shown & {"essential", "standard", "full"} == {"standard", "full"}


def test_some_samples_alone(server: RunningServer) -> None:
    """`name[]` asks for custom metrics as for others."""
    post(server, 1, inferenceservicename="named")
    text = server.get("/v1/metrics?name[]=mytimer_sum&name[]=made_total").body.decode()
    assert {sample.name for family in prometheus(text) for sample in family.samples} == {"mytimer_sum", "made_total"}


def test_the_api_and_the_page(server: RunningServer) -> None:
    """The API has the metrics of a model with their tags, a timer by count and seconds, a gauge with the time of its
    event; the page has a table of them, in which what a tag says is text."""
    hostile = {"key": "odd", "value": 3, "tags": {"of": "<script>"}}
    post(server, 1, [*METRICS, hostile], inferenceservicename="shown", time="2026-03-02T09:15:04Z")
    path = MODEL.replace("wine", "shown")
    listed = json.loads(server.get(path).body)["custom_metrics"]
    assert listed == [
        {"name": "made_total", "type": "counter", "labels": {}, "value": 2.5},
        {
            "name": "mycounter_total",
            "type": "counter",
            "labels": {"method": "transform_input", "mytag": "v"},
            "value": 1,
        },
        {"name": "odd_total", "type": "counter", "labels": {"of": "<script>"}, "value": 3},
        {"name": "mygauge", "type": "gauge", "labels": {}, "value": 22, "at": 1772442904.0},
        {"name": "mytimer", "type": "histogram", "labels": {}, "count": 1, "sum": 0.0202},
    ]
    page = server.get(path.replace("/v1/", "/ui/")).body.decode()
    assert "<script>" not in page.partition("<main")[2].partition("custom-metrics")[2].partition("</table>")[0]
    text = Html(page).text
    assert (
        "Custom metrics made_total2.50 mycounter_total method transform_input mytag v1 odd_total of <script>3" in text
    )
    assert "mytimer20 ms mean of 1" in text


def test_over_restarts(serve: Serve, tmp_path: Path) -> None:
    """What was counted goes on after a restart; a name that the configuration does not have any more is gone from the
    page, and back as it was with the setting."""
    store = ("--store", f"sqlite:///{tmp_path}/state.db")
    everything = {"mycounter_total": 1, "made_total": 2.5, "mygauge": 22, "mytimer_count": 1, "mytimer_sum": 0.0202}
    first = serve(*store, "--custom_metrics", "*")
    post(first, 1)
    assert custom(first) == everything
    first.stop()
    second = serve(*store, "--custom-metrics", "mygauge")
    assert custom(second) == {"mygauge": 22}
    post(second, 2)
    second.stop()
    third = serve(*store, environment={"METRICS_SERVER_CUSTOM_METRICS": "*"})
    assert custom(third) == everything
    post(third, 1)
    assert custom(third) == everything
    post(third, 3)
    assert custom(third)["made_total"] == 5


def test_a_model_that_is_retired(serve: Serve, tmp_path: Path) -> None:
    """With a model that is deleted its custom metrics go, gauges too; when it comes back they start anew."""
    (tmp_path / "token").write_text(TOKEN)
    server = serve("--store", "memory://", "--custom_metrics", "*", "--token_file", str(tmp_path / "token"))
    post(server, 1)
    assert server.request("DELETE", MODEL, headers=BEARER).status in (200, 204)
    assert custom(server) == {}
    older = [{"key": "mygauge", "type": "GAUGE", "value": 2}, {"key": "mytimer", "value": 1}]
    post(server, 2, older, time="2026-03-02T09:15:04Z")
    assert custom(server) == {"mygauge": 2}
    assert server.value("mytimer_total") == 1


def test_nothing_by_default(serve: Serve) -> None:
    """A server that names no custom metrics takes the predictions and leaves the metrics alone, right or wrong."""
    server = serve("--store", "memory://")
    post(server, 1)
    post(server, 2, [{"key": "-"}, 7])
    assert custom(server) == {}
    assert server.value("model_predictions_total") == 2
    dropped = {dict(of)["reason"]: n for (name, of), n in samples(server).items() if "dropped_custom" in name
               and name.endswith("_total")}  # fmt: skip
    assert dropped == dict.fromkeys(("malformed", "name", "tag", "value", "type", "limit"), 0)
