"""Feedback without CloudEvents: plain JSON on /v1/feedback, and Seldon's own route as its ingress has it."""

from __future__ import annotations

import gzip
import http.server
import json
import math
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_server.errors import Rejected
from metrics_server.ingest.elasticsearch.document import rows_to_look_up
from metrics_server.ingest.elasticsearch.lookup import MAX_WAITING
from metrics_server.ingest.feedback import observations_of
from metrics_server.ingest.payload.rows import MAX_ROWS
from metrics_server.pairing.observation import Observation
from metrics_server.series.series import Labels
from tests.conftest import Serve
from tests.support.deployments import cells_of
from tests.support.elastic import INDEX, await_lookups, logged, running_elastic
from tests.support.locks import locked
from tests.support.raw_http import Client, request
from tests.support.running import FEEDBACK, REQUEST, RESPONSE, Answer, RunningServer, ce
from tests.support.strategies import fuzzed, numbers, texts, times, values, written

JSON = {"Content-Type": "application/json"}
HOUR, DAY = 3600, 86400
SELDON_REPLY = {"data": {"tensor": {"shape": [0]}}, "meta": {}}


@pytest.fixture
def server(serve: Serve) -> RunningServer:
    """A server with its state in memory."""
    return serve("--store", "memory://")


def tell(server: RunningServer, body: Any, **headers: str) -> Answer:
    return server.post(body, {**JSON, **headers}, "/v1/feedback")


def told(server: RunningServer, body: Any) -> Any:
    """The statuses in an answer of 200."""
    answer = tell(server, body)
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "application/json"
    rows = json.loads(answer.body)
    return [row["status"] for row in rows] if isinstance(rows, list) else rows["status"]


def log(server: RunningServer, request_id: str, *rows: Any, **extensions: str) -> None:
    """A prediction of the request log."""
    headers = ce(RESPONSE, f"log-{request_id}-{extensions}", request_id, **extensions)
    assert server.post({"data": {"ndarray": list(rows)}}, headers).status == 200


def statuses(server: RunningServer) -> dict[str, float]:
    """Rows of truth by what became of them."""
    found = {dict(k[1])["status"]: v for k, v in server.samples().items() if k[0] == "model_labels_total" and v}
    return dict(sorted(found.items()))


def outcomes(server: RunningServer, kind: str = "feedback") -> dict[str, float]:
    labels = [(dict(k[1]), v) for k, v in server.samples().items() if k[0] == "metrics_server_events_total"]
    return {found["outcome"]: value for found, value in labels if found["type"] == kind and value}


# One object


def test_a_truth_for_a_logged_prediction(server: RunningServer) -> None:
    """It is accepted, makes a pair under the labels of the prediction, and counts as one feedback event with its line
    in the log."""
    log(server, "r", "cat")
    answer = tell(server, {"request_id": "r", "truth": "cat"})
    assert (answer.status, answer.body) == (200, b'{"status": "accepted"}')
    assert cells_of(server) == {("cat", "cat"): 1}
    assert server.value("model_accuracy_ratio", window="1h", deployment_name="wine", predictor_name="main") == 1
    assert statuses(server) == {"matched": 1}
    assert outcomes(server) == {"accepted": 1}
    assert server.value("metrics_server_received_total", type="feedback") == 1
    server.stop()
    assert server.log.read_text().count("PROCESSING Feedback Event.") == 1


def test_a_truth_before_its_prediction(server: RunningServer) -> None:
    """It is pending, and the pair is there once the prediction arrives as a CloudEvent."""
    assert told(server, {"request_id": "r", "truth": "cat"}) == "pending"
    assert server.value("metrics_server_pending_truths") in (0, 1)  # looked at now and then
    assert cells_of(server) == {}
    log(server, "r", "dog")
    assert cells_of(server) == {("cat", "dog"): 1}
    assert outcomes(server) == {"accepted": 1}


def test_null_takes_a_truth_back(server: RunningServer) -> None:
    """After it the pair is gone, and a later truth makes it anew."""
    log(server, "r", "cat")
    assert told(server, [{"request_id": "r", "truth": "cat"}, {"request_id": "r", "truth": None}]) == [
        "accepted",
        "accepted",
    ]
    assert cells_of(server) == {}
    assert statuses(server) == {"matched": 1, "retracted": 1}
    assert told(server, {"request_id": "r", "truth": "dog"}) == "accepted"
    assert cells_of(server) == {("dog", "cat"): 1}


