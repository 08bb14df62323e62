"""Kafka records as events: bindings, identities, ids, times; what is none of ours, and what cannot be read."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_server.errors import Reason, Rejected
from metrics_server.ingest.cloudevent import Event
from metrics_server.ingest.kafka.record import Record, event_of_record
from metrics_server.metrics.labels import EventKind

LIMIT = 4096
AT = 1_767_225_600.25

RESPONSE_TYPE = "io.seldon.serving.inference.response"
LOGGED = {
    "type": RESPONSE_TYPE,
    "content-type": "application/json",
    "modelid": "classifier",
    "requestid": "r",
    "inferenceservicename": "wine",
    "namespace": "shop",
    "endpoint": "main",
    "protocol": "seldon",
}
BINARY = {"ce_specversion": "1.0", "ce_id": "1", "ce_source": "here", "ce_type": "io.seldon.serving.feedback"}
CORE_2 = "seldon.shop.model.wine.outputs"


def record(
    headers: dict[str, str] | list[tuple[str, bytes | None]] | None = None,
    value: bytes | None = b"{}",
    *,
    topic: str = "seldon",
    key: bytes | None = None,
    time: float | None = AT,
) -> Record:
    pairs = [(name, text.encode()) for name, text in headers.items()] if isinstance(headers, dict) else headers
    return Record(topic, 3, 8812, time, key, pairs or [], value)


def read(*arguments: Any, **more: Any) -> Event:
    return event_of_record(record(*arguments, **more), LIMIT)


# CloudEvents


def test_an_event_in_binary_mode_keeps_its_identity() -> None:
    """Attributes come from the headers with ce_, the content type from its own; other headers are no attributes."""
    event = read(
        {**BINARY, "ce_requestid": "r é", "content-type": "application/json; charset=utf-8", "other": "x"}, b'{"a":1}'
    )
    assert (event.kind, event.id, event.source, event.type) == (
        EventKind.FEEDBACK,
        "1",
        "here",
        "io.seldon.serving.feedback",
    )
    assert event.attributes == {"requestid": "r é"}
    assert (event.content_type, event.data) == ("application/json; charset=utf-8", b'{"a":1}')


def test_an_event_in_structured_mode_keeps_its_identity() -> None:
    """The value is the event; stray headers with ce_ say nothing."""
    body = {
        "specversion": "1.0",
        "id": "9",
        "source": "there",
        "type": RESPONSE_TYPE,
        "requestid": "r",
        "data": {"a": 1},
    }
    event = read({**BINARY, "content-type": "application/CloudEvents+json; charset=utf-8"}, json.dumps(body).encode())
    assert (event.kind, event.id, event.source) == (EventKind.RESPONSE, "9", "there")
    assert json.loads(bytes(event.data)) == {"a": 1}


def test_the_time_is_the_events_else_the_records() -> None:
    """An event that does not say its time happened when its record was written, not when it is read."""
    assert read({**BINARY, "ce_time": "2026-01-01T00:00:01Z"}).time == 1_767_225_601
    assert read(BINARY).time == AT
    assert read(LOGGED).time == AT
    assert read(LOGGED, time=None).time is None


def test_a_redelivery_is_known_and_another_place_is_not() -> None:
    """A record without an identity of its own has that of its place: the same each time, another for each record."""
    first = read(LOGGED)
    assert (first.source, first.id) == ("kafka:seldon", "partition:3/offset:8812")
    assert first.key == read(LOGGED).key
    others = [record(LOGGED)._replace(**change) for change in ({"offset": 8813}, {"partition": 4}, {"topic": "other"})]
    assert len({first.key, *(event_of_record(other, LIMIT).key for other in others)}) == 4


@pytest.mark.parametrize(
    ("headers", "value", "reason"),
    [
        ({name: text for name, text in BINARY.items() if name != "ce_id"}, b"{}", Reason.MALFORMED_EVENT),
        ({**BINARY, "ce_specversion": "0.3"}, b"{}", Reason.UNSUPPORTED_SPECVERSION),
        ({**BINARY, "ce_time": "yesterday"}, b"{}", Reason.BAD_TIME),
        ([*((n, t.encode()) for n, t in BINARY.items()), ("ce_id", b"2")], b"{}", Reason.DUPLICATE_HEADER),
        (
            [("ce_id", b"\xff"), ("ce_source", b"s"), ("ce_type", b"t"), ("ce_specversion", b"1.0")],
            b"{}",
            Reason.BAD_ENCODING,
        ),
        ({"content-type": "application/cloudevents+json"}, b"{", Reason.MALFORMED_JSON),
        ({"content-type": "application/cloudevents+json"}, None, Reason.MALFORMED_JSON),
        ({"content-type": "application/cloudevents+avro"}, b"{}", Reason.UNSUPPORTED_FORMAT),
        ({"content-type": "application/cloudevents-batch+json"}, b"[]", Reason.UNSUPPORTED_FORMAT),
        (LOGGED, b"\x1f\x8bnot gzip", Reason.MALFORMED_GZIP),
        (LOGGED, gzip.compress(b" " * (LIMIT + 1), mtime=0), Reason.BODY_TOO_LARGE),
        (LOGGED, b" " * (LIMIT + 1), Reason.BODY_TOO_LARGE),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(headers: Any, value: bytes | None, reason: Reason) -> None:
    """Each refusal has its reason, and says which record it is about."""
    with pytest.raises(Rejected, match="seldon partition:3/offset:8812: ") as raised:
        read(headers, value)
    assert raised.value.reason is reason


# The Seldon executor


@pytest.mark.parametrize(
    ("event_type", "kind"),
    [
        ("io.seldon.serving.inference.request", EventKind.REQUEST),
        (RESPONSE_TYPE, EventKind.RESPONSE),
        ("io.seldon.serving.feedback", EventKind.FEEDBACK),
    ],
)
def test_a_record_of_the_executor_is_its_event(event_type: str, kind: str) -> None:
    """The headers are the attributes that the same event has over HTTP; those that are empty are absent."""
    event = read({**LOGGED, "type": event_type, "endpoint": "", "traceparent": "00-1"}, b'{"x":1}')
    assert (event.kind, event.type, event.content_type, event.data) == (
        kind,
        event_type,
        "application/json",
        b'{"x":1}',
    )
    wanted = {
        "requestid": "r",
        "namespace": "shop",
        "inferenceservicename": "wine",
        "modelid": "classifier",
        "protocol": "seldon",
    }
    assert event.attributes == wanted


def test_gzip_is_undone() -> None:
    """A request may be logged compressed without a word about it."""
    assert read(LOGGED, gzip.compress(b'{"x":1}')).data == b'{"x":1}'
    assert read(LOGGED, gzip.compress(b" " * LIMIT)).data == b" " * LIMIT


def test_a_record_without_a_value_is_an_empty_body() -> None:
    """It is refused where bodies are read, as an empty POST is."""
    assert read(LOGGED, None).data == b""


# Seldon Core 2


@pytest.mark.parametrize(
    ("topic", "kind", "namespace", "name"),
    [
        ("seldon.shop.model.wine.inputs", EventKind.REQUEST, "shop", "wine"),
        ("seldon.shop.model.wine.outputs", EventKind.RESPONSE, "shop", "wine"),
        ("a.prefix.shop.pipeline.wine.v2.outputs", EventKind.RESPONSE, "shop", "wine.v2"),
    ],
)
def test_a_topic_of_core_2_says_what_it_holds(topic: str, kind: str, namespace: str, name: str) -> None:
    """Kind, namespace and name come from the topic, the pipeline from its header."""
    event = read({"x-request-id": "abc", "pipeline": "p"}, topic=topic)
    assert event.kind == kind
    labels = {"namespace": namespace, "inferenceservicename": name, "modelid": name, "endpoint": "p"}
    assert event.attributes == {**labels, "requestid": "abc", "protocol": "v2"}
    assert (event.source, event.id) == (f"kafka:{topic}", "partition:3/offset:8812")


@pytest.mark.parametrize(
    "topic", ["seldon.shop.errors.errors", "seldon.shop.model.wine", "seldon", "model.wine.outputs", "mlserver-output"]
)
def test_any_other_topic_is_left_alone(topic: str) -> None:
    """Errors of Core 2, topics of others and records without headers are answered and change nothing, whatever is in
    them."""
    for value in (b"\x1f\x8bbroken", None, b"x" * (LIMIT + 1)):
        assert read({"x-request-id": "abc", "type": "other"}, value, topic=topic).kind == EventKind.OTHER


@pytest.mark.parametrize(
    ("headers", "key", "request_id"),
    [
        ({"x-request-id": "abc"}, b"2.wine.other", "abc"),
        ({"x-request-id": "2.wine.abc"}, None, "abc"),
        ({"x-request-id": "wine.abc"}, None, "abc"),
        ({"x-request-id": "2.p.abc", "pipeline": "p"}, None, "abc"),
        ({"x-request-id": "2.5.1"}, None, "2.5.1"),
        ({"x-request-id": "order.17"}, None, "order.17"),
        ({"x-request-id": "2.wine.order.17"}, None, "order.17"),
        ({}, b"2.wine.abc", "abc"),
        ({}, b"wine.abc", "abc"),
        ({}, b"2.unnamed.abc", "abc"),
        ({}, b"unnamed.abc", "abc"),
        ({}, b"abc", "abc"),
    ],
)
def test_the_request_id_is_the_clients(headers: dict[str, str], key: bytes | None, request_id: str) -> None:
    """From the header or else the key, with or without what Core 2 puts before it; a client's own dots stay."""
    assert read(headers, key=key, topic=CORE_2).attributes["requestid"] == request_id


