"""Looking up a prediction: addresses, documents, and how much is asked for at a time."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

import pytest

from metrics_server.errors import BadConfiguration
from metrics_server.http.response import EMPTY, Respond, Response, unavailable_response
from metrics_server.ingest.cloudevent import Event
from metrics_server.ingest.elasticsearch import lookup as elasticsearch
from metrics_server.ingest.elasticsearch.document import (
    Document,
    LookupFailed,
    LookupRequest,
    document_of,
    event_of,
    index_of,
    rows_to_look_up,
)
from metrics_server.ingest.elasticsearch.lookup import MAX_WAITING, Address, PredictionLookup, address_of, checked_index
from metrics_server.ingest.normalize import observation_of
from metrics_server.metrics.labels import EventKind
from metrics_server.pairing.observation import Observation
from metrics_server.series.series import Labels
from metrics_server.telemetry import Telemetry
from tests.support.elastic import INDEX, SCORES, Elastic, logged, truth

TEMPLATE = "inference-log-seldon-{namespace}-{service}-{endpoint}"
DEFAULTS = Labels("", "", "", "")
MAIN = Labels("shop", "wine", "main", "classifier")


def test_the_index_is_the_request_loggers() -> None:
    """Missing parts are unknown, the model stands for the service, and what the logger deletes is deleted."""
    assert index_of(TEMPLATE, MAIN, "m") == INDEX
    assert (
        index_of(TEMPLATE, DEFAULTS, "")
        == "inference-log-seldon-unknown-namespace-unknown-inferenceservice-unknown-endpoint"
    )
    assert index_of(TEMPLATE, Labels("s/h!o?p", "", "<m>", ""), "m@1") == "inference-log-seldon-shop-m1-m"
    assert index_of("logs", MAIN, "") == "logs"
    for template in ("{nothing}", "{0}", "{", "", "{namespace[9]}", "{namespace.upper}"):
        with pytest.raises(BadConfiguration, match="--elasticsearch_index"):
            checked_index(template)


@pytest.mark.parametrize(
    ("uri", "url", "authorization"),
    [
        ("http://elastic.default", "http://elastic.default:9200", ""),
        ("elastic:9201/", "http://elastic:9201", ""),
        ("https://elastic/es/", "https://elastic:443/es", ""),
        ("http://[::1]:9200", "http://[::1]:9200", ""),
        ("https://u:p%2F%40@elastic:9200?x=1", "https://elastic:9200", "Basic dTpwL0A="),
        ("https://u@elastic", "https://elastic:443", "Basic dTo="),
    ],
)
def test_an_address_is_read_as_elasticsearchs_own_client_does(uri: str, url: str, authorization: str) -> None:
    """Scheme, port and credentials may be missing; the address itself has no credentials."""
    assert address_of(uri, "") == Address(url, authorization)


@pytest.mark.parametrize(
    "uri",
    ["ftp://s3cret@h", "http://", "http://u:s3/cret@h", "http://u:12/s3cret@h", "http://u:s3#cret@h", "http://[s3cret"],
)
def test_an_address_that_is_none_is_refused_without_its_password(uri: str) -> None:
    """A wrong --elasticsearch_uri stops the start; what it says may be a password, and is not repeated."""
    with pytest.raises(BadConfiguration, match="--elasticsearch_uri: want") as raised:
        address_of(uri, "")
    assert "cret" not in str(raised.value)
    assert raised.value.__cause__ is None
    with pytest.raises(BadConfiguration, match="ELASTICSEARCH_API_KEY"):
        address_of("http://h", "two\nlines")


def _wanted(request_id: str = "r", protocol: str = "", at: float | None = 5.0) -> LookupRequest:
    return LookupRequest(INDEX, request_id, 1, MAIN, protocol, at)


def _document(**part: Any) -> Document:
    found = document_of(200, json.dumps({"found": True, "_source": {"response": part}}).encode())
    assert found is not None
    return found


def test_the_whole_body_stands_for_a_row_that_is_missing() -> None:
    """Without an instance the logged body counts, as JSON or as text; not for one row of a batch, whose body holds all
    rows."""
    body = {"predictions": [1, 0]}
    for payload in (body, json.dumps(body)):
        event = event_of([_document(payload=payload)], _wanted(protocol="tensorflow"))
        assert event is not None
        assert json.loads(bytes(event.data)) == body
        assert event.attributes["protocol"] == "tensorflow"
        assert event_of([_document(payload=payload)], _wanted("r-item-1")) is None
    assert event_of([_document(instance=None)], _wanted()) is None
    event = event_of([_document(instance=False, payload=body)], _wanted())
    assert event is not None
    assert event.data == b'{"data":{"ndarray":[false]}}'


def test_what_a_document_leaves_open_is_the_feedbacks() -> None:
    """Labels and time fall back on those of the feedback; the identity is that of the document."""
    event = event_of([_document(instance=1, **{"ce-time": "yesterday"})], _wanted())
    assert event is not None
    assert (event.kind, event.time, event.id) == (EventKind.RESPONSE, 5.0, f"{INDEX}/r/1")
    names = {"namespace": "shop", "inferenceservicename": "wine", "endpoint": "main", "modelid": "classifier"}
    assert event.attributes == {"requestid": "r", "protocol": "seldon", **names}
    assert event.key == event_of([_document(instance=1)], _wanted(at=7.0)).key  # type: ignore[union-attr]


def test_found_false_is_a_miss_whatever_the_status() -> None:
    """Only what says nothing about the document is a failure."""
    assert document_of(200, b'{"found":false}') is None
    assert document_of(200, b'{"found":true}') is None
    with pytest.raises(LookupFailed):
        document_of(404, b'{"error":"unknown"}')


def _feedback(number: int) -> tuple[Observation, Mapping[str, str]]:
    event = Event(kind=EventKind.FEEDBACK, attributes={"requestid": f"r{number}"}, data=json.dumps(truth(1)).encode())
    return observation_of(event, DEFAULTS, 5.0), event.attributes


def _look_ups(telemetry: Telemetry, uri: str = "http://127.0.0.1:1") -> PredictionLookup:
    return PredictionLookup(Address(uri, ""), INDEX, None, telemetry)


def test_few_wait_and_a_prediction_never_asks() -> None:
    """Beyond the limit look-ups are dropped and counted; what was found, or would be asked twice, takes no place."""

    async def fill() -> Telemetry:
        telemetry = Telemetry()
        look_ups = _look_ups(telemetry)
        response = Event(kind=EventKind.RESPONSE, attributes={"requestid": "r"}, data=b'{"data":{"ndarray":[1]}}')
        look_ups.look_up(observation_of(response, DEFAULTS, 5.0), response.attributes)
        for number in range(MAX_WAITING + 2):
            look_ups.look_up(*_feedback(number))
            look_ups.look_up(*_feedback(0))
        return telemetry

    dropped = asyncio.run(fill()).registry.get_sample_value("metrics_server_lookups_total", {"outcome": "dropped"})
    assert dropped == 2


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        (truth(1), 1),
        (truth([0, 1], [1, 0], [0, 1]), 3),
        ({"response": {"data": {"ndarray": [1, 0, 1]}}, **truth(1, 0, 1)}, 3),
        ({"response": {"data": {"ndarray": [1, 0, 1]}}, "reward": 1}, 0),
    ],
)
def test_as_many_rows_are_asked_for_as_there_are_truths(body: dict[str, Any], rows: int) -> None:
    """What else a feedback carries does not matter; one without a request id has nothing to ask for."""
    event = Event(kind=EventKind.FEEDBACK, attributes={"requestid": "r"}, data=json.dumps(body).encode())
    assert rows_to_look_up(observation_of(event, DEFAULTS, 5.0)) == rows
    if "response" in body:
        assert rows_to_look_up(observation_of(Event(kind=EventKind.FEEDBACK, data=event.data), DEFAULTS, 5.0)) == 0


def test_a_batch_that_comes_too_slowly_is_given_up(monkeypatch: Any, elastic: Elastic) -> None:
    """However slowly its documents come, the worker is free again in time, and nothing is half counted."""
    monkeypatch.setattr(elasticsearch, "BATCH_SECONDS", 0.0)
    elastic.documents[INDEX] = {f"r1-item-{row}": logged(SCORES) for row in range(3)}
    taken: list[Event] = []

    async def ask() -> float | None:
        telemetry = Telemetry()
        look_ups = _look_ups(telemetry, elastic.uri)
        look_ups.start(lambda event, answered: taken.append(event))
        look_ups.look_up(*_feedback(1))
        await look_ups.stop(10)
        return telemetry.registry.get_sample_value("metrics_server_lookups_total", {"outcome": "failed"})

    assert asyncio.run(ask()) == 1
    assert taken == []


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ([unavailable_response("down"), unavailable_response("down"), EMPTY], "found"),
        ([unavailable_response("down")] * 9, "failed"),
        ([Response(422, {}, b"")], "failed"),
    ],
)
def test_what_was_found_waits_for_the_store(
    monkeypatch: Any, elastic: Elastic, answers: list[Response], outcome: str
) -> None:
    """503 is tried again, a few times; what is refused is not."""
    monkeypatch.setattr(elasticsearch, "BACKOFF_SECONDS", 0.0)
    elastic.documents[INDEX]["r1"] = logged(SCORES)
    left = iter(answers)

    def take(event: Event, answered: Respond) -> None:
        answered(next(left))

    async def ask() -> float | None:
        telemetry = Telemetry()
        look_ups = _look_ups(telemetry, elastic.uri)
        look_ups.start(take)
        look_ups.look_up(*_feedback(1))
        await look_ups.stop(10)
        return telemetry.registry.get_sample_value("metrics_server_lookups_total", {"outcome": outcome})

    started = time.monotonic()
    assert asyncio.run(ask()) == 1
    assert time.monotonic() - started < 8
