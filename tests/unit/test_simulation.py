"""The simulated cluster in pieces: its models, what its executors answer and log, its story, and what they deliver."""

from __future__ import annotations

import asyncio
import json
import math
import re
from random import Random
from typing import Any
from uuid import UUID

import pytest

from metrics_server.commands.simulation.cluster import Deployment, called, cluster
from metrics_server.commands.simulation.delivery import BUSY_EVENTS, QUEUE_EVENTS, Copies, Delivery, Link
from metrics_server.commands.simulation.executor import EMPTY, Call, CallResponse, Executor
from metrics_server.commands.simulation.executor_event import FEEDBACK as FEEDBACK_EVENT
from metrics_server.commands.simulation.executor_event import REQUEST as REQUEST_EVENT
from metrics_server.commands.simulation.executor_event import RESPONSE as RESPONSE_EVENT
from metrics_server.commands.simulation.executor_event import Message, Origin, Stamp, batch, event, new_stamp
from metrics_server.commands.simulation.story import DRIFT_SECONDS, Story
from metrics_server.commands.simulation.traffic import PastTraffic
from metrics_server.ingest.cloudevent import Event, decode
from metrics_server.ingest.normalize import observation_of
from metrics_server.metrics.labels import EventKind
from metrics_server.pairing.observation import Observation
from metrics_server.series.series import Labels

ORIGIN = Origin("shop", "wine", "main", "classifier")
PUID = "5d7c2f9a-7c3e-4e58-a1f1-6c5b8e0d2b44"
TRACE = "00-4b1c9d0e7a6f4c0f9d2b3a5e6f708192-1a2b3c4d5e6f7081-00"
STAMP = Stamp("0b0b6a3e-52a1-4d0e-9c0b-0d8f0f3f7a11", 1772442904120934511, TRACE)
NOW = 1772442905.0
IRIS, DIGITS, DIABETES = "seldon/multiclass-model", "seldon/digits", "seldon/diabetes"
ROW = [0.1, 0.2, 0.7]
GOLDEN = {
    "Ce-Specversion": "1.0",
    "Ce-Id": "0b0b6a3e-52a1-4d0e-9c0b-0d8f0f3f7a11",
    "Ce-Type": "io.seldon.serving.inference.response",
    "Ce-Source": "http://:8000/",
    "Ce-Time": "2026-03-02T09:15:04.120934511Z",
    "Ce-Requestid": PUID,
    "Ce-Modelid": "classifier",
    "Ce-Inferenceservicename": "wine",
    "Ce-Namespace": "shop",
    "Ce-Endpoint": "main",
    "Ce-Protocol": "seldon",
    "Ce-Traceparent": TRACE,
    "Traceparent": TRACE,
    "Content-Type": "application/json",
    "User-Agent": "Go-http-client/1.1",
}


def _observation(message: Message) -> tuple[Event, Observation]:
    headers, body = message
    attributes = {name[3:].lower(): value for name, value in headers.items() if name.startswith("Ce-")}
    (found,) = decode(headers["Content-Type"], attributes, body)
    assert isinstance(found, Event)
    return found, observation_of(found, Labels("", "", "", ""), NOW)


def _message(kind: str, payload: Any) -> Message:
    return event(kind, ORIGIN, STAMP, PUID, json.dumps(payload).encode())


def _response() -> Message:
    return _message(RESPONSE_EVENT, {"data": {"names": ["t:0", "t:1", "t:2"], "ndarray": [ROW]}, "meta": {}})


def test_headers_are_the_executors() -> None:
    """An event has the headers that Seldon's executor sends, no more and no fewer."""
    assert _response()[0] == GOLDEN


@pytest.mark.parametrize(
    ("kind", "name"),
    [(REQUEST_EVENT, "inference.request"), (RESPONSE_EVENT, "inference.response"), (FEEDBACK_EVENT, "feedback")],
)
def test_kinds_differ_in_their_type_only(kind: str, name: str) -> None:
    """The three kinds of events have equal headers but for their type, and the body as it was."""
    assert event(kind, ORIGIN, STAMP, PUID, b" as it was") == (
        {**GOLDEN, "Ce-Type": f"io.seldon.serving.{name}"},
        b" as it was",
    )


def test_server_reads_what_is_sent() -> None:
    """The server decodes an event to its kind, labels, time and values."""
    found, half = _observation(_response())
    assert found.kind == EventKind.RESPONSE
    assert half.labels == Labels("shop", "wine", "main", "classifier")
    said = half.rows[0].prediction
    assert said is not None
    assert said.value == ROW
    assert found.time == pytest.approx(1772442904.120934, abs=1e-6)


