"""The table of payload protocols: one row adds one, in JSON, protobuf and streams, and the documentation lists it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from metrics_server.errors import Reason, Rejected
from metrics_server.ingest import payload
from metrics_server.ingest.cloudevent import Event, decode
from metrics_server.ingest.normalize import observation_of
from metrics_server.ingest.payload import PROTOCOLS, PayloadReader
from metrics_server.ingest.payload.parsed import ParsedPayload
from metrics_server.ingest.payload.pb import inference_pb2, seldon_pb2, tensorflow_pb2
from metrics_server.ingest.payload.protocol import Member, OtherMessage, Protocol
from metrics_server.ingest.payload.rows import Row, rows_of_json
from metrics_server.metrics.labels import EventKind
from metrics_server.series.series import Labels
from tests.support.running import FEEDBACK, RESPONSE, ROOT

PAGE = Path(ROOT / "docs/reference/payloads.md").read_text()
JSON, PROTOBUF = "application/json", "application/protobuf"
NOW = 1_767_225_600.0
ANSWER = b"\x7fscores:3,4"


def _rows_of_scores(value: Any, what: str) -> list[Row]:
    return rows_of_json(value["scores"], what)


def _read_message(body: bytes) -> ParsedPayload:
    if not body.startswith(b"\x7fscores:"):
        raise OtherMessage(Reason.MALFORMED_PAYLOAD, "no scores")
    return ParsedPayload(response=[float(score) for score in body.partition(b":")[2].split(b",")])


def _rows_behind(body: bytes, what: str) -> list[Row] | None:
    text, found, behind = body.partition(b"\n\n")
    return list(behind) if found and text == b'{"scored":true}' else None


SCORES = Protocol(
    "Scores",
    names=("scores",),
    members={"scored": Member(_rows_of_scores)},
    protobuf={EventKind.RESPONSE: _read_message},
    tried=4,
    is_stream=lambda body: body.startswith(b"score! "),
    rows_behind_json=_rows_behind,
)


@pytest.fixture
def with_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose table has one row more."""
    monkeypatch.setattr(payload, "_READER", PayloadReader((*PROTOCOLS, SCORES)))


def _observed(body: bytes, kind: str = RESPONSE, content_type: str = JSON, protocol: str = "") -> list[Any]:
    """The predictions that an event in binary mode brings, from its headers and body."""
    headers = {"specversion": "1.0", "id": "1", "source": "/s", "type": kind, "requestid": "r"}
    (event,) = decode(content_type, {**headers, **({"protocol": protocol} if protocol else {})}, body)
    assert isinstance(event, Event)
    observation = observation_of(event, Labels("shop", "wine", "main", "classifier"), NOW)
    return [row.prediction.value if row.prediction else None for row in observation.rows]


@pytest.mark.parametrize(
    ("body", "content_type", "protocol", "rows"),
    [
        (b'{"scored":{"scores":[1,2]}}', JSON, "", [1, 2]),
        (ANSWER, PROTOBUF, "scores", [3.0, 4.0]),
        (ANSWER, PROTOBUF, "", [3.0, 4.0]),
        (b"score! 1\nscore! 2\n", "text/event-stream", "", [None]),
        (b'{"scored":true}\n\n\x05\xff', JSON, "", [5, 255]),
    ],
    ids=["JSON", "protobuf, stated", "protobuf, tried", "a stream", "bytes behind JSON"],
)
@pytest.mark.usefixtures("with_scores")
def test_a_row_of_the_table_is_a_protocol(body: bytes, content_type: str, protocol: str, rows: list[Any]) -> None:
    """An event in a protocol that one row adds is read to the observation that it brings."""
    assert _observed(body, content_type=content_type, protocol=protocol) == rows


@pytest.mark.usefixtures("with_scores")
def test_a_row_of_the_table_is_read_within_feedback() -> None:
    """A new member is read in the response and the truth of a Feedback too."""
    part = b'{"scored":{"scores":[1,2]}}'
    assert _observed(b'{"response":%b,"truth":%b}' % (part, part), FEEDBACK) == [1, 2]


@pytest.mark.parametrize("body", [b'{"scored":{"scores":[1]}}', b'{"scored":true}\n\n\x05'])
def test_without_its_row_a_protocol_is_unknown(body: bytes) -> None:
    """Nothing but the table makes the protocol known."""
    with pytest.raises(Rejected):
        _observed(body)


