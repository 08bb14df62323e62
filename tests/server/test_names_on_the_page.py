"""Names that a metric model and custom metrics want for themselves: the page can be read, whoever comes first."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from tests.conftest import Serve
from tests.support.running import FEEDBACK, RESPONSE, RunningServer, ce

FORMATS = {
    "text": ({"Accept": "text/plain"}, prometheus),
    "OpenMetrics": ({"Accept": "application/openmetrics-text; version=1.0.0"}, openmetrics),
}
# A metric model of the old form whose counters have these names.
MODEL = """
class Mine:
    def transform(self, truth, response, request=None):
        return [{{"key": key, "type": "COUNTER", "value": 1}} for key in {keys!r}]
"""
CUSTOM = [("hits", "COUNTER"), ("hits", "GAUGE"), ("hits_total", "GAUGE"), ("hits_created", "GAUGE"), ("hits", "TIMER")]


def serving(serve: Serve, tmp_path: Path, *keys: str) -> RunningServer:
    """A server that takes all custom metrics, and has the metric model for all deployments but the ordinary one."""
    (tmp_path / "mine.py").write_text(MODEL.format(keys=keys))
    entries = [{"deployment": "ordinary", "storage_uri": "auto"}]
    configuration = {"custom_metrics": ["*"], "storage_uri": "mine.Mine", "deployments": entries}
    (tmp_path / "config.yaml").write_text(json.dumps(configuration))
    config = ("--config", str(tmp_path / "config.yaml"))
    return serve(*config, "--store", "memory://", environment={"PYTHONPATH": str(tmp_path)})


def label(server: RunningServer, deployment: str = "wine") -> None:
    body = {"response": {"data": {"ndarray": [[0.1, 0.9]]}}, "truth": {"data": {"ndarray": [1]}}}
    headers = ce(FEEDBACK, f"f-{deployment}", f"f-{deployment}", inferenceservicename=deployment)
    assert server.post(body, headers).status == 200


def tell(server: RunningServer, key: str, kind: str) -> None:
    body = {"data": {"ndarray": [[0.1, 0.9]]}, "meta": {"metrics": [{"key": key, "type": kind, "value": 7}]}}
    event = f"{key}-{kind}"
    assert server.post(body, ce(RESPONSE, event, event)).status == 200


def page(server: RunningServer, form: str, query: str = "") -> dict[str, list[Any]]:
    """The samples of a page by name. Each family is there once, and each sample too."""
    accept, parsed = FORMATS[form]
    text = server.get(f"/v1/metrics{query}", accept).body.decode()
    types = Counter(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    assert not [name for name, count in types.items() if count > 1]
    families = list(parsed(text))
    found: dict[str, list[Any]] = {}
    for sample in (sample for family in families for sample in family.samples):
        found.setdefault(sample.name, []).append(sample)
    for samples in found.values():
        assert len({frozenset(sample.labels.items()) for sample in samples}) == len(samples)
    return found


@pytest.mark.parametrize("is_custom_first", [False, True], ids=["counter first", "custom first"])
@pytest.mark.parametrize(("key", "kind"), CUSTOM)
def test_a_counter_goes_before_a_custom_metric(
    serve: Serve, tmp_path: Path, key: str, kind: str, *, is_custom_first: bool
) -> None:
    """What the server's metric model counts stands on the page; a custom metric that is named as it, or as one of its
    samples, does not, whichever came first, and `name[]` shows no more than the page."""
    server = serving(serve, tmp_path, "hits")
    if is_custom_first:
        tell(server, key, kind)
        assert page(server, "OpenMetrics").keys() & {key, f"{key}_total", f"{key}_count"}
    label(server)
    if not is_custom_first:
        tell(server, key, kind)
    for form in FORMATS:
        found = page(server, form)
        assert [sample.value for sample in found["hits_total"]] == [1]
        assert not found.keys() & {"hits", "hits_bucket", "hits_count", "hits_sum"}
        assert page(server, form, f"?name[]={key}").keys() <= found.keys()
        assert ("hits_created" in found) is (form == "OpenMetrics")


def test_a_counter_named_as_what_is_the_servers(serve: Serve, tmp_path: Path) -> None:
    """A metric model of the old form names its counters as it likes; one that is named as a family of the server's, or
    as a sample of another counter, is not on the page, and the rest is."""
    names = ("model_accuracy_ratio", "metrics_server_events", "model_last_label_timestamp_seconds", "good")
    server = serving(serve, tmp_path, *names, "good_created")
    label(server, "ordinary")
    before = {form: page(server, form) for form in FORMATS}
    label(server)
    for form in FORMATS:
        after = page(server, form)
        assert [sample.value for sample in after["good_total"]] == [1]
        assert not after.keys() & {"good_created_total", "model_accuracy_ratio_total"}
        assert len(after["metrics_server_events_total"]) == len(before[form]["metrics_server_events_total"])
        shares = {sample.labels["deployment_name"]: sample.value for sample in after["model_accuracy_ratio"]}
        assert shares == {"ordinary": 1}


@pytest.mark.parametrize("key", ["model_support", "metrics_server_events", "seldon_metric_true_positive"])
def test_a_custom_metric_named_as_the_servers(serve: Serve, key: str) -> None:
    """It is dropped and counted as one whose name cannot be taken, and its response counts."""
    server = serve("--store", "memory://", "--custom_metrics", "*")
    label(server)
    for kind in ("COUNTER", "GAUGE", "TIMER"):
        tell(server, key, kind)
    for form in FORMATS:
        assert page(server, form)["model_predictions_total"][0].value == 3
    assert server.value("metrics_server_dropped_custom_metrics_total", reason="name") == 3