@pytest.mark.parametrize("truth", [[2], [[0, 0, 1]]])
def test_feedback_meets_its_prediction(truth: list[object]) -> None:
    """Feedback has the key of its prediction and its truth, whether an index or one-hot."""
    _, response = _observation(_response())
    found, feedback = _observation(_message(FEEDBACK_EVENT, {"truth": {"data": {"ndarray": truth}}}))
    assert found.kind == EventKind.FEEDBACK
    assert feedback.joins
    assert feedback.keys == response.keys
    known = feedback.rows[0].truth
    assert known is not None
    assert known.value == truth[0]


def test_a_batch_says_what_its_events_say() -> None:
    """In a batch an event is the same as by itself."""
    headers, body = batch([_response(), _message(REQUEST_EVENT, {})])
    first, second = decode(headers["Content-Type"], {}, body)
    alone, _ = _observation(_response())
    assert isinstance(first, Event)
    assert isinstance(second, Event)
    assert (first.key, first.time, first.kind, second.kind) == (
        alone.key,
        alone.time,
        EventKind.RESPONSE,
        EventKind.REQUEST,
    )
    assert first.attributes.items() <= alone.attributes.items()
    assert bytes(first.data) == alone.data


def test_stamps_are_fresh_uuids() -> None:
    """Each stamp has an id of its own, a UUIDv4, and equal random numbers give equal stamps."""
    random = Random(1)
    first, second = new_stamp(random, 5), new_stamp(random, 5)
    assert UUID(first.event_id).version == 4
    assert first.event_id != second.event_id
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", first.traceparent)
    assert new_stamp(Random(1), 5) == first


@pytest.fixture(scope="module")
def deployments() -> dict[str, Deployment]:
    """The cluster, trained once."""
    return called(cluster())


@pytest.mark.parametrize(
    ("path", "predictor", "low", "high"),
    [(IRIS, "default", 0.9, 0.98), (DIGITS, "main", 0.88, 0.95), (DIGITS, "canary", 0.5, 0.75)],
)
def test_classifiers_are_not_perfect(
    deployments: dict[str, Deployment], path: str, predictor: str, low: float, high: float
) -> None:
    """On the rows held out some predictions are wrong and most are right, of the canary far fewer."""
    (found,) = (one for one in deployments[path].predictors if one.name == predictor)
    held_out = deployments[path].held_out
    right = found.predict(held_out.rows).argmax(axis=1) == held_out.truths
    assert low < right.mean() < high


class Cluster:
    """Executors whose log is a list."""

    def __init__(self, deployments: dict[str, Deployment]) -> None:
        self.deployments, self.logged = deployments, list[Message]()
        self.executor = Executor(self.logged.append, lambda: STAMP.at_ns, Random(1))

    def predict(self, body: Any, path: str = IRIS, **call: Any) -> CallResponse:
        return self.executor.predict(
            self.deployments[path], Call(body if isinstance(body, bytes) else json.dumps(body).encode(), **call)
        )

    def feedback(self, body: bytes, path: str = IRIS, **call: Any) -> CallResponse:
        return self.executor.feedback(self.deployments[path], Call(body, **call))

    def header(self, name: str) -> list[str]:
        return [headers[name] for headers, _ in self.logged]


@pytest.fixture
def seldon(deployments: dict[str, Deployment]) -> Cluster:
    return Cluster(deployments)


FLOWER = {"data": {"ndarray": [[1.0, 2.0, 5.0, 6.0]]}}
TYPE = "io.seldon.serving."


def test_a_prediction_is_logged_as_request_and_response(seldon: Cluster) -> None:
    """Both events carry the puid of the call, ids of their own, and the bodies as they were on the wire."""
    body = b'{"data": {"ndarray":[[1.0, 2.0, 5.0, 6.0]]}, "meta": { "puid": "hello" }}'
    answer = seldon.predict(body, puid=PUID, content_type="application/json; charset=utf-8")
    assert [message[1] for message in seldon.logged] == [body, answer.body]
    assert seldon.header("Ce-Type") == [f"{TYPE}inference.request", f"{TYPE}inference.response"]
    assert seldon.header("Content-Type") == ["application/json; charset=utf-8", "application/json"]
    assert seldon.header("Ce-Requestid") == [PUID, PUID] == [answer.puid] * 2
    assert len({*seldon.header("Ce-Id"), PUID}) == 3
    assert seldon.logged[0][0].keys() == GOLDEN.keys()
    _, half = _observation(seldon.logged[1])
    assert half.labels == Labels("seldon", "multiclass-model", "default", "classifier")