def test_the_latest_truth_stands_in_any_order(server: RunningServer) -> None:
    """labelled_at orders truths: a later one corrects, an older one changes nothing, however they arrive."""
    log(server, "r", "cat")
    for truth, labelled_at in (
        ("cat", "2026-03-02T09:00:00Z"),
        ("dog", "2026-03-02T11:00:00+01:00"),
        ("cow", 1772440000),
    ):
        assert told(server, {"request_id": "r", "truth": truth, "labelled_at": labelled_at}) == "accepted"
    assert cells_of(server) == {("dog", "cat"): 1}
    assert statuses(server) == {"corrected": 1, "matched": 1, "superseded": 1}


def test_a_row_of_a_request(server: RunningServer) -> None:
    """`row` says which one, from 0; the others stay without a truth."""
    log(server, "r", "a", "b", "c")
    assert (
        told(server, [{"request_id": "r", "row": 2, "truth": "c"}, {"request_id": "r", "row": 1, "truth": "x"}])
        == ["accepted"] * 2
    )
    assert cells_of(server) == {("c", "c"): 1, ("x", "b"): 1}
    assert server.value("model_label_coverage_ratio", window="1h") == pytest.approx(2 / 3)
    assert told(server, {"request_id": "r", "row": MAX_ROWS - 1, "truth": "c"}) == "pending"


def test_an_item_of_a_batch(server: RunningServer) -> None:
    """<id>-item-<n> is row n of <id>, unless a prediction was logged under exactly that id."""
    log(server, "b", "a", "b", "c")
    log(server, "b-item-1", "exact")
    assert told(server, {"request_id": "b-item-2", "truth": "c"}) == "accepted"
    assert told(server, {"request_id": "b-item-1", "truth": "exact"}) == "accepted"
    assert cells_of(server) == {("c", "c"): 1, ("exact", "exact"): 1}


def test_a_request_id_may_be_a_number(server: RunningServer) -> None:
    """7 is the id "7"."""
    log(server, "7", "cat")
    assert told(server, {"request_id": 7, "truth": "cat"}) == "accepted"
    assert cells_of(server) == {("cat", "cat"): 1}


def test_a_clients_own_id_joins_too(server: RunningServer) -> None:
    """The meta.puid that a client gave its request is an id of the prediction, row by row."""
    assert server.post({"meta": {"puid": "mine"}}, ce(REQUEST, "1", "r")).status == 200
    log(server, "r", "a", "b")
    assert told(server, {"request_id": "mine", "row": 1, "truth": "b"}) == "accepted"
    assert cells_of(server) == {("b", "b"): 1}


@pytest.mark.parametrize(
    ("truth", "prediction", "name", "value"),
    [
        (1, [0.2, 0.8], "model_accuracy_ratio", 1.0),
        ([0, 1, 0], [0.1, 0.2, 0.7], "model_accuracy_ratio", 0.0),
        (True, False, "model_accuracy_ratio", 0.0),
        (14.5, 12.0, "model_mean_error", -2.5),
    ],
)
def test_the_forms_of_a_row(server: RunningServer, truth: Any, prediction: Any, name: str, value: float) -> None:
    """A number, a boolean, a label, or a flat list of numbers, on either side."""
    assert told(server, {"truth": truth, "prediction": prediction}) == "accepted"
    assert server.value(name, window="1h") == value


# A pair at once


def test_a_pair_at_once_takes_the_labels_it_names(serve: Serve) -> None:
    """Those that it leaves open are the server's own; without a request id each POST counts."""
    server = serve("--store", "memory://", environment={"SELDON_DEPLOYMENT_ID": "wine", "PREDICTOR_ID": "main"})
    pair = {"truth": "cat", "prediction": "cat", "namespace": "shop", "model": "m"}
    assert [told(server, pair) for _ in range(2)] == ["accepted", "accepted"]
    labels = {"deployment_namespace": "shop", "deployment_name": "wine", "predictor_name": "main", "model_name": "m"}
    assert server.value("model_support", window="1h", **labels) == 2


def test_a_pair_with_a_request_id_counts_once(server: RunningServer) -> None:
    """Stated again it is a duplicate among the labels, though the statement itself was accepted."""
    pair = {"request_id": "r", "truth": "cat", "prediction": "cat"}
    assert told(server, [pair, pair]) == ["accepted", "accepted"]
    assert cells_of(server) == {("cat", "cat"): 1}
    assert statuses(server) == {"duplicate": 1, "matched": 1}


def test_a_logged_prediction_takes_the_place_of_a_stated_one(server: RunningServer) -> None:
    """The log knows better what was said."""
    stated = {
        "request_id": "r",
        "truth": "cat",
        "prediction": "cat",
        "namespace": "shop",
        "deployment": "wine",
        "model": "classifier",
    }
    assert told(server, stated) == "accepted"
    assert cells_of(server) == {("cat", "cat"): 1}
    log(server, "r", "dog")
    assert cells_of(server) == {("cat", "dog"): 1}


