"""The JSON Schema of a feedback event says what the server does, and the transform in knative/transform follows it."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from jsonata import Jsonata

from metrics_server.api.handlers import FEEDBACK_SCHEMA
from metrics_server.ingest.cloudevent import KINDS, MAX_ATTRIBUTE
from metrics_server.ingest.payload.rows import LEAST, MAX_ROWS
from metrics_server.metrics.labels import EventKind
from metrics_server.metrics.task import LONGEST_LABEL
from tests.conftest import Serve
from tests.support.kustomize import build
from tests.support.manifests import KNATIVE, object_named, triggers_of
from tests.support.running import RESPONSE, RunningServer, ce

SCHEMA = json.loads(FEEDBACK_SCHEMA)
STRUCTURED = {"Content-Type": "application/cloudevents+json"}
SELDON, KSERVE = "io.seldon.serving.feedback", "org.kubeflow.serving.feedback"


def rows(*values: Any) -> dict[str, Any]:
    return {"data": {"ndarray": list(values)}}


def event(data: Any, **attributes: Any) -> dict[str, Any]:
    """An event with these attributes in place of good ones; those that are `...` are left out."""
    told = {"specversion": "1.0", "id": "e", "source": "/orders", "type": SELDON, "data": data, **attributes}
    return {name: value for name, value in told.items() if value is not ...}


ALONE = {"truth": rows(1)}
PAIR = {"truth": rows(1), "response": rows(1)}
TENSOR = {"data": {"tensor": {"shape": [1, 2], "values": [0.25, 0.75]}}}
V2 = {"outputs": [{"name": "p", "datatype": "INT64", "shape": [1], "data": [1]}]}
TAKEN = {
    "a pair": event(PAIR),
    "a pair of scores": event({"truth": rows([0, 1]), "response": rows([0.25, 0.75])}),
    "a pair of tensors": event({"truth": TENSOR, "response": TENSOR}),
    "a pair of texts": event({"truth": {"strData": "cat"}, "response": {"strData": "dog"}}),
    "a pair in jsonData": event({"truth": {"jsonData": {"price": 12.5}}, "response": {"jsonData": 12}}),
    "a pair in V2": event({"truth": V2, "response": V2}),
    "a pair in V1": event({"truth": {"predictions": [1]}, "response": {"predictions": [1]}}),
    "a truth with its request id": event(ALONE, requestid="r"),
    "a truth of booleans": event({"truth": rows(True, False)}, requestid="r"),
    "a truth that is taken back": event({"truth": rows(None)}, requestid="r"),
    "a truth whose id is the event's": event(ALONE, type=KSERVE),
    "a truth with its own puid": event({"truth": {**rows(1), "meta": {"puid": "p"}}}),
    "a truth with the request's puid": event({**ALONE, "request": {"meta": {"puid": "p"}}}),
    "a truth with the response's puid": event({**ALONE, "response": {"meta": {"puid": "p"}}}),
    "a reward": event({"reward": -0.5}),
    "a reward of an answer": event({"reward": 1, "response": rows("a")}),
    "a reward of 0 that protobuf leaves out": event({"request": {}, "response": rows("a")}),
    "the same of a request alone": event({"request": {}}),
    "a truth and a reward": event({**ALONE, "reward": 0}),
    "names": event(PAIR, namespace="shop", inferenceservicename="wine", endpoint="main", modelid="tree"),
    "extensions": event(PAIR, tenant="a", attempt=3, trial=True, subject=None, time=None, requestid=None),
    "a time with an offset": event(PAIR, time="2026-03-02T09:15:04.12+01:00"),
    "a time in lower case": event(PAIR, time="2026-03-02t09:15:04z"),
    "a content type": event(PAIR, datacontenttype="application/json; charset=utf-8"),
    "tags": event({**PAIR, "request": {"meta": {"tags": {"tenant": "b", "nested": {}}}}}),
    "as much as may be": event({"truth": rows("x" * LONGEST_LABEL)}, requestid="r" * MAX_ATTRIBUTE),
}
REFUSED = {
    **{f"no {name}": event(PAIR, **{name: ...}) for name in ("specversion", "id", "source", "type")},
    **{f"an empty {name}": event(PAIR, **{name: ""}) for name in ("specversion", "id", "source", "type")},
    "another specversion": event(PAIR, specversion="0.3"),
    "another type": event(PAIR, type="com.example.order.closed"),
    "an id that is too long": event(PAIR, id="x" * (MAX_ATTRIBUTE + 1)),
    "an id with a control character": event(PAIR, id="a\u0001"),
    "a source with a control character": event(PAIR, source="a\u009f"),
    "a time that is none": event(PAIR, time="yesterday"),
    "a time without its zone": event(PAIR, time="2026-03-02T09:15:04"),
    "a time in seconds": event(PAIR, time=1772440000),
    "an attribute that is a list": event(PAIR, tenant=["a"]),
    "a name that is too long": event(PAIR, modelid="x" * (LONGEST_LABEL + 1)),
    "a name with a line break": event(PAIR, namespace="a\nb"),
    "no data": event(...),
    "data that are a list": event([PAIR]),
    "nothing told": event({}),
    "a truth with nothing to join on": event(ALONE),
    "a truth with an empty request id": event(ALONE, requestid=""),
    "a truth with an empty puid": event({"truth": {**rows(1), "meta": {"puid": ""}}}),
    "a request id that is too long": event(ALONE, requestid="r" * (MAX_ATTRIBUTE + 1)),
    "a truth that is a number": event({"truth": 1}, requestid="r"),
    "a truth without rows": event({"truth": {}}, requestid="r"),
    "a truth of meta alone": event({"truth": {"meta": {}}}, requestid="r"),
    "data without a form": event({"truth": {"data": {}}}, requestid="r"),
    "an ndarray that is a number": event({"truth": {"data": {"ndarray": 1}}}, requestid="r"),
    "a row of no columns": event({"truth": rows([])}, requestid="r"),
    "a row of texts": event({"truth": rows(["a", "b"])}, requestid="r"),
    "rows in rows": event({"truth": rows([[0, 1]])}, requestid="r"),
    "a row that is an object": event({"truth": rows({"a": 1, "b": 2})}, requestid="r"),
    "a number too large": event({"truth": rows(2e12)}, requestid="r"),
    "a label that is too long": event({"truth": rows("x" * (LONGEST_LABEL + 1))}, requestid="r"),
    "a label with a tab": event({"truth": {"strData": "a\tb"}}, requestid="r"),
    "too many rows": event({"truth": rows(*[1] * (MAX_ROWS + 1))}, requestid="r"),
    "a tensor of texts": event({"truth": {"data": {"tensor": {"shape": [1], "values": ["a"]}}}}, requestid="r"),
    "jsonData of two members": event({"truth": {"jsonData": {"a": 1, "b": 2}}}, requestid="r"),
    "a reward that is a word": event({"reward": "good"}),
    "a reward of true": event({"reward": True}),
    "a reward too large": event({"reward": 1e13}),
}


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    return jsonschema.Draft202012Validator(SCHEMA)


def test_the_schema_is_served(serve: Serve) -> None:
    """It stands at its route, as the file in the package is."""
    answer = serve("--store", "memory://").get("/v1/schemas/feedback.json")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/schema+json")
    assert json.loads(answer.body) == SCHEMA


def test_the_schema_knows_the_limits() -> None:
    """Types of events and limits in it are those of the code."""
    assert SCHEMA["properties"]["type"]["enum"] == [name for name, kind in KINDS.items() if kind is EventKind.FEEDBACK]
    parts = SCHEMA["$defs"]
    assert {parts["identity"]["maxLength"], SCHEMA["properties"]["requestid"]["maxLength"]} == {MAX_ATTRIBUTE}
    assert {parts["label"]["maxLength"], parts["text"]["maxLength"]} == {LONGEST_LABEL}
    assert (parts["rows"]["maxItems"], parts["number"]["minimum"]) == (MAX_ROWS, LEAST)


def accepted(server: RunningServer) -> float:
    return server.value("metrics_server_events_total", outcome="accepted") or 0


def test_the_schema_says_what_the_server_does(serve: Serve, validator: jsonschema.Draft202012Validator) -> None:
    """What fits the schema is accepted, and what does not fit is refused or ignored."""
    server = serve("--store", "memory://")
    for number, (what, sent) in enumerate((TAKEN | REFUSED).items()):
        unique = sent | {"id": f"{number}"} if sent.get("id") == "e" else sent
        before = accepted(server)
        server.post(unique, STRUCTURED)
        assert accepted(server) - before == (what in TAKEN), what
        assert validator.is_valid(unique) == (what in TAKEN), what


ORDER = {
    "specversion": "1.0",
    "id": "order-17-closed",
    "source": "/shop/orders",
    "type": "com.example.order.closed",
    "time": "2026-03-02T09:15:04Z",
    "data": {
        "order": 17,
        "scoring": {"requestId": "5d7c2f9a", "model": "returns"},
        "lines": [{"sku": "a", "returned": True}, {"sku": "b", "returned": False}, {"sku": "c", "returned": False}],
    },
}


def transformed(order: dict[str, Any]) -> Any:
    """What the EventTransform makes of an event."""
    transform = object_named(build(KNATIVE / "transform"), "EventTransform", "orders-to-feedback")
    return Jsonata(transform["spec"]["jsonata"]["expression"]).evaluate(order)


def test_an_order_becomes_feedback_and_counts(serve: Serve, validator: jsonschema.Draft202012Validator) -> None:
    """The transform's answer fits the schema, and the server pairs it with the predictions, once."""
    feedback = transformed(ORDER)
    validator.validate(feedback)
    server = serve("--store", "memory://")
    logged = ce(RESPONSE, "1", "5d7c2f9a", inferenceservicename="returns")
    assert server.post({"data": {"ndarray": [1, 1, 0]}}, logged).status == 200
    for _ in range(2):
        assert server.post(feedback, STRUCTURED).status == 200
    assert server.value("model_support", window="30d", deployment_name="returns") == 3
    assert server.value("model_accuracy_ratio", window="30d", deployment_name="returns") == pytest.approx(2 / 3)
    assert server.value("metrics_server_events_total", type="feedback", outcome="duplicate") == 1


