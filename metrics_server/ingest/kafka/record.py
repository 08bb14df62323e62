"""Decodes a Kafka record as an event: the CloudEvents binding, the Seldon executor's Kafka logger, and the topics of
Seldon Core 2.

Pure: no broker and no driver. A record of anything else is an event of kind OTHER, which is answered and changes
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from metrics_server.errors import Reason, Rejected
from metrics_server.ingest.cloudevent import BATCH, KINDS, REQUIRED, Event, decode, event_of, media_type
from metrics_server.ingest.decoding import decompressed
from metrics_server.metrics.labels import EventKind

BINDING_PREFIX = "ce_"

# What the executor's logger says of a payload in the record's headers; the names are those of its CloudEvents'
# extensions.
LOGGED = ("requestid", "namespace", "inferenceservicename", "endpoint", "modelid", "protocol")

# <prefix>.<namespace>.model|pipeline.<name>.inputs|outputs; a namespace has no dots, a name may.
CORE_2_TOPIC = re.compile(r".+?\.(?P<namespace>[^.]+)\.(?:model|pipeline)\.(?P<name>.+)\.(?P<end>inputs|outputs)")
CORE_2_TYPES = {"inputs": "io.seldon.serving.inference.request", "outputs": "io.seldon.serving.inference.response"}

JSON, PROTOBUF = "application/json", "application/protobuf"


class Record(NamedTuple):
    """A record as a consumer gets it.

    Attributes:
        time: its timestamp in UTC seconds; None when it has none.
        headers: as sent, in their order; a name may come twice.
        value: None for a tombstone.
    """

    topic: str
    partition: int
    offset: int
    time: float | None
    key: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    value: bytes | None

    @property
    def place(self) -> str:
        """The place in its topic, in the form that Knative's KafkaSource gives to records without an id."""
        return f"partition:{self.partition}/offset:{self.offset}"


def event_of_record(record: Record, max_body_bytes: int) -> Event:
    """Decodes the event in a record. One without an identity of its own gets that of its place, so a redelivery is
    known.

    Raises:
        Rejected: it is one of ours, but cannot be read; the detail names its topic and place.
    """
    try:
        return _event_of(record, _Headers(record), max_body_bytes)
    except Rejected as error:
        raise Rejected(error.reason, f"{record.topic} {record.place}: {error.detail}") from error


class _Headers:
    """A record's headers as texts, by lower-case name; of several with one name the first."""

    def __init__(self, record: Record) -> None:
        self.values: dict[str, bytes] = {}
        self.doubled: set[str] = set()
        for given, value in record.headers:
            name = given.lower()
            if name in self.values:
                self.doubled.add(name)
            else:
                self.values[name] = value or b""

    def get(self, name: str) -> str:
        """The value; bytes that are no UTF-8 are taken one by one, as for an HTTP header."""
        value = self.values.get(name, b"")
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.decode("latin-1")


def _event_of(record: Record, headers: _Headers, limit: int) -> Event:
    content_type = headers.get("content-type")
    if media_type(content_type).startswith("application/cloudevents"):
        return _timed(_structured(content_type, _body(record, limit)), record)
    if any(f"{BINDING_PREFIX}{name}" in headers.values for name in REQUIRED):
        return _timed(_binary(headers, content_type, _body(record, limit)), record)
    if (logged := headers.get("type")) in KINDS:
        attributes = {name: value for name in LOGGED if (value := headers.get(name))}
        return _placed(record, logged, attributes, content_type, limit)
    if topic := CORE_2_TOPIC.fullmatch(record.topic):
        return _core_2(record, headers, topic, limit)
    return Event(kind=EventKind.OTHER, id=record.place, source=f"kafka:{record.topic}")


def _body(record: Record, limit: int) -> bytes:
    value = decompressed(record.value or b"", "", limit)
    if len(value) > limit:
        raise Rejected(Reason.BODY_TOO_LARGE, f"the value is larger than {limit} bytes")
    return value


def _timed(event: Event, record: Record) -> Event:
    """With the record's time where the event does not say its own: a consumer that catches up reads what happened long
    ago.
    """
    return msgspec.structs.replace(event, time=record.time) if event.time is None else event


def _placed(record: Record, event_type: str, attributes: Mapping[str, str], content_type: str, limit: int) -> Event:
    return Event(
        kind=KINDS[event_type],
        id=record.place,
        source=f"kafka:{record.topic}",
        type=event_type,
        time=record.time,
        attributes=attributes,
        content_type=content_type,
        data=_body(record, limit),
    )