def test_predicted_at_is_the_window_of_a_pair(server: RunningServer) -> None:
    """A prediction of two days ago is in the week, not in the hour, whenever it was labelled."""
    now = time.time()
    text = datetime.fromtimestamp(now - 2 * DAY, UTC).isoformat()
    assert told(server, {"truth": "cat", "prediction": "cat", "predicted_at": now - 2 * DAY}) == "accepted"
    assert told(server, {"truth": "cat", "prediction": "dog", "predicted_at": text, "labelled_at": now}) == "accepted"
    assert told(server, {"truth": "cat", "prediction": "dog", "labelled_at": now - 2 * DAY}) == "accepted"
    assert server.value("model_support", window="1h") in (None, 0)
    assert server.value("model_support", window="7d") == 3
    assert server.value("model_accuracy_ratio", window="7d") == pytest.approx(1 / 3)


def test_times_far_ahead_are_the_time_of_receipt(server: RunningServer) -> None:
    """Such a clock is not believed: the prediction counts as made now, a truth labelled now corrects, and both are
    counted."""
    ahead = time.time() + DAY
    assert told(server, {"truth": "cat", "prediction": "cat", "predicted_at": ahead}) == "accepted"
    assert server.value("model_support", window="1h") == 1
    log(server, "r", "dog")
    assert told(server, {"request_id": "r", "truth": "cat", "labelled_at": ahead}) == "accepted"
    assert told(server, {"request_id": "r", "truth": "dog"}) == "accepted"
    assert cells_of(server) == {("cat", "cat"): 1, ("dog", "dog"): 1}
    assert server.value("metrics_server_clamped_times_total") == 2


def test_a_scope_narrows_a_truth(server: RunningServer) -> None:
    """With a namespace or deployment stated, it is about predictions of those alone."""
    log(server, "r", "cat", inferenceservicename="wine")
    log(server, "r", "dog", inferenceservicename="iris")
    assert told(server, {"request_id": "r", "truth": "cat", "deployment": "iris", "namespace": "shop"}) == "accepted"
    assert server.value("model_support", window="1h", deployment_name="iris") == 1
    assert server.value("model_support", window="1h", deployment_name="wine") in (None, 0)
    assert told(server, {"request_id": "r", "truth": "cat"}) == "accepted"
    assert server.value("model_support", window="1h", deployment_name="wine") == 1


def test_score_models_holds_for_stated_predictions(serve: Serve) -> None:
    """The prediction of a node that is not scored counts nowhere."""
    server = serve("--store", "memory://", "--score_models", "a")
    pairs = [{"truth": 1, "prediction": 1, "model": model} for model in ("a", "b")]
    assert told(server, pairs) == ["accepted", "accepted"]
    assert server.value("model_support", window="1h") == 1


# Repeats


def test_a_repeat_of_a_dated_statement_changes_nothing(server: RunningServer) -> None:
    """With its request id and labelled_at it is known again: answered duplicate, and no model series moves."""
    log(server, "r", "cat")
    statement = {"request_id": "r", "truth": "cat", "labelled_at": "2026-03-02T09:00:00Z"}
    assert told(server, statement) == "accepted"
    before = {key: value for key, value in server.samples().items() if key[0].startswith("model_")}
    same = {
        "labelled_at": "2026-03-02T10:00:00+01:00",
        "truth": "cat",
        "request_id": "r",
        "row": 0,
        "weight": 1,
        "model": None,
    }
    assert told(server, [statement, same]) == ["duplicate", "duplicate"]
    assert {key: value for key, value in server.samples().items() if key[0].startswith("model_")} == before
    assert outcomes(server) == {"accepted": 1, "duplicate": 2}
    assert told(server, {**statement, "truth": "dog"}) == "accepted"


def test_a_repeat_is_known_whatever_its_request_has_met(server: RunningServer) -> None:
    """Pending or not, under an item's id, and after its prediction has come under another id."""
    item = {"request_id": "b-item-1", "truth": "b", "labelled_at": 1772440000}
    mine = {"request_id": "mine", "row": 1, "truth": "b", "labelled_at": 1772440000}
    assert told(server, [item, item, mine, mine]) == ["pending", "duplicate", "pending", "duplicate"]
    log(server, "b", "a", "b")
    log(server, "r", "a", "b")
    assert server.post({"meta": {"puid": "mine"}}, ce(REQUEST, "1", "r")).status == 200
    assert cells_of(server) == {("b", "b"): 2}
    assert told(server, [item, mine]) == ["duplicate", "duplicate"]
    assert cells_of(server) == {("b", "b"): 2}


def test_a_repeat_without_a_date_is_stated_anew(server: RunningServer) -> None:
    """The same truth again changes no net number, and is a duplicate among the labels."""
    log(server, "r", "cat")
    assert [told(server, {"request_id": "r", "truth": "cat"}) for _ in range(2)] == ["accepted", "accepted"]
    assert cells_of(server) == {("cat", "cat"): 1}
    assert statuses(server) == {"duplicate": 1, "matched": 1}