@pytest.mark.usefixtures("with_scores")
def test_a_new_protocol_leaves_the_others_as_they_are() -> None:
    """Members, messages and streams of the protocols before it are read as before, and win where both are there."""
    assert _observed(b'{"data":{"ndarray":[7]},"scored":{"scores":[1,2]}}') == [7]
    assert _observed(b'{"predictions":[7]}') == [7]
    assert _observed(b'data: {"choices":[]}\n') == [None]
    assert _observed(seldon_pb2.SeldonMessage(strData="cat").SerializeToString(), content_type=PROTOBUF) == ["cat"]


def test_what_no_protocol_reads_names_those_there_are() -> None:
    """The refusal lists the protocols of the table, in JSON and in protobuf."""
    for content_type, body, titles in (
        (JSON, b"{}", [row.title for row in PROTOCOLS if row.members]),
        (PROTOBUF, b"", [row.title for row in PROTOCOLS if row.protobuf]),
    ):
        with pytest.raises(Rejected) as raised:
            _observed(body, content_type=content_type)
        assert raised.value.reason is Reason.UNKNOWN_PROTOCOL
        assert all(title in raised.value.detail for title in titles)


MESSAGES = {
    "Seldon": seldon_pb2.SeldonMessage(strData="cat"),
    "TensorFlow": tensorflow_pb2.PredictResponse(outputs={"p": tensorflow_pb2.TensorProto(dtype=1, float_val=[7])}),
    "V2": inference_pb2.ModelInferResponse(
        outputs=[
            inference_pb2.InferOutputTensor(
                datatype="FP32", shape=[1], contents=inference_pb2.InferTensorContents(fp32_contents=[7])
            )
        ]
    ),
}


@pytest.mark.parametrize("row", [row for row in PROTOCOLS if row.protobuf], ids=lambda row: row.title)
def test_every_row_reads_its_message(row: Protocol) -> None:
    """Each protocol with protobuf reads its message under each of its names, and when none is stated."""
    body = MESSAGES[row.title].SerializeToString()
    for name in (*row.names, ""):
        assert _observed(body, content_type=PROTOBUF, protocol=name) in (["cat"], [7.0])


# The documentation


def _section(heading: str) -> str:
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def _cells(text: str) -> list[list[str]]:
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_the_documented_members_are_those_of_the_table() -> None:
    """The page lists each member with its protocol, in the order in which they are looked for."""
    documented = []
    for member, protocol, *_ in _cells(_section("JSON")):
        found = re.match(r"`(\w+)", member)
        assert found, member
        documented.append((found[1], protocol.partition(" (")[0]))
    table: dict[str, list[str]] = {}
    for row in PROTOCOLS:
        for name in row.members:
            table.setdefault(name, []).append(row.title)
    assert list(dict.fromkeys(documented)) == [(name, title) for name, titles in table.items() for title in titles]


def test_the_documented_exceptions_of_feedback_are_those_of_the_table() -> None:
    """The page names the members that are read of logged responses only."""
    named = re.search(r"((?:`\w+`(?:, | and )?)+) are read of logged responses only", PAGE)
    assert named
    logged = {name for row in PROTOCOLS for name, member in row.members.items() if member.logged_only}
    assert set(re.findall(r"`(\w+)`", named[1])) == logged


def test_the_documented_messages_are_those_of_the_table() -> None:
    """The page lists each protocol with messages in protobuf, its names, and the order in which they are tried."""
    section = _section("Protobuf")
    having = [row for row in PROTOCOLS if row.protobuf]
    assert {protocol for protocol, *_ in _cells(section)} == {row.title for row in having}
    stated = re.search(r"attribute `protocol` of the event \(([^)]*)\)", section)
    assert stated
    assert set(re.findall(r"`(\w+)`", stated[1])) == {name for row in PROTOCOLS for name in row.names}
    tried = re.search(r"the body is tried as (.*), in this order", section, re.DOTALL)
    assert tried
    titles = "|".join(row.title for row in having)
    assert re.findall(titles, tried[1]) == [row.title for row in sorted(having, key=lambda row: row.tried)]