def test_an_order_of_one_line_is_one_row(validator: jsonschema.Draft202012Validator) -> None:
    """JSONata makes a scalar of a list of one; the expression keeps the list. Without its id it fits no more."""
    one = {**ORDER["data"], "lines": ORDER["data"]["lines"][:1]}
    assert transformed({**ORDER, "data": one})["data"]["truth"] == rows(1)
    del one["scoring"]
    assert not validator.is_valid(transformed({**ORDER, "data": one}))


def test_the_transform_stands_between_two_triggers() -> None:
    """The orders' Trigger leads to the transform, on the broker whose Trigger for feedback takes its answer."""
    objects = build(KNATIVE / "transform")
    (trigger,) = [found for found in objects if found["kind"] == "Trigger"]
    assert trigger["spec"]["filters"] == [{"exact": {"type": ORDER["type"]}}]
    assert trigger["spec"]["subscriber"]["ref"]["name"] == "orders-to-feedback"
    object_named(objects, "EventTransform", "orders-to-feedback")
    onwards = [found for found in triggers_of(KNATIVE / "deployment") if found["metadata"]["name"] == "feedback"]
    assert [found["spec"]["broker"] for found in onwards] == [trigger["spec"]["broker"]]
    taken = [entry["exact"]["type"] for found in onwards for entry in found["spec"]["filters"][0]["any"]]
    assert transformed(ORDER)["type"] in taken