def _structured(content_type: str, body: bytes) -> Event:
    if media_type(content_type) == BATCH:
        raise Rejected(Reason.UNSUPPORTED_FORMAT, "CloudEvents has no batches over Kafka; send one event a record")
    (event,) = decode(content_type, {}, body)
    assert isinstance(event, Event)  # refusals stand in for elements of batches only
    return event


def _binary(headers: _Headers, content_type: str, body: bytes) -> Event:
    attributes = {}
    for name, value in headers.values.items():
        if not name.startswith(BINDING_PREFIX):
            continue
        attribute = name.removeprefix(BINDING_PREFIX)
        if attribute in REQUIRED:
            if name in headers.doubled:
                raise Rejected(Reason.DUPLICATE_HEADER, f"the header {name} was sent twice")
            if not _is_text(value):
                raise Rejected(Reason.BAD_ENCODING, f"{name} is not valid UTF-8")
        attributes[attribute] = headers.get(name)
    stated = attributes.pop(
        "datacontenttype", ""
    )  # the header content-type says it; some senders write this one besides
    return event_of(attributes, content_type or stated, body)


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _core_2(record: Record, headers: _Headers, topic: re.Match[str], limit: int) -> Event:
    name, pipeline = topic["name"], headers.get("pipeline")
    attributes = {
        "requestid": _request_id(record, headers, {name, pipeline} - {""}),
        "namespace": topic["namespace"],
        "inferenceservicename": name,
        "endpoint": pipeline,
        "modelid": name,
        "protocol": "v2",
    }
    event = _placed(record, CORE_2_TYPES[topic["end"]], {k: v for k, v in attributes.items() if v}, "", limit)
    assert isinstance(event.data, bytes)
    data = strip_registry_frame(event.data)
    return msgspec.structs.replace(
        event, content_type=_core_2_content_type(headers.get("seldon-infer-type"), data), data=data
    )


def _core_2_content_type(infer_type: str, data: bytes) -> str:
    """As the header says, which is optional; no V2 message in protobuf begins with a brace."""
    if infer_type:
        return JSON if infer_type.lower().startswith("json") else PROTOBUF
    return JSON if data.startswith(b"{") else PROTOBUF


def _request_id(record: Record, headers: _Headers, resources: set[str]) -> str:
    """The id of the header, else of the key, without the parts that Core 2 puts before it:
    [<partition>.]<resource>.<id>.

    In the header these are taken off only before a resource that the record names: a client's own id may have dots.
    """
    names = "|".join(re.escape(name) for name in sorted(resources, key=len, reverse=True))
    composite = re.compile(rf"(?:\d+\.)?(?:{names})\.(?P<id>.+)")
    if stated := headers.get("x-request-id"):
        found = composite.fullmatch(stated)
        return found["id"] if found else stated
    key = (record.key or b"").decode(errors="replace")
    found = composite.fullmatch(key) or re.fullmatch(r"(?:\d+\.)?[^.]+\.(?P<id>.+)", key)
    return found["id"] if found else key


_MAGIC = b"\0"  # neither JSON nor a protobuf message can begin with it


_PREFIX_BYTES = 5  # magic and the number of the schema


def strip_registry_frame(value: bytes) -> bytes:
    """The payload of a record: without magic byte, number of the schema and message index, or as it is if it has none
    of them.

    Args:
        value: of the record. The index, which only protobuf has, says which message of its schema it is: the length of
            the path, then the path, as zigzag varints; a single 0 stands for the first message.
    """
    if value[:1] != _MAGIC or len(value) <= _PREFIX_BYTES:
        return value
    if value[_PREFIX_BYTES : _PREFIX_BYTES + 1] == b"{":  # JSON, which has no index
        return value[_PREFIX_BYTES:]
    length, position = _varint(value, _PREFIX_BYTES)
    for _ in range(min(length, len(value))):
        _, position = _varint(value, position)
    return value[position:]


def _varint(value: bytes, position: int) -> tuple[int, int]:
    """The zigzag varint at a position, and where it ends."""
    number = shift = 0
    for end in range(position, min(position + 10, len(value))):
        number |= (value[end] & 0x7F) << shift
        shift += 7
        if value[end] < 0x80:
            return (number >> 1) ^ -(number & 1), end + 1
    return 0, len(value)