def test_a_repeat_after_a_restart_is_known(serve: Serve) -> None:
    """What has been taken is kept with the request."""
    statement = {"request_id": "r", "truth": "cat", "prediction": "cat", "labelled_at": time.time()}
    first = serve()
    assert told(first, statement) == "accepted"
    first.stop()
    again = serve()
    assert told(again, statement) == "duplicate"
    assert cells_of(again) == {("cat", "cat"): 1}


# Lists


def test_a_list_is_answered_in_its_order(server: RunningServer) -> None:
    """One status for each element: accepted, pending, duplicate, rejected; what can be used counts."""
    log(server, "r", "cat")
    dated = {"request_id": "r", "truth": "cat", "labelled_at": 1772440000}
    answer = tell(server, [dated, {"request_id": "later", "truth": 1}, dated, {"request_id": "r", "truht": "cat"}, 7])
    assert answer.status == 200
    rows = json.loads(answer.body)
    assert [row["status"] for row in rows] == ["accepted", "pending", "duplicate", "rejected", "rejected"]
    assert rows[3] == {
        "status": "rejected",
        "reason": "malformed_feedback",
        "detail": "[3] feedback: Object contains unknown field `truht`",
    }
    assert rows[4]["reason"] == "malformed_feedback"
    assert cells_of(server) == {("cat", "cat"): 1}
    assert outcomes(server) == {"accepted": 2, "duplicate": 1, "rejected": 2}
    assert server.value("metrics_server_rejected_total", reason="malformed_feedback") == 2
    assert [row["detail"][:3] for row in json.loads(server.get("/v1/rejected").body)] == ["[4]", "[3]"]


def test_a_list_of_which_nothing_can_be_used(server: RunningServer) -> None:
    """400, with the list."""
    answer = tell(server, [{}, "x"])
    assert answer.status == 400
    assert [row["status"] for row in json.loads(answer.body)] == ["rejected", "rejected"]
    assert outcomes(server) == {"rejected": 2}


def test_an_empty_list(server: RunningServer) -> None:
    """There is nothing to refuse."""
    answer = tell(server, b" \n[]")
    assert (answer.status, answer.body) == (200, b"[]")
    assert outcomes(server) == {}


def test_a_long_list(server: RunningServer) -> None:
    """20,000 elements are taken at once, one more is refused as a whole."""
    pair = {"truth": 1, "prediction": 0.75}
    rows = [pair] * MAX_ROWS
    assert told(server, rows) == ["accepted"] * MAX_ROWS
    assert server.value("model_support", window="1h") == MAX_ROWS
    for longer in ([*rows, pair], [0] * (MAX_ROWS + 1)):
        answer = tell(server, longer)
        assert (answer.status, answer.reason) == (422, "too_many_rows")
    assert outcomes(server) == {"accepted": MAX_ROWS, "rejected": 2}


# What is refused

