"""A JSON text is UTF-8 as a whole (RFC 8259, section 8.1), also where nothing of it is read; what is no JSON may be any
bytes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from metrics_server.commands.replay.engine import replay
from metrics_server.errors import Reason, Rejected
from metrics_server.ingest.cloudevent import BATCH, Event, decode
from metrics_server.ingest.kafka.record import Record, event_of_record
from metrics_server.ingest.payload import read
from metrics_server.metrics.labels import EventKind
from tests.support.running import FEEDBACK, REQUEST, RESPONSE, RunningServer, ce

JSON, STRUCTURED = "application/json", "application/cloudevents+json"
CORE_2 = "seldon.shop.model.wine.outputs"
JUNK = b'{"response":{"data":{"ndarray":[1]}},"truth":{"data":{"ndarray":[1]}},"junk":"caf\xe9"}'
JUNK_RESPONSE = b'{"data":{"ndarray":[1],"names":["caf\xe9"]}}'
GOOD = JUNK.replace(b"caf\xe9", "café".encode())
# Bodies whose bytes are no UTF-8: overlong, a surrogate, beyond the last character, cut short, a stray continuation.
NOT_UTF8 = (b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80", b"\xff")


def v2_with_bytes(*values: int) -> bytes:
    """An answer of the V2 protocol with its values behind the JSON."""
    parameters = {"binary_data_size": len(values)}
    tensor = {"name": "p", "datatype": "UINT8", "shape": [len(values)], "parameters": parameters}
    return json.dumps({"outputs": [tensor]}).encode() + bytes(values)


def envelope(data: bytes, **members: str) -> bytes:
    """A structured event with these data, as they are."""
    attributes = {"specversion": "1.0", "id": "1", "source": "/s", "type": FEEDBACK, **members}
    return json.dumps(attributes).encode()[:-1] + b',"data":' + data + b"}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    running = RunningServer(tmp_path_factory.mktemp("utf8"), "--store", "memory://")
    yield running
    running.stop()


REFUSED: dict[str, tuple[str, dict[str, str], bytes]] = {
    "a bare feedback": ("/", {"Content-Type": JSON}, JUNK),
    "a feedback in binary mode": ("/", ce(FEEDBACK, "1", "r"), JUNK),
    "a response in binary mode": ("/", ce(RESPONSE, "2", "r"), JUNK_RESPONSE),
    "a structured event": ("/", {"Content-Type": STRUCTURED}, envelope(JUNK)),
    "a structured event of no kind of ours": ("/", {"Content-Type": STRUCTURED}, envelope(JUNK, type="com.example")),
    "a structured request": ("/", {"Content-Type": STRUCTURED}, envelope(JUNK_RESPONSE, type=REQUEST)),
    "a batch": ("/", {"Content-Type": BATCH}, b"[" + envelope(GOOD) + b"," + envelope(JUNK) + b"]"),
    "a batch with a rare attribute": ("/", {"Content-Type": BATCH}, b"[" + envelope(JUNK, rare="1") + b"]"),
    "plain feedback": ("/v1/feedback", {"Content-Type": JSON}, b'{"request_id":"a","truth":"caf\xe9"}'),
    "a list of plain feedback": (
        "/v1/feedback",
        {"Content-Type": JSON},
        b'[{"request_id":"a","truth":1},{"junk":"caf\xe9"}]',
    ),
    "Seldon's ingress": ("/seldon/shop/wine/api/v1.0/feedback", {"Content-Type": JSON}, JUNK),
    "the executor's path": ("/api/v0.1/feedback", {"Content-Type": JSON}, JUNK),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_byte_that_is_no_utf8_refuses_the_body(server: RunningServer, name: str) -> None:
    """On every route that takes JSON one such byte refuses the body as a whole, also in a member that is not read."""
    path, headers, body = REFUSED[name]
    counted = server.value("metrics_server_rejected_total", reason="invalid_utf8") or 0
    answer = server.post(body, headers, path)
    assert (answer.status, answer.reason) == (400, "invalid_utf8")
    assert server.value("metrics_server_rejected_total", reason="invalid_utf8") == counted + 1
    assert server.value("model_pairs_total") is None


ACCEPTED: dict[str, tuple[dict[str, str], bytes]] = {
    "UTF-8 in a member that is not read": (ce(FEEDBACK, "3"), GOOD),
    "a batch in UTF-8": ({"Content-Type": BATCH}, b"[" + envelope(GOOD, id="4") + b"," + envelope(GOOD, id="5") + b"]"),
    "bytes behind the JSON of V2": (ce(RESPONSE, "6", "r6"), v2_with_bytes(200, 255)),
    "a stream": (ce(RESPONSE, "7", "r7"), b'data: {"choices":["\xff"]}\n\ndata: [DONE]\n\n'),
    "a request, of which nothing is needed": (ce(REQUEST, "8", "r8"), JUNK_RESPONSE),
    "data in base64": (
        {"Content-Type": STRUCTURED},
        json.dumps(
            {
                "specversion": "1.0",
                "id": "9",
                "source": "/s",
                "type": RESPONSE,
                "requestid": "r9",
                "data_base64": base64.b64encode(v2_with_bytes(200, 255)).decode(),
            }
        ).encode(),
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_no_json_text_may_be_any_bytes(server: RunningServer, name: str) -> None:
    """Text beyond ASCII, raw tensors behind JSON or in base64, and streams are taken as before."""
    headers, body = ACCEPTED[name]
    answer = server.post(body, headers)
    assert (answer.status, answer.body) == (200, b"")


def _read(event: Event) -> Any:
    return read(event.kind, event.attributes.get("protocol", ""), event.content_type, event.data)


@pytest.mark.parametrize("wrong", NOT_UTF8)
@pytest.mark.parametrize("place", [b'{"data":{"ndarray":[1]},"x":"%b"}', b'{"data":{"ndarray":[1]},"%b":1}'])
def test_whatever_is_no_utf8_is_refused(place: bytes, wrong: bytes) -> None:
    """Each way to break UTF-8 is found, in values and in names."""
    with pytest.raises(Rejected) as raised:
        read(EventKind.RESPONSE, "", JSON, place % wrong)
    assert raised.value.reason is Reason.INVALID_UTF8


def test_values_behind_json_are_read_as_they_are() -> None:
    """The bytes of a tensor are values, whatever they are as a text."""
    assert read(EventKind.RESPONSE, "", JSON, v2_with_bytes(200, 255)).response == [200, 255]
    structured = json.loads(ACCEPTED["data in base64"][1])
    (event,) = decode(STRUCTURED, {}, json.dumps(structured).encode())
    assert isinstance(event, Event)
    assert _read(event).response == [200, 255]


RECORDS: dict[str, tuple[str, dict[str, str], bytes]] = {
    "an event in structured mode": ("t", {"content-type": STRUCTURED}, envelope(JUNK)),
    "an event in binary mode": (
        "t",
        {"ce_specversion": "1.0", "ce_id": "1", "ce_source": "s", "ce_type": FEEDBACK, "content-type": JSON},
        JUNK,
    ),
    "a payload of the executor": ("t", {"type": RESPONSE, "content-type": JSON}, JUNK_RESPONSE),
    "a payload of Core 2": (CORE_2, {}, b'{"outputs":[{"name":"\xe9","datatype":"FP32","shape":[1],"data":[1]}]}'),
    "a payload of Core 2 with a frame": (CORE_2, {}, b"\0\0\0\0\7" + JUNK_RESPONSE),
}


@pytest.mark.parametrize("name", RECORDS)
def test_records_of_kafka_are_held_to_it(name: str) -> None:
    """JSON in a record is refused by the same rule as on HTTP."""
    topic, headers, value = RECORDS[name]
    record = Record(topic, 0, 0, 1.0, b"k", [(key, text.encode()) for key, text in headers.items()], value)
    with pytest.raises(Rejected) as raised:
        _read(event_of_record(record, 4096))
    assert raised.value.reason is Reason.INVALID_UTF8


def test_lines_of_a_replay_are_held_to_it(tmp_path: Path) -> None:
    """A line that is no UTF-8 is refused alone."""
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"truth":1,"prediction":1}\n{"truth":1,"prediction":1,"model":"caf\xe9"}\n')
    with pytest.warns(UserWarning, match="1 of 2 records were refused: 1 invalid_utf8"):
        (found,) = replay(path)
    assert found["support"] == 1