def test_the_answer_is_that_of_the_model_server(seldon: Cluster) -> None:
    """Probabilities are named t:0 and on, and the puid of the body comes back in the body alone."""
    answer = seldon.predict({**FLOWER, "meta": {"puid": "hello"}})
    said = json.loads(answer.body)
    assert answer.status == 200
    assert said["data"]["names"] == ["t:0", "t:1", "t:2"]
    assert math.isclose(sum(said["data"]["ndarray"][0]), 1)
    assert said["meta"]["puid"] == "hello"
    assert said["meta"]["requestPath"].keys() == {"classifier"}
    assert UUID(answer.puid).version == 4
    assert "puid" not in json.loads(seldon.predict(FLOWER, puid=PUID).body)["meta"]


def test_the_model_of_flowers_counts_its_feedback(seldon: Cluster) -> None:
    """It counts one class against the rest, of feedback that repeats its response, and tells it as gauges with its next
    answer; what cannot be counted changes nothing. Other models count nothing."""
    of_class = [[0.1, 0.2, 0.7], [0.7, 0.2, 0.1]]
    for predicted, truth in ((0, 2), (0, [0, 0, 1]), (0, 1), (1, 0), (1, [0, 0, 1])):
        said = {"response": {"data": {"ndarray": [of_class[predicted]]}}, "truth": {"data": {"ndarray": [truth]}}}
        assert seldon.feedback(json.dumps(said).encode()).status == 200
    for said in (
        b'{"truth": {"data": {"ndarray": [2]}}}',
        b'{"response": {"data": 1}, "truth": 2}',
        b'{"response": 3}',
    ):
        assert seldon.feedback(said).status == 200
    empty = {"data": {"ndarray": [[]]}}
    assert seldon.feedback(json.dumps({"response": empty, "truth": empty}).encode()).status == 200
    metrics = json.loads(seldon.predict(FLOWER).body)["meta"]["metrics"]
    assert {metric["type"] for metric in metrics} == {"GAUGE"}
    assert {metric["key"]: metric["value"] for metric in metrics} == {
        "true_pos": 2,
        "true_neg": 1,
        "false_pos": 1,
        "false_neg": 1,
    }
    body = {"data": {"ndarray": [[0.0] * 10]}}
    assert "metrics" not in json.loads(seldon.predict(body, DIABETES).body)["meta"]


def test_a_tensor_is_answered_by_a_tensor(seldon: Cluster) -> None:
    """The same rows in either form get the same numbers, each in its own form."""
    rows = [[1.0, 2.0, 5.0, 6.0], [5.1, 3.5, 1.4, 0.2]]
    array = json.loads(seldon.predict({"data": {"ndarray": rows}}).body)["data"]
    tensor = json.loads(seldon.predict({"data": {"tensor": {"shape": [2, 4], "values": [*rows[0], *rows[1]]}}}).body)[
        "data"
    ]
    assert tensor["tensor"] == {"shape": [2, 3], "values": [value for row in array["ndarray"] for value in row]}
    assert tensor["names"] == array["names"]


def test_a_regression_answers_values(seldon: Cluster) -> None:
    """A regressor says one number a row, without names."""
    data = json.loads(seldon.predict({"data": {"ndarray": [[0.0] * 10, [0.01] * 10]}}, DIABETES).body)["data"]
    assert data["names"] == []
    assert [type(value) for value in data["ndarray"]] == [float, float]