GOOD = {"request_id": "r", "truth": 1}
REFUSED = [
    ("a truth that is absent", {"request_id": "r"}, 422, "malformed_feedback"),
    ("a prediction without a truth", {"request_id": "r", "prediction": 1}, 422, "malformed_feedback"),
    ("a name that is misspelt", {**GOOD, "labeled_at": 5}, 422, "malformed_feedback"),
    ("no object", "truth", 422, "malformed_feedback"),
    ("null", None, 422, "malformed_feedback"),
    ("a truth with nothing to join on", {"truth": 1}, 422, "malformed_feedback"),
    ("null with nothing to take back", {"truth": None, "prediction": 1}, 422, "malformed_feedback"),
    ("a weight of 0", {**GOOD, "weight": 0}, 422, "malformed_feedback"),
    ("a negative weight", {**GOOD, "weight": -1}, 422, "malformed_feedback"),
    ("a weight beyond the limit", {**GOOD, "weight": 1e4}, 422, "malformed_feedback"),
    ("a weight of true", {**GOOD, "weight": True}, 422, "malformed_feedback"),
    ("a row below 0", {**GOOD, "row": -1}, 422, "malformed_feedback"),
    ("a row beyond the last", {**GOOD, "row": MAX_ROWS}, 422, "malformed_feedback"),
    ("a row that is a fraction", {**GOOD, "row": 0.5}, 422, "malformed_feedback"),
    ("a request id that is a fraction", {**GOOD, "request_id": 0.5}, 422, "malformed_feedback"),
    ("a request id that is empty", {**GOOD, "request_id": ""}, 422, "malformed_feedback"),
    ("a request id that is too long", {**GOOD, "request_id": "x" * 1025}, 422, "label_too_long"),
    ("a name that is too long", {**GOOD, "model": "x" * 257}, 422, "label_too_long"),
    ("a name with a line break", {**GOOD, "deployment": "a\nb"}, 422, "label_too_long"),
    ("a label that is too long", {**GOOD, "truth": "x" * 257}, 422, "label_too_long"),
    ("a truth that is an object", {**GOOD, "truth": {"class": 1}}, 422, "malformed_payload"),
    ("a truth of several rows", {**GOOD, "truth": [[0, 1], [1, 0]]}, 422, "malformed_payload"),
    ("a truth of texts", {**GOOD, "truth": ["a", "b"]}, 422, "malformed_payload"),
    ("a truth that is an empty list", {**GOOD, "truth": []}, 422, "shape_mismatch"),
    ("a prediction too wide", {**GOOD, "prediction": [0.5] * 7282}, 422, "row_too_large"),
    ("a number too large", {**GOOD, "truth": 1e13}, 400, "out_of_range"),
    ("a number beyond floats", b'{"request_id": "r", "truth": 1e400}', 400, "out_of_range"),
    ("a time beyond floats", b'{"request_id": "r", "truth": 1, "labelled_at": 1e400}', 400, "out_of_range"),
    ("NaN", b'{"request_id": "r", "truth": NaN}', 400, "not_a_number"),
    ("NaN in a list", b'[{"request_id": "r", "truth": 1}, {"request_id": "r", "truth": NaN}]', 400, "not_a_number"),
    ("a lone surrogate", b'{"request_id": "\\ud800", "truth": 1}', 400, "invalid_utf8"),
    ("nesting without end", b'{"request_id": "r", "truth": ' + b"[" * 45_000 + b"]" * 45_000 + b"}", 400, "too_deep"),
    ("no JSON", b"truth=1", 400, "malformed_json"),
    ("nothing", b"", 400, "malformed_json"),
    ("a time that is none", {**GOOD, "labelled_at": "yesterday"}, 400, "bad_time"),
    ("a time without its zone", {**GOOD, "predicted_at": "2026-03-02T09:00:00"}, 400, "bad_time"),
    ("milliseconds", {**GOOD, "predicted_at": 1772440000000}, 400, "bad_time"),
    ("a time that is a boolean", {**GOOD, "predicted_at": True}, 422, "malformed_feedback"),
]


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server that is only ever sent what it refuses."""
    server = RunningServer(tmp_path_factory.mktemp("refusing"), "--store", "memory://")
    yield server
    server.stop()


@pytest.mark.parametrize(("what", "body", "status", "reason"), REFUSED, ids=[case[0] for case in REFUSED])
def test_what_cannot_be_used_is_refused(
    refusing: RunningServer, what: str, body: Any, status: int, reason: str
) -> None:
    """It gets its reason, counts as one rejected feedback, and moves no number."""
    before = outcomes(refusing).get("rejected", 0)
    answer = tell(refusing, b"null" if body is None else body)
    assert (answer.status, answer.reason) == (status, reason), answer.body
    assert outcomes(refusing) == {"rejected": before + 1}
    assert not [name for name, _ in refusing.samples() if name.startswith("model_")]


def test_the_detail_names_what_is_wrong(server: RunningServer) -> None:
    """The member, the field or the time that was meant."""
    for member, value in (("truth_", 1), ("weight", -2), ("labelled_at", "x"), ("row", -1), ("predicted_at", 1e12)):
        detail = json.loads(tell(server, {**GOOD, member: value}).body)["error"]["detail"]
        assert member in detail


def test_other_content_types_are_refused(server: RunningServer) -> None:
    """JSON is what is read; no type at all is taken for it, and a charset does no harm."""
    assert server.post(GOOD, {"Content-Type": "text/plain"}, "/v1/feedback").reason == "unsupported_format"
    assert server.post(GOOD, {"Content-Type": "application/cloudevents+json"}, "/v1/feedback").status == 415
    assert server.post(GOOD, {"Content-Type": "Application/JSON; charset=utf-8"}, "/v1/feedback").status == 200


def test_headers_of_events_mean_nothing_here(server: RunningServer) -> None:
    """A stray Ce- header makes no CloudEvent of a statement."""
    assert tell(server, {"truth": 1, "prediction": 1}, **ce(RESPONSE, "1", "r")).body == b'{"status": "accepted"}'
    assert outcomes(server) == {"accepted": 1}


# The envelope: compression, limits, token, methods, an unavailable store


@pytest.mark.parametrize("path", ["/v1/feedback", "/api/v1.0/feedback"])
def test_compression_limits_and_token_are_those_of_events(serve: Serve, tmp_path: Path, path: str) -> None:
    """gzip with or without its header, damaged gzip, a body that is too large, a token that is missing."""
    (tmp_path / "token").write_text("s3cret")
    server = serve("--store", "memory://", "--token_file", str(tmp_path / "token"), "--max_body_bytes", "1000")
    bodies = {
        "/v1/feedback": {"truth": 1, "prediction": 1},
        "/api/v1.0/feedback": {"truth": {"strData": "1"}, "response": {"strData": "1"}},
    }
    zipped = gzip.compress(json.dumps(bodies[path]).encode())
    known = {**JSON, "Authorization": "Bearer s3cret"}
    assert server.post(zipped, {**known, "Content-Encoding": "gzip"}, path).status == 200
    assert server.post(zipped, known, path).status == 200
    assert server.post(zipped[:-9], known, path).reason == "malformed_gzip"
    assert server.post(bodies[path], {**known, "Content-Encoding": "br"}, path).reason == "unsupported_encoding"
    assert server.post(b" " * 1001, known, path).reason == "body_too_large"
    assert server.post(gzip.compress(b" " * 1001), known, path).reason == "body_too_large"
    assert server.post(bodies[path], JSON, path).status == 401
    assert server.post(bodies[path], JSON, f"{path}?access_token=s3cret").status == 200
    assert server.value("model_support", window="1h") == 3


@pytest.mark.parametrize(
    "path", ["/v1/feedback", "/api/v1.0/feedback", "/api/v0.1/feedback", "/seldon/shop/wine/api/v1.0/feedback"]
)
def test_other_methods(server: RunningServer, path: str) -> None:
    """405, with Allow: POST; what only looks like the path is a 404."""
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"):
        answer = server.request(method, path)
        assert (answer.status, answer.headers["Allow"]) == (405, "POST"), method
    for method in ("POST", "GET"):
        assert server.request(method, f"{path}/").status == 404
        assert server.request(method, path.replace("feedback", "feedbacks")).status == 404


def test_a_locked_store(serve: Serve, tmp_path: Path) -> None:
    """503 with Retry-After for one and for a list with anything to come again; afterwards the same list counts once."""
    server = serve("--store", f"sqlite:///{tmp_path / 'state.db'}")
    rows = [{"request_id": f"r{n}", "truth": 1, "prediction": 1, "labelled_at": 1772440000 + n} for n in range(3)]
    seldon = {"truth": {"strData": "1"}, "response": {"strData": "1"}}
    posts = ((rows[0], "/v1/feedback"), ([*rows, {}], "/v1/feedback"), (seldon, "/api/v1.0/feedback"))
    with locked(tmp_path / "state.db"), ThreadPoolExecutor(len(posts)) as pool:
        for answer in pool.map(lambda post: server.post(post[0], {**JSON, "Seldon-Puid": "p"}, post[1]), posts):
            assert (answer.status, answer.reason, answer.headers["Retry-After"]) == (503, "unavailable", "1")
    assert told(server, rows) == ["accepted"] * 3
    assert told(server, rows) == ["duplicate"] * 3
    assert cells_of(server) == {("1", "1"): 3}
    assert outcomes(server) == {"accepted": 3, "duplicate": 3, "rejected": 1, "unavailable": 5}


def test_a_list_is_queued_as_a_whole(serve: Serve) -> None:
    """A queue with room for one takes a longer list too: else it could never be sent."""
    server = serve("--store", "memory://", "--max_queue_events", "1")
    assert told(server, [{"truth": 1, "prediction": 1}] * 500) == ["accepted"] * 500
    assert server.value("model_support", window="1h") == 500


def test_one_series_too_many(serve: Serve) -> None:
    """A pair that would need it is refused, the others of its list are not."""
    server = serve("--store", "memory://", "--max_series", "1")
    rows = [{"request_id": f"r-{model}", "truth": 1, "prediction": 1, "model": model} for model in ("a", "b", "a")]
    answer = tell(server, rows)
    assert [row["status"] for row in json.loads(answer.body)] == ["accepted", "rejected", "accepted"]
    assert json.loads(answer.body)[1]["reason"] == "too_many_series"
    assert json.loads(server.get("/v1/rejected").body)[0]["requestid"] == "r-b"


near = st.fixed_dictionaries(
    {"truth": values},
    optional={
        **dict.fromkeys(("prediction", "typo"), values),
        **dict.fromkeys(("namespace", "deployment", "predictor", "model"), texts | values),
        "request_id": texts | st.integers() | values,
        "row": st.integers(-1, MAX_ROWS) | values,
        "labelled_at": times | numbers,
        "predicted_at": times | numbers,
        "weight": st.just(1) | numbers,
    },
)


@fuzzed
@given(near | st.lists(near | values, max_size=4))
def test_any_json_as_statements(body: Any) -> None:
    """Each element is read or refused; nothing else happens."""
    try:
        observations = observations_of(written(body), Labels("", "", "", ""), 1772440000.0)
    except Rejected:
        return
    assert len(observations) == (len(body) if isinstance(body, list) else 1)
    for observation in observations:
        assert isinstance(observation, (Observation, Rejected))
        if isinstance(observation, Observation):
            assert len(observation.rows) == 1
            assert all(
                math.isfinite(at)
                for at in (observation.time, *(a.prediction.at for a in observation.rows if a.prediction))
            )


def test_as_many_rows_are_looked_up_as_have_a_statements_own() -> None:
    """Rounded up, so that the rows of a list agree on few."""
    for row, rows in ((0, 1), (1, 2), (2, 4), (3, 4), (4, 8), (MAX_ROWS - 1, MAX_ROWS)):
        (observation,) = observations_of(
            written({"request_id": "r", "row": row, "truth": 1}), Labels("", "", "", ""), 1000.0
        )
        assert isinstance(observation, Observation)
        assert rows_to_look_up(observation) == rows


def test_pending_statements_are_looked_up(serve: Serve) -> None:
    """A row of a batch finds its prediction in Elasticsearch; the rows of one list ask for their request once or
    twice."""
    with running_elastic() as elastic:
        elastic.documents[INDEX] |= {f"r-item-{n}": logged([0.1, 0.9]) for n in range(4)}
        server = serve("--store", "memory://", "--elasticsearch_uri", elastic.uri)
        names = {"namespace": "shop", "deployment": "wine", "predictor": "main"}
        assert told(server, [{"request_id": "r", "row": n, "truth": n % 2, **names} for n in (2, 3)]) == [
            "pending",
            "pending",
        ]
        await_lookups(server, "found")
        assert cells_of(server) == {("0", "1"): 1, ("1", "1"): 1}
        assert len(elastic.asked) == 5
        elastic.shutdown()


def test_a_long_list_of_pending_statements_holds_nobody_up(serve: Serve) -> None:
    """Whatever rows they are about, and however many look-ups wait already: what is asked for costs the list next to
    nothing."""
    with running_elastic() as elastic:
        elastic.gate.clear()
        server = serve("--store", "memory://", "--elasticsearch_uri", elastic.uri)
        rows = [{"request_id": f"r{n}", "row": MAX_ROWS - 1, "truth": 1} for n in range(4000)]
        started = time.monotonic()
        assert told(server, rows) == ["pending"] * len(rows)
        assert time.monotonic() - started < 15
        assert server.value("metrics_server_lookups_total", outcome="dropped") == len(rows) - MAX_WAITING
        elastic.gate.set()
        server.process.kill()
        elastic.shutdown()


# Seldon's route

PAIR = {"response": {"data": {"ndarray": ["cat"]}}, "truth": {"data": {"ndarray": ["dog"]}}}


@pytest.mark.parametrize("path", ["/api/v1.0/feedback", "/api/v0.1/feedback"])
def test_seldons_route_answers_as_the_ingress(server: RunningServer, path: str) -> None:
    """The empty message of Seldon, as JSON; without an id each POST counts."""
    for _ in range(2):
        answer = server.post(PAIR, JSON, path)
        assert (answer.status, json.loads(answer.body)) == (200, SELDON_REPLY)
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Seldon-Puid"] is None
    assert cells_of(server) == {("dog", "cat"): 2}
    assert outcomes(server) == {"accepted": 2}


def test_seldon_puid_joins_a_logged_prediction(server: RunningServer) -> None:
    """The header is the request id, is echoed, goes before the body's meta.puid, and counts a pair once."""
    log(server, "p", "cat")
    truth = {"truth": {"data": {"ndarray": ["dog"]}}, "response": {"meta": {"puid": "other"}}}
    for _ in range(2):
        answer = server.post(truth, {**JSON, "Seldon-Puid": "p"}, "/api/v1.0/feedback")
        assert (answer.status, answer.headers["seldon-puid"]) == (200, "p")
    assert cells_of(server) == {("dog", "cat"): 1}
    assert statuses(server) == {"duplicate": 1, "matched": 1}


