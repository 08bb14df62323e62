"""Exemplars: from a wrong decision, or a slow prediction, on the page for Prometheus to its request and trace."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Exemplar as Parsed
from prometheus_client.samples import Sample

from metrics_server.api.exposition import EXEMPLAR_CHARACTERS
from metrics_server.pairing.exemplar import MOST_SERIES, WRONG, Exemplar, Exemplars
from tests.conftest import Serve
from tests.support.monitoring import Prometheus, fetched
from tests.support.running import FEEDBACK, REQUEST, RESPONSE, RunningServer, ce
from tests.support.waiting import until

TRACE, OTHER = "0af7651916cd43dd8448eb211c80319c", "4b1c9d0e7a6f4c0f9d2b3a5e6f708192"
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
DECISIONS, BUCKETS = "model_decisions_total", "model_prediction_latency_seconds_bucket"


def _traceparent(trace_id: str) -> str:
    return f"00-{trace_id}-b7ad6b7169203331-01"


def _pair(truth: Any, prediction: Any) -> dict[str, Any]:
    return {"response": {"data": {"ndarray": [prediction]}}, "truth": {"data": {"ndarray": [truth]}}}


def _told(server: RunningServer, request_id: str, truth: Any, prediction: Any, trace_id: str = TRACE) -> None:
    headers = {**ce(FEEDBACK, f"f-{request_id}", request_id), "ce-traceparent": _traceparent(trace_id)}
    assert server.post(_pair(truth, prediction), headers).status == 200


def _samples(server: RunningServer) -> list[Sample]:
    text = server.get("/v1/metrics", OPENMETRICS).body.decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def _exemplars(server: RunningServer) -> dict[tuple[str, str], Parsed]:
    """The exemplars by name and the label that tells several of it apart."""
    found = {}
    for sample in _samples(server):
        if sample.exemplar is not None:
            found[sample.name, sample.labels.get("le") or sample.labels["correct"]] = sample.exemplar
    return found


def _timed(server: RunningServer, request_id: str, seconds: float, trace_id: str) -> None:
    """Sends request and response of a prediction that took so long."""
    now = time.time() - 60
    for kind, at in ((REQUEST, now), (RESPONSE, now + seconds)):
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f"{at % 1:.6f}Z"[1:]
        headers = {**ce(kind, f"{kind}-{request_id}", request_id), "ce-time": stamp}
        headers["traceparent"] = _traceparent(trace_id)  # of the request that brings the event
        assert server.post({"data": {"ndarray": [[0.3]]}}, headers).status == 200


@pytest.mark.parametrize(
    ("options", "right", "wrong"),
    [
        ((), ("a", "a"), ("a", "b")),
        (("--threshold", "0.8"), (0, 0.7), (1, 0.7)),
        ((), (1, [0.1, 0.9]), (1, [0.9, 0.1])),
    ],
    ids=["classes", "scores", "rows"],
)
def test_a_wrong_decision_names_its_request(
    serve: Serve, options: Sequence[str], right: tuple[Any, Any], wrong: tuple[Any, Any]
) -> None:
    """The latest wrong decision, of classes, scores and rows of scores, stands behind the counter of wrong ones."""
    server = serve("--store", "memory://", "--exemplars", *options)
    _told(server, "first", *right, OTHER)
    assert _exemplars(server) == {}
    before = time.time()
    _told(server, "second", *wrong, OTHER)
    _told(server, "third", *wrong)
    _told(server, "fourth", *right, OTHER)
    ((place, found),) = _exemplars(server).items()
    assert place == (DECISIONS, "false")
    assert (found.labels, found.value) == ({"trace_id": TRACE, "request_id": "third"}, 1.0)
    assert before <= float(found.timestamp) <= time.time()


def test_feedback_in_plain_json_is_traced_by_its_request(serve: Serve) -> None:
    """An item of feedback has no trace of its own; that of the POST counts."""
    server = serve("--store", "memory://", "--exemplars")
    headers = {"Content-Type": "application/json", "traceparent": _traceparent(OTHER)}
    item = {"truth": "a", "prediction": "b", "request_id": "r1"}
    assert server.post(item, headers, "/v1/feedback").status == 200
    assert _exemplars(server)[DECISIONS, "false"].labels == {"trace_id": OTHER, "request_id": "r1"}


def test_each_bucket_of_latency_names_a_request(serve: Serve) -> None:
    """A prediction stands behind the bucket that it falls into, with its seconds."""
    server = serve("--store", "memory://", "--exemplars")
    _timed(server, "quick", 0.02, TRACE)
    _timed(server, "slow", 3.0, OTHER)
    found = _exemplars(server)
    assert found.keys() == {(BUCKETS, "0.025"), (BUCKETS, "5.0")}
    assert found[BUCKETS, "0.025"].labels == {"trace_id": TRACE, "request_id": "quick"}
    assert found[BUCKETS, "5.0"].labels == {"trace_id": OTHER, "request_id": "slow"}
    assert found[BUCKETS, "5.0"].value == pytest.approx(3.0, abs=1e-3)


def test_there_are_none_unless_they_are_asked_for(serve: Serve) -> None:
    """Without the option, and in Prometheus' own format, which has none, no line has an exemplar."""
    for options in ((), ("--exemplars",)):
        server = serve("--store", "memory://", *options)
        _told(server, "r", "a", "b")
        assert b" # {" not in server.get("/v1/metrics").body
        assert (b" # {" in server.get("/v1/metrics", OPENMETRICS).body) == bool(options)