@pytest.mark.parametrize("path", [IRIS, DIGITS, DIABETES])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b"[]",
        b"{}",
        b'{"strData": "x"}',
        b'{"data": {"ndarray": [1, 2, 3, 4]}}',
        b'{"data": {"ndarray": [[1, 2, 3]]}}',
        b'{"data": {"ndarray": []}}',
        b'{"data": {"ndarray": [[1, 2], [3]]}}',
        b'{"data": {"ndarray": [["a", 2, 3, 4]]}}',
        b'{"data": {"ndarray": {"a": 1}}}',
        b'{"data": {"tensor": {"shape": [1, 5], "values": [1, 2, 3, 4]}}}',
        b'{"data": {"tensor": {"shape": [0, 4], "values": []}}}',
        b'{"data": {"tensor": {"values": [1, 2, 3, 4]}}}',
        b'{"data": {"tensor": {"shape": "x", "values": [1, 2, 3, 4]}}}',
    ],
    ids=lambda body: body[:50].decode(errors="replace") if isinstance(body, bytes) else body,
)
def test_what_no_model_can_use_is_refused(seldon: Cluster, path: str, body: bytes) -> None:
    """It is answered 400 in Seldon's form, and the request alone is logged."""
    answer = seldon.predict(body, path, puid=PUID)
    assert answer[:2] == (400, PUID)
    status = json.loads(answer.body)["status"]
    assert (status["code"], status["status"], status["reason"]) == (-1, 1, "MICROSERVICE_BAD_DATA")
    assert status["info"]
    assert seldon.header("Ce-Type") == [f"{TYPE}inference.request"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e308", "1e400", "1" + "0" * 400])
def test_no_answer_is_infinite(seldon: Cluster, number: str) -> None:
    """A number that a model would make inf or NaN of is refused."""
    body = f'{{"data": {{"ndarray": [[{number}, 2, 3, 4]]}}}}'.encode()
    assert seldon.predict(body).status == 400


def test_feedback_is_logged_as_it_is(seldon: Cluster) -> None:
    """One event, with the puid of the feedback call; the body's own puid has no part in it."""
    body = b'{"truth":{"data":{"ndarray":[[0,0,1]]},"meta":{"puid":"other"}}}'
    assert seldon.feedback(body, puid=PUID) == CallResponse(200, PUID, EMPTY)
    assert seldon.header("Ce-Requestid") == [PUID]
    assert seldon.header("Ce-Type") == [f"{TYPE}feedback"]
    assert seldon.logged[0][1] == body
    assert UUID(seldon.feedback(body).puid).version == 4


def test_bad_feedback_is_logged_and_refused(seldon: Cluster) -> None:
    """The log has it before the model server can refuse it."""
    assert seldon.feedback(b"no JSON").status == 400
    assert [message[1] for message in seldon.logged] == [b"no JSON"]


def test_skipped_calls_are_not_logged(seldon: Cluster) -> None:
    """With the header that forbids it nothing is logged, of feedback neither."""
    assert seldon.predict(FLOWER, is_logged=False).status == 200
    assert seldon.feedback(b"{}", is_logged=False).status == 200
    assert seldon.logged == []


def test_calls_are_balanced_afresh(seldon: Cluster) -> None:
    """A quarter of the predictions goes to the canary, and feedback goes wherever it goes."""
    row = {"data": {"ndarray": [[0.0] * 64]}}
    for _ in range(400):
        answer = seldon.predict(row, DIGITS)
        seldon.feedback(b"{}", DIGITS, puid=answer.puid)
    arms = seldon.header("Ce-Endpoint")
    assert arms[0::3] == arms[1::3]
    assert 75 < arms[0::3].count("canary") < 125
    assert 75 < arms[2::3].count("canary") < 125
    assert arms[0::3] != arms[2::3]


def _story(deployments: dict[str, Deployment], seed: int = 1, drift_at: float = NOW) -> Story:
    return Story(list(deployments.values()), Random(seed), label_delay=3.0, label_share=0.8, drift_at=drift_at)


def test_a_seed_repeats_the_story(deployments: dict[str, Deployment]) -> None:
    """Equal seeds make equal visits, others make others."""
    first, second, other = (_story(deployments, seed) for seed in (1, 1, 2))
    visits = [[story.visit(NOW) for _ in range(20)] for story in (first, second, other)]
    assert visits[0] == visits[1] != visits[2]


def test_inputs_drift_after_a_while(deployments: dict[str, Deployment]) -> None:
    """From the given time on one input of diabetes goes off, to the end of the ramp and no further; other deployments
    stay."""
    held_out = deployments[DIABETES].held_out
    means = {}
    for after in (-1.0, DRIFT_SECONDS / 2, DRIFT_SECONDS, 10 * DRIFT_SECONDS):
        story = _story(deployments)
        visits = [
            visit for visit in (story.visit(NOW + after) for _ in range(600)) if visit.deployment.path == DIABETES
        ]
        rows = [json.loads(visit.call.body)["data"]["ndarray"][0] for visit in visits]
        means[after] = [sum(row[column] for row in rows) / len(rows) for column in (2, 3)]
    before, half, end, long_after = means.values()
    assert held_out.drift == (2, 0.1)
    assert [round(mean[0] - before[0], 6) for mean in (half, end, long_after)] == [0.05, 0.1, 0.1]
    assert before[1] == half[1] == end[1] == long_after[1]


def test_days_have_a_wave(deployments: dict[str, Deployment]) -> None:
    """As many come as the rate says, most of them at noon, and all in the time that is asked for."""
    day = 20_000 * 86400.0
    times = list(_story(deployments).times(day, day + 86400, 0.1))
    assert len(times) == pytest.approx(8640, rel=0.05)
    by_quarter = [sum(day + n * 21600 <= at < day + (n + 1) * 21600 for at in times) for n in range(4)]
    assert by_quarter[1] + by_quarter[2] > 1.5 * (by_quarter[0] + by_quarter[3])
    assert sum(by_quarter) == len(times)


def _told(
    deployments: dict[str, Deployment], since: dict[str, float], until: float = NOW, seed: int = 1
) -> tuple[PastTraffic, list[Message]]:
    random = Random(seed)
    past = PastTraffic(
        Story(list(deployments.values()), random, 3.0, 0.8, NOW), since, until, Copies(0.03, random), random
    )
    return past, [message for messages in past.batches() for message in messages]


@pytest.mark.parametrize("seed", range(8))
def test_the_past_begins_with_what_served_before_the_canary(deployments: dict[str, Deployment], seed: int) -> None:
    """The first event of each deployment is of its first predictor, whatever is drawn, so that a server takes that for
    the baseline."""
    _, messages = _told(deployments, dict.fromkeys(deployments, NOW - 600), seed=seed)
    began = {headers["Ce-Inferenceservicename"]: headers["Ce-Endpoint"] for headers, _ in reversed(messages)}
    assert began == {"multiclass-model": "default", "digits": "main", "diabetes": "default"}


def test_the_past_is_in_order_and_complete(deployments: dict[str, Deployment]) -> None:
    """Events come in the order of time; labels that are not known yet are kept for later; some events come twice."""
    past, messages = _told(deployments, dict.fromkeys(deployments, NOW - 3600))
    times = [_observation(message)[0].time or 0.0 for message in messages]
    assert all(later - earlier > -0.1 for earlier, later in zip(times, times[1:], strict=False))
    assert times[0] > NOW - 3600
    assert max(times) < NOW + 0.1
    assert past.due
    assert all(due.at >= NOW for due in past.due)
    ids = [headers["Ce-Id"] for headers, _ in messages]
    assert len(ids) - len(set(ids)) == pytest.approx(0.03 * len(ids), rel=0.5)
    predicted = {headers["Ce-Requestid"] for headers, _ in messages if headers["Ce-Type"].endswith("request")}
    labelled = {headers["Ce-Requestid"] for headers, _ in messages if headers["Ce-Type"].endswith("feedback")}
    assert labelled | {due.response.puid for due in past.due} <= predicted
    assert (len(labelled) + len(past.due)) / len(predicted) == pytest.approx(0.8, abs=0.05)


def test_only_the_gap_is_told(deployments: dict[str, Deployment]) -> None:
    """Of each deployment nothing is told from before its own beginning."""
    since = {IRIS: NOW - 3600, DIGITS: NOW - 600, DIABETES: NOW}
    _, messages = _told(deployments, since)
    first = {}
    for message in messages:
        found, half = _observation(message)
        first.setdefault(f"{half.labels.namespace}/{half.labels.deployment}", found.time)
    assert first.keys() == {IRIS, DIGITS}
    assert all(0 <= (first[path] or 0.0) - since[path] < 120 for path in first)


def test_ids_are_never_used_twice(deployments: dict[str, Deployment]) -> None:
    """The same seed tells the same story with other ids, or the server would take it for a repeat."""
    runs = [_told(deployments, dict.fromkeys(deployments, NOW - 600))[1] for _ in range(2)]
    ids, puids, bodies = (
        [{pick(message) for message in messages} for messages in runs]
        for pick in (
            lambda message: message[0]["Ce-Id"],
            lambda message: message[0]["Ce-Requestid"],
            lambda message: message[1],
        )
    )
    assert not ids[0] & ids[1]
    assert not puids[0] & puids[1]
    assert bodies[0] == bodies[1]


def test_a_full_queue_drops_and_counts() -> None:
    """What finds no room is counted, and nobody waits for it."""

    async def check() -> None:
        delivery = Delivery(Link("http://127.0.0.1:9", print), Copies(0.0, Random(1)))
        for _ in range(QUEUE_EVENTS + 3):
            delivery.log(_response())
        assert delivery.dropped == 3

    asyncio.run(check())


def test_own_traffic_waits_for_room() -> None:
    """Who asks for room gets none while many events wait, long before any is dropped."""

    async def check() -> None:
        delivery = Delivery(Link("http://127.0.0.1:9", print), Copies(0.0, Random(1)))
        await asyncio.wait_for(delivery.room(), 1)
        for _ in range(BUSY_EVENTS + 1):
            delivery.log(_response())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(delivery.room(), 0.01)

    asyncio.run(check())