def test_without_header_and_key_there_is_no_request_id() -> None:
    """A raw producer may give neither."""
    assert "requestid" not in read(topic=CORE_2).attributes


@pytest.mark.parametrize(
    ("headers", "value", "content_type", "data"),
    [
        ({"seldon-infer-type": "json/inferModelResponse"}, b' {"a":1}', "application/json", b' {"a":1}'),
        ({"seldon-infer-type": "proto/InferModelResponse"}, b"\x0a\x01w", "application/protobuf", b"\x0a\x01w"),
        ({}, b'{"a":1}', "application/json", b'{"a":1}'),
        ({}, b"\x0a\x01w", "application/protobuf", b"\x0a\x01w"),
        ({}, b"\0\0\0\0\7\0\x0a\x01w", "application/protobuf", b"\x0a\x01w"),
        ({}, b'\0\0\0\0\7{"a":1}', "application/json", b'{"a":1}'),
        ({}, b"\0\0\0\0\7\x02\x02\x0a\x01w", "application/protobuf", b"\x0a\x01w"),
    ],
)
def test_the_payload_of_core_2_is_unframed(
    headers: dict[str, str], value: bytes, content_type: str, data: bytes
) -> None:
    """The header says what the payload is, else its first byte; a schema registry's prefix is taken off."""
    event = read(headers, value, topic=CORE_2)
    assert (event.content_type, event.data) == (content_type, data)


# Anything


_NAMES = st.sampled_from(
    ["type", "content-type", "requestid", "ce_id", "ce_type", "ce_source", "ce_specversion", "x-request-id", "Type"]
)
_VALUES = st.one_of(
    st.none(),
    st.binary(max_size=40),
    st.sampled_from([RESPONSE_TYPE.encode(), b"application/cloudevents+json", b"1.0"]),
)


@given(
    headers=st.lists(st.tuples(_NAMES, _VALUES), max_size=8),
    value=st.one_of(st.none(), st.binary(max_size=100), st.binary(max_size=50).map(lambda data: b"\x1f\x8b" + data)),
    key=st.one_of(st.none(), st.binary(max_size=20)),
    topic=st.sampled_from(["seldon", CORE_2]),
)
def test_any_record_is_an_event_or_refused(
    headers: list[tuple[str, bytes | None]], value: bytes | None, key: bytes | None, topic: str
) -> None:
    """Whatever stands in a record: an event, or a refusal with a reason, never another exception."""
    try:
        event = read(headers, value, key=key, topic=topic)
    except Rejected:
        return
    assert event.key
