"""Golden events: real requests and Kafka records, one for each producer, protocol and form, say what stands beside
them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from metrics_server.errors import Reason, Rejected
from metrics_server.ingest.cloudevent import Event, decode
from metrics_server.ingest.decoding import decompressed
from metrics_server.ingest.kafka.record import strip_registry_frame
from metrics_server.ingest.payload import read
from metrics_server.ingest.payload.parsed import ParsedPayload
from metrics_server.metrics.labels import EventKind

GOLDEN = Path(__file__).parent / "golden"
LIMIT = 2**20
PROTOBUF = "application/protobuf"
READING = {"response", "truth", "reward", "puids", "tags", "path", "is_flat"}


def expected_of(path: Path) -> dict[str, Any]:
    return json.loads(path.with_suffix(".json").read_text())


def reading_of(expected: dict[str, Any]) -> ParsedPayload:
    return ParsedPayload(**{name: value for name, value in expected.items() if name in READING})


def event_of(message: bytes) -> Event:
    head, _, body = message.partition(b"\r\n\r\n")
    lines = (line.split(": ", 1) for line in head.decode("latin-1").splitlines()[1:])
    headers = {name.lower(): value for name, value in lines}
    attributes = {name.removeprefix("ce-"): value for name, value in headers.items() if name.startswith("ce-")}
    assert int(headers["content-length"]) == len(body)
    (event,) = decode(headers.get("content-type", ""), attributes, decompressed(body, "", LIMIT))
    assert isinstance(event, Event)
    return event


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.http")), ids=lambda path: path.stem)
def test_a_golden_request_says_what_stands_beside_it(path: Path) -> None:
    """A request as the producer sends it gives this kind, these attributes and these rows."""
    expected = expected_of(path)
    event = event_of(path.read_bytes())
    assert event.kind == expected["kind"]
    assert event.id == expected.get("id", event.id)
    assert {name: event.attributes.get(name) for name in expected.get("attributes", ())} == expected.get(
        "attributes", {}
    )
    asked = (event.kind, event.attributes.get("protocol", ""), event.content_type, event.data)
    if "rejected" in expected:
        with pytest.raises(Rejected) as refused:
            read(*asked)
        assert refused.value.reason.label == expected["rejected"]
    else:
        assert read(*asked) == reading_of(expected)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.record")), ids=lambda path: path.stem)
def test_a_golden_record_says_what_stands_beside_it(path: Path) -> None:
    """The value of a Kafka record gives these rows; its headers say protocol and content type."""
    expected, record = expected_of(path), json.loads(path.read_text())
    headers, value = record["headers"], strip_registry_frame(base64.b64decode(record["value"]))
    assert read(expected["kind"], headers.get("protocol", ""), headers.get("content-type", ""), value) == reading_of(
        expected
    )


def test_every_golden_file_has_its_pair() -> None:
    """No expectation stands alone, and there are some of every producer."""
    stems = sorted(path.stem for suffix in ("http", "record") for path in GOLDEN.glob(f"*.{suffix}"))
    assert stems == sorted(path.stem for path in GOLDEN.glob("*.json"))
    producers = {stem.split("-")[0] for stem in stems}
    assert producers == {"seldon", "tensorflow", "v2", "kserve", "kafka", "kafkasource", "bare", "cloudevents"}


@pytest.mark.parametrize(
    ("content_type", "body", "response"),
    [
        ("", b'{"predictions":[1]}', [1]),
        ("", b' \n{"predictions":[1]}', [1]),
        ("application/json", b' \n{"predictions":[1]}', [1]),
        (PROTOBUF, b'{"predictions":[1]}', [1]),
        ("application/octet-stream", b'{"predictions":[1]}', [1]),
        ("Application/JSON; charset=utf-8", b'{"predictions":[1]}', [1]),
        ("application/json", b"data: [DONE]\n\n", [None]),
        ("text/event-stream", b"data: {}\n\n", [None]),
    ],
)
def test_a_response_is_read_by_its_body_first(content_type: str, body: bytes, response: list[Any]) -> None:
    """KServe states the type of the request with the response, so that the body tells more than the type."""
    assert read(EventKind.RESPONSE, "", content_type, body).response == response


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe", b"hello", b"{", b'{"meta":1}', b"[1]", b"data: {}", b'{"meta":{"puid":7}}', b"\x0a" * 9]
)
@pytest.mark.parametrize("content_type", ["", "application/json", PROTOBUF, "text/plain"])
def test_a_request_is_never_refused(content_type: str, body: bytes) -> None:
    """Nothing of a request is needed, so that whatever cannot be read says nothing."""
    assert read(EventKind.REQUEST, "seldon", content_type, body) == ParsedPayload()


@pytest.mark.parametrize("body", [b"", b"reward=1", b"\x0a\x07\x12\x05\x0a\x03abc"])
@pytest.mark.parametrize("content_type", ["", "application/json", "text/plain"])
def test_a_feedback_that_is_not_stated_to_be_protobuf_is_json(content_type: str, body: bytes) -> None:
    """A person's bare feedback that is no JSON gets told so."""
    with pytest.raises(Rejected) as refused:
        read(EventKind.FEEDBACK, "", content_type, body)
    assert refused.value.reason is Reason.MALFORMED_JSON


@pytest.mark.parametrize(
    ("framed", "payload"),
    [
        (b"\0\0\0\0\x07\0\x0a\x01a", b"\x0a\x01a"),
        (b"\0\0\0\0\x07\x02\0\x0a\x01a", b"\x0a\x01a"),
        (b"\0\0\0\0\x07\x04\x02\x80\x01\x0a\x01a", b"\x0a\x01a"),
        (b'\0\0\0\0\x07{"a":1}', b'{"a":1}'),
        (b"\x0a\x01a", b"\x0a\x01a"),
        (b'{"a":1}', b'{"a":1}'),
        (b"", b""),
        (b"\0\0\0\0\x07", b"\0\0\0\0\x07"),
        (b"\0\0\0\0\x07\xff\xff", b""),
        (b"\0\0\0\0\x07\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", b""),
    ],
)
def test_the_frame_of_a_schema_registry_is_taken_off(framed: bytes, payload: bytes) -> None:
    """Magic byte, number of the schema and message index go; a value without them stays."""
    assert strip_registry_frame(framed) == payload