@pytest.mark.parametrize(
    ("request_id", "shown"),
    [
        ('quo"te', None),
        ("back\\slash", None),
        ("x" * 78, "x" * 78),  # with the trace, and both names, 128 characters
        ("x" * 79, None),
        ("line\nbreak", None),
        ("été", "été"),
    ],
)
def test_an_id_is_shown_whole_or_not_at_all(serve: Serve, request_id: str, shown: str | None) -> None:
    """The labels have at most 128 characters; what does not fit, or is not plain text, is left out; the trace stays."""
    server = serve("--store", "memory://", "--exemplars")
    headers = {"Content-Type": "application/json", "traceparent": _traceparent(TRACE)}
    item = {"truth": "a", "prediction": "b", "request_id": request_id}
    assert server.post(item, headers, "/v1/feedback").status == 200
    found = _exemplars(server)[DECISIONS, "false"].labels
    assert found == {"trace_id": TRACE, **({"request_id": shown} if shown else {})}
    assert sum(map(len, (*found, *found.values()))) <= EXEMPLAR_CHARACTERS


def test_an_erased_request_is_named_no_more(serve: Serve, tmp_path: Path) -> None:
    """After the answer to its erasure no page names the request, also one that was rendered before."""
    (tmp_path / "token").write_text("correct horse battery staple")
    server = serve("--store", "memory://", "--exemplars", "--delete_token_file", str(tmp_path / "token"))
    _told(server, "wrong", "a", "b")
    _timed(server, "slow", 3.0, OTHER)
    assert len(_exemplars(server)) == 2
    for request_id in ("wrong", "slow"):
        owner = {"Authorization": "Bearer correct horse battery staple"}
        assert server.request("DELETE", f"/v1/requests/{request_id}", headers=owner).status == 204
    assert _exemplars(server) == {}


def _waits(found: Callable[[], Any], what: str) -> Any:
    return until(found, 30, what)


def test_a_real_prometheus_keeps_them(serve: Serve, tmp_path: Path) -> None:
    """Prometheus with exemplar storage scrapes them, and tells them of the series that we say."""
    server = serve("--store", "memory://", "--exemplars")
    _told(server, "r-1", "a", "b")
    _timed(server, "r-2", 3.0, OTHER)
    prometheus = Prometheus(tmp_path, server.port, features=["exemplar-storage"])

    def known(series: str) -> list[dict[str, str]]:
        answer = fetched(f"{prometheus.url}/api/v1/query_exemplars?query={series}&start={time.time() - 600}&end=9e9")
        return [exemplar["labels"] for one in answer["data"] for exemplar in one["exemplars"]]

    try:
        wrong = _waits(lambda: known(DECISIONS), "no exemplar of a wrong decision")
        slow = _waits(lambda: known(BUCKETS), "no exemplar of a latency")
    finally:
        prometheus.stop()
    assert wrong == [{"trace_id": TRACE, "request_id": "r-1"}]
    assert slow == [{"trace_id": OTHER, "request_id": "r-2"}]


class _Committed:
    """What a batch tells."""

    erased: Sequence[str] = ()

    def __init__(self, series_id: int) -> None:
        self.exemplars = {(series_id, WRONG): Exemplar("", f"r{series_id}", 1.0, 0.0)}


def test_they_are_bounded() -> None:
    """Of more series than a bound the first to have had one have none any more."""
    kept = Exemplars()
    for series_id in range(MOST_SERIES + 2):
        kept.take(_Committed(series_id))
    assert [kept.of(series_id, WRONG) is None for series_id in (0, 1, 2, MOST_SERIES + 1)] == [True, True, False, False]