def test_the_puid_of_the_body_joins(server: RunningServer) -> None:
    """Without the header it is that of response, request or truth."""
    log(server, "p", "cat")
    assert (
        server.post(
            {"truth": {"strData": "dog"}, "request": {"meta": {"puid": "p"}}}, JSON, "/api/v1.0/feedback"
        ).status
        == 200
    )
    assert cells_of(server) == {("dog", "cat"): 1}


def test_a_puid_is_read_as_its_copy_in_an_event(server: RunningServer) -> None:
    """What Ce-Requestid undoes is undone here too, and the header is echoed as it came."""
    log(server, "a%20b", "cat")
    answer = server.post({"truth": {"strData": "dog"}}, {**JSON, "Seldon-Puid": "a%20b"}, "/api/v1.0/feedback")
    assert answer.headers["Seldon-Puid"] == "a%20b"
    assert cells_of(server) == {("dog", "cat"): 1}


def test_the_path_of_the_ingress_names_the_deployment(server: RunningServer) -> None:
    """/seldon/<namespace>/<deployment>/ narrows a truth, and labels a pair."""
    log(server, "p", "cat", inferenceservicename="wine")
    log(server, "p", "cat", inferenceservicename="iris")
    path = "/seldon/shop/iris/api/v1.0/feedback"
    assert server.post({"truth": {"strData": "cat"}}, {**JSON, "Seldon-Puid": "p"}, path).status == 200
    assert server.value("model_support", window="1h", deployment_name="iris") == 1
    assert server.value("model_support", window="1h", deployment_name="wine") in (None, 0)
    assert server.post(PAIR, JSON, "/seldon/shop/new/api/v0.1/feedback").status == 200
    assert server.value("model_support", window="1h", deployment_namespace="shop", deployment_name="new") == 1


