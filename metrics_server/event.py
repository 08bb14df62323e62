"""CloudEvents 1.0 over HTTP, decoded: binary, structured and batched content modes, and a bare body without any of them.

Written here and not left to the SDK, which invents a missing id (so that nothing can be counted once), passes malformed JSON
as a string, takes a structured event with stray ce- headers for a binary one, and has no batches.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import datetime
from hashlib import blake2b
from urllib.parse import unquote_to_bytes

import msgspec

from metrics_server.errors import Reason, Rejected
from metrics_server.json import read

REQUEST, RESPONSE, FEEDBACK, OTHER, UNKNOWN = "request", "response", "feedback", "other", "unknown"

# What the event types that we read are about; any other type is OTHER, is answered 200, and changes nothing.
KINDS = {
    "io.seldon.serving.inference.request": REQUEST,
    "io.seldon.serving.inference.response": RESPONSE,
    "io.seldon.serving.feedback": FEEDBACK,
    "org.kubeflow.serving.inference.request": REQUEST,
    "org.kubeflow.serving.inference.response": RESPONSE,
    "org.kubeflow.serving.feedback": FEEDBACK,
}
# Types whose request and response share the event's id, which is then the request id.
SHARED_ID_PREFIX = "org.kubeflow.serving.inference."

# A Kafka record that is no CloudEvent, wrapped by Knative's KafkaSource: the record's headers are extensions with this prefix.
WRAPPED_TYPE = "dev.knative.kafka.event"
WRAPPED_PREFIX = "kafkaheader"

BATCH = "application/cloudevents-batch+json"

REQUIRED = ("specversion", "id", "source", "type")
MAX_ATTRIBUTE = 1024  # characters of an attribute that we use

_NAME = re.compile(r"[a-z0-9]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.IGNORECASE)
_PERCENT = re.compile(r"%[0-9A-Fa-f]{2}")
_NULL = msgspec.Raw(b"null")

_BATCH = msgspec.json.Decoder(list[msgspec.Raw])
_ENVELOPE = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ATTRIBUTE: msgspec.json.Decoder[str | int | float | bool | None] = msgspec.json.Decoder(str | int | float | bool | None)
_TEXT = msgspec.json.Decoder(str)
_OPTIONAL_TEXT: msgspec.json.Decoder[str | None] = msgspec.json.Decoder(str | None)


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One event: its context attributes and its data, undecoded. A bare body has an empty id, source and type."""

    kind: str
    id: str = ""
    source: str = ""
    type: str = ""
    time: float | None = None  # UTC seconds
    attributes: Mapping[str, str] = {}  # extensions and the optional attributes
    content_type: str = ""  # of the data, as stated
    data: bytes | msgspec.Raw = b""

    @property
    def key(self) -> bytes:
        """Identity for deduplication: a digest of source, type and id. Type, because KServe gives request and response one id."""
        # The lengths keep ("a", "b:1") and ("a:b", "1") apart.
        identity = f"{len(self.source)}:{len(self.type)}:{self.source}{self.type}{self.id}"
        return blake2b(identity.encode(), digest_size=16).digest()


def media_type(content_type: str) -> str:
    """A content type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def decode(content_type: str, headers: Mapping[str, str], body: bytes) -> list[Event | Rejected]:
    """The events of one request: one, or for a batch one for each element, a refusal in the place of an invalid one.

    Args:
        content_type: the header's value, "" when absent.
        headers: the `ce-` headers as sent, without their prefix, in lower case.
        body: decompressed.

    Raises:
        Rejected: the request as a whole is no event.
    """
    mode = media_type(content_type)
    if mode.startswith("application/cloudevents"):
        if mode == BATCH:
            return [_element(raw) for raw in read(body, _BATCH, Reason.MALFORMED_EVENT, "a batch")]
        if mode == "application/cloudevents+json":
            return [_structured(body)]
        raise Rejected(Reason.UNSUPPORTED_FORMAT, f"{mode} is not read; send application/cloudevents+json")
    if not any(name in headers for name in REQUIRED):
        return [Event(kind=FEEDBACK, content_type=content_type, data=body)]
    return [_binary(headers, content_type, body)]


def _element(raw: msgspec.Raw) -> Event | Rejected:
    try:
        return _structured(raw)
    except Rejected as error:
        return error


def _binary(headers: Mapping[str, str], content_type: str, body: bytes) -> Event:
    text = "".join(headers.values())
    attributes = dict(headers)
    if not text.isascii() or "%" in text or '"' in text:
        attributes = {name: _decoded(name, value) for name, value in headers.items()}
    if "datacontenttype" in attributes:
        raise Rejected(Reason.MALFORMED_EVENT, "ce-datacontenttype must not be sent in binary mode; Content-Type says it")
    return event_of(attributes, content_type, body)


def _decoded(name: str, value: str) -> str:
    """A header's value: quotes around the whole undone, then one round of percent-decoding; strict for what must be right."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    if "%" not in value and value.isascii():
        return value
    raw = value.encode("latin-1")
    if _PERCENT.search(value):
        raw = unquote_to_bytes(raw)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        if name in REQUIRED:
            raise Rejected(Reason.BAD_ENCODING, f"ce-{name} is not valid UTF-8 after percent-decoding") from error
        return value


