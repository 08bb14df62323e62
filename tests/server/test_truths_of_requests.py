"""`truths` in /v1/feedback: what became of all rows of a request at once; and Seldon's route as its ingress has it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from metrics_server.commands.replay.engine import Replay
from metrics_server.commands.replay.source import of_dicts
from metrics_server.ingest.feedback import observations_of
from metrics_server.ingest.payload.rows import MAX_ROWS
from metrics_server.pairing.observation import Observation
from metrics_server.series.series import Labels
from metrics_server.settings import Settings
from tests.conftest import Serve
from tests.support.deployments import cells_of
from tests.support.running import RESPONSE, Answer, RunningServer, ce

JSON = {"Content-Type": "application/json"}
NOW = 1772440000.0
NOBODY = Labels("", "", "", "")


@pytest.fixture
def server(serve: Serve) -> RunningServer:
    """A server with its state in memory."""
    return serve("--store", "memory://")


def tell(server: RunningServer, body: Any) -> Answer:
    return server.post(body, JSON, "/v1/feedback")


def status(server: RunningServer, body: Any) -> str:
    """The one status of an answer of 200."""
    answer = tell(server, body)
    assert answer.status == 200, answer.body
    return str(json.loads(answer.body)["status"])


def log(server: RunningServer, request_id: str, *rows: Any) -> None:
    """A prediction of the request log."""
    assert server.post({"data": {"ndarray": list(rows)}}, ce(RESPONSE, request_id, request_id)).status == 200


def test_all_rows_of_a_request_are_labelled_at_once(server: RunningServer) -> None:
    """Each truth labels the row of its place; before the prediction the answer is pending, for all rows together."""
    truths = {"request_id": "r", "truths": ["a", "b", "x"], "labelled_at": NOW}
    assert status(server, truths) == "pending"
    log(server, "r", "a", "b", "c")
    assert cells_of(server) == {("a", "a"): 1, ("b", "b"): 1, ("x", "c"): 1}
    assert status(server, truths) == "duplicate"
    assert status(server, {**truths, "labelled_at": NOW + 1, "truths": ["a", "b", "c"]}) == "accepted"
    assert cells_of(server) == {("a", "a"): 1, ("b", "b"): 1, ("c", "c"): 1}
    assert status(server, {"request_id": "r", "row": 1, "truth": "a", "labelled_at": NOW + 2}) == "accepted"
    assert cells_of(server) == {("a", "a"): 1, ("a", "b"): 1, ("c", "c"): 1}


def test_null_takes_the_truth_of_its_row_back(server: RunningServer) -> None:
    """An element of null retracts the truth of that row alone; fewer truths than rows leave the others open."""
    log(server, "r", "a", "b", "c")
    assert status(server, {"request_id": "r", "truths": ["a", "b"]}) == "accepted"
    assert status(server, {"request_id": "r", "truths": [None, "b"]}) == "accepted"
    assert cells_of(server) == {("b", "b"): 1}


def test_an_item_of_a_batch_may_have_one_truth_in_a_list(server: RunningServer) -> None:
    """One truth in a list joins as one truth does, under the id of an item too; several are rows of their own id."""
    log(server, "b", "a", "b")
    assert status(server, {"request_id": "b-item-1", "truths": ["b"]}) == "accepted"
    assert status(server, {"request_id": "b-item-0", "truths": ["a", "b"]}) == "pending"
    assert cells_of(server) == {("b", "b"): 1}


def test_pairs_of_all_rows_at_once(server: RunningServer) -> None:
    """With predictions of equal number there are pairs, of which a weight counts for each; with an id they count once,
    and one row without a prediction waits."""
    pairs = {"truths": [[0, 0, 1], [1, 0, 0]], "predictions": [[0.1, 0.2, 0.7], [0.2, 0.5, 0.3]], "weight": 2}
    assert [status(server, pairs) for _ in range(2)] == ["accepted", "accepted"]
    assert server.value("model_support", window="1h") == 4
    assert server.value("model_accuracy_ratio", window="1h") == 0.5
    named = {"request_id": "r", "truths": [1, 0], "predictions": [1, None], "deployment": "d"}
    assert [status(server, named) for _ in range(2)] == ["accepted", "accepted"]
    assert server.value("model_support", window="1h", deployment_name="d") == 1


REQUEST = {"request_id": "r", "truths": [1, 2]}
REFUSED = [
    ("a truth beside it", {**REQUEST, "truth": 1}, "malformed_feedback"),
    ("a truth of null beside it", {**REQUEST, "truth": None}, "malformed_feedback"),
    ("a row beside it", {**REQUEST, "row": 0}, "malformed_feedback"),
    ("a prediction beside it", {**REQUEST, "prediction": 1}, "malformed_feedback"),
    ("predictions alone", {"request_id": "r", "predictions": [1]}, "malformed_feedback"),
    ("predictions beside a truth", {"request_id": "r", "truth": 1, "predictions": [1]}, "malformed_feedback"),
    ("another number of predictions", {**REQUEST, "predictions": [1]}, "row_mismatch"),
    ("no truths", {**REQUEST, "truths": []}, "malformed_feedback"),
    ("truths that are no list", {**REQUEST, "truths": 1}, "malformed_feedback"),
    ("a row in a row", {**REQUEST, "truths": [1, [[0, 1]]]}, "malformed_payload"),
    ("a long label", {**REQUEST, "truths": [1, "x" * 257]}, "label_too_long"),
    ("nothing to join on", {"truths": [1, 2]}, "malformed_feedback"),
    ("one without its prediction", {"truths": [1, 2], "predictions": [1, None]}, "malformed_feedback"),
    ("nothing to take back", {"truths": [1, None], "predictions": [1, 2]}, "malformed_feedback"),
    ("too many rows", {**REQUEST, "truths": [1] * (MAX_ROWS + 1)}, "too_many_rows"),
    ("too many rows in a list", [{**REQUEST, "truths": [1] * (MAX_ROWS // 2)}] * 2 + [REQUEST], "too_many_rows"),
    ("too many rows beside an error", [{**REQUEST, "truths": [1] * MAX_ROWS}, {}], "too_many_rows"),
]


def test_what_cannot_be_used_is_refused_and_labels_no_row(server: RunningServer) -> None:
    """It gets its reason, as a whole: no row of it counts."""
    log(server, "r", 1, 2)
    for what, body, reason in REFUSED:
        answer = tell(server, body)
        assert (answer.status, answer.reason) == (422, reason), (what, answer.body)
    assert cells_of(server) == {}
    assert server.value("metrics_server_events_total", outcome="rejected") == len(REFUSED)


@pytest.mark.long
def test_as_many_rows_as_an_event_may_have(server: RunningServer) -> None:
    """20,000 truths of one request are taken at once, and labelled."""
    log(server, "r", *[1] * MAX_ROWS)
    assert status(server, {"request_id": "r", "truths": [1] * MAX_ROWS}) == "accepted"
    assert server.value("model_support", window="1h") == MAX_ROWS


def test_a_list_of_truths_is_no_truth_of_one_row() -> None:
    """The identity of an item with truths is not that of the item whose truth is the same list."""
    told = {"request_id": "r", "labelled_at": NOW}
    bodies = [{**told, "truths": [0, 1]}, {**told, "truth": [0, 1]}, {**told, "truths": [[0, 1]]}]
    (first,), (second,), (third,) = (observations_of(json.dumps(body).encode(), NOBODY, NOW) for body in bodies)
    assert isinstance(first, Observation)
    assert isinstance(second, Observation)
    assert isinstance(third, Observation)
    assert len({first.event, second.event, third.event}) == 3


def test_a_file_may_hold_truths_of_requests() -> None:
    """`metrics-server replay` reads a line with truths as the server does."""
    replay = Replay(Settings(), NOBODY)
    logged = [
        {"request_id": "r", "row": row, "prediction": value, "predicted_at": NOW} for row, value in enumerate("ab")
    ]
    lines = [*logged, {"request_id": "r", "truths": ["a", "a"], "labelled_at": NOW}]
    replay.take(of_dicts(lines))
    (result,) = replay.results()
    (value,) = [one["value"] for one in result["values"] if one["name"] == "model_accuracy_ratio"]
    assert (value, result["support"]) == (0.5, 2)


def test_the_short_path_of_feedback(server: RunningServer) -> None:
    """POST /feedback, as users of an ingress call it, is /api/v1.0/feedback."""
    pair = {part: {"data": {"ndarray": [1]}} for part in ("response", "truth")}
    answers = [server.post(pair, {**JSON, "Seldon-Puid": "p"}, path) for path in ("/feedback", "/api/v1.0/feedback")]
    assert [(one.status, one.body, one.headers["Seldon-Puid"]) for one in answers] == [
        (200, b'{"data":{"tensor":{"shape":[0]}},"meta":{}}', "p")
    ] * 2
    assert server.value("model_support", window="1h") == 1
    assert server.get("/feedback").status == 405