def test_seldons_route_refuses_as_events_are_refused(server: RunningServer) -> None:
    """The usual errors; with the header echoed where there was one."""
    answer = server.post(b"{", {**JSON, "Seldon-Puid": "p"}, "/api/v1.0/feedback")
    assert (answer.status, answer.reason, answer.headers["Seldon-Puid"]) == (400, "malformed_json", "p")
    assert server.post({"truth": {"strData": "1"}}, JSON, "/api/v1.0/feedback").reason == "malformed_feedback"
    assert server.post(PAIR, {**JSON, "Seldon-Puid": "x" * 1025}, "/api/v1.0/feedback").reason == "label_too_long"
    assert outcomes(server) == {"rejected": 3}


def test_a_puid_sent_twice_is_refused(server: RunningServer) -> None:
    """Nobody could say which of them is meant."""
    body = json.dumps(PAIR).encode()
    with Client(server.port) as client:
        client.send(request("/api/v1.0/feedback", body, "Seldon-Puid: a", "SELDON-PUID: b"))
        answer = client.answer()
    assert (answer.status, json.loads(answer.body)["error"]["reason"]) == (400, "duplicate_header")


def test_seldons_route_reads_protobuf(server: RunningServer) -> None:
    """A Feedback with truth and response as protobuf, by its content type."""
    pb = pytest.importorskip("metrics_server.ingest.payload.pb.seldon_pb2")
    message = pb.Feedback(response=pb.SeldonMessage(strData="cat"), truth=pb.SeldonMessage(strData="dog"))
    answer = server.post(message.SerializeToString(), {"Content-Type": "application/x-protobuf"}, "/api/v1.0/feedback")
    assert (answer.status, json.loads(answer.body)) == (200, SELDON_REPLY)
    assert cells_of(server) == {("dog", "cat"): 1}