def _structured(body: bytes | msgspec.Raw) -> Event:
    members = read(body, _ENVELOPE, Reason.MALFORMED_EVENT, "an event")
    data = _data_of(members)
    attributes = {}
    for name, raw in members.items():
        value = read(raw, _ATTRIBUTE, Reason.MALFORMED_EVENT, f"attribute {name[:40]}")
        if value is not None:
            attributes[name] = _text(value)
    return event_of(attributes, attributes.pop("datacontenttype", ""), data)


def _text(value: str | float) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _data_of(members: dict[str, msgspec.Raw]) -> bytes | msgspec.Raw:
    """Takes the data out of an envelope's members."""
    data, encoded = members.pop("data", None), members.pop("data_base64", None)
    if encoded is not None and bytes(encoded) != b"null":
        if data is not None and bytes(data) != b"null":
            raise Rejected(Reason.MALFORMED_EVENT, "an event has either data or data_base64, not both")
        try:
            return base64.b64decode(read(encoded, _TEXT, Reason.MALFORMED_EVENT, "data_base64"), validate=True)
        except (binascii.Error, ValueError) as error:
            raise Rejected(Reason.MALFORMED_EVENT, "data_base64 is not base64") from error
    if data is None:
        return b""
    content_type = (
        read(members.get("datacontenttype", _NULL), _OPTIONAL_TEXT, Reason.MALFORMED_EVENT, "datacontenttype") or "application/json"
    )
    media = media_type(content_type)
    if media.endswith(("/json", "+json")):
        return data
    text: str = read(data, _TEXT, Reason.MALFORMED_EVENT, f"data of {media[:40]}")
    return text.encode()


def event_of(attributes: dict[str, str], content_type: str, data: bytes | msgspec.Raw) -> Event:
    """The event with these context attributes, as texts; takes the required ones and the time out of them.

    Raises:
        Rejected: a required attribute is missing or unusable.
    """
    for name in REQUIRED:
        value = attributes.get(name, "")
        if not value:
            raise Rejected(Reason.MALFORMED_EVENT, f"the required attribute {name} is missing or empty")
        if len(value) > MAX_ATTRIBUTE or (not value.isprintable() and _CONTROL.search(value)):
            raise Rejected(Reason.MALFORMED_EVENT, f"{name} holds control characters, or more than {MAX_ATTRIBUTE} characters")
    if attributes.pop("specversion") != "1.0":
        raise Rejected(Reason.UNSUPPORTED_SPECVERSION, "specversion must be 1.0")
    time = attributes.pop("time", None)
    event_id, source, event_type = (attributes.pop(name) for name in ("id", "source", "type"))
    kind_type = event_type
    if event_type == WRAPPED_TYPE:
        attributes |= {k.removeprefix(WRAPPED_PREFIX): v for k, v in attributes.items() if k.startswith(WRAPPED_PREFIX)}
        kind_type = attributes.get("type", "")
    return Event(
        kind=KINDS.get(kind_type, OTHER),
        id=event_id,
        source=source,
        type=event_type,
        time=None if time is None else seconds_at(time),
        attributes=attributes,
        content_type=content_type,
        data=data,
    )


def seconds_at(timestamp: str) -> float:
    """UTC seconds of an RFC 3339 timestamp. A leap second is taken as the second before it."""
    if _TIME.fullmatch(timestamp):
        if timestamp[17:19] == "60":
            timestamp = f"{timestamp[:17]}59{timestamp[19:]}"
        try:
            return datetime.fromisoformat(timestamp.upper()).timestamp()
        except ValueError:
            pass
    raise Rejected(Reason.BAD_TIME, "time is not an RFC 3339 timestamp such as 2026-03-02T09:15:04.12Z")