def test_replies_are_for_events(serve: Serve) -> None:
    """With reply events configured, both routes answer as they do without."""
    server = serve("--store", "memory://", "--event_type", "reply", "--event_source", "/s")
    assert server.post(PAIR, ce(FEEDBACK, "1", "r")).headers["ce-type"] == "reply"
    assert json.loads(server.post(PAIR, JSON, "/api/v1.0/feedback").body) == SELDON_REPLY
    answer = tell(server, {"truth": 1, "prediction": 1})
    assert (answer.body, answer.headers["ce-type"]) == (b'{"status": "accepted"}', None)


class _Sink(http.server.BaseHTTPRequestHandler):
    ids: queue.Queue[str]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.ids.put(self.headers["ce-id"])

    def log_message(self, *unused: Any) -> None:
        """Says nothing."""


def test_replies_to_feedback_without_an_id_are_told_apart(serve: Serve) -> None:
    """Each POST of it counts, so each has a reply of its own, in the answer and at --reply_url; with an id there is
    one."""

    class Sink(_Sink):
        ids = queue.Queue()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink) as sink:
        threading.Thread(target=sink.serve_forever, daemon=True).start()
        options = (
            "--event_type",
            "reply",
            "--event_source",
            "/s",
            "--reply_url",
            f"http://127.0.0.1:{sink.server_address[1]}",
        )
        server = serve("--store", "memory://", *options)
        bare = [server.post(PAIR, JSON).headers["ce-id"] for _ in range(2)]
        for _ in range(2):
            server.post(PAIR, JSON, "/api/v1.0/feedback")
        known = [server.post(PAIR, ce(FEEDBACK, "1", "r")).headers["ce-id"] for _ in range(2)]
        sent = {Sink.ids.get(timeout=30) for _ in range(5)}
        sink.shutdown()
    assert len(sent) == 5
    assert sent > {*bare, *known}
    assert known[0] == known[1]
    assert cells_of(server) == {("dog", "cat"): 5}
