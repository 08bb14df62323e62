"""CloudEvents 1.0 over HTTP, decoded: binary, structured and batched content modes, and a bare body without any of
them.

Written here and not left to the SDK, which invents a missing id (so that nothing can be counted once), passes malformed
JSON as a string, takes a structured event with stray ce- headers for a binary one, and has no batches.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Annotated, Literal
from urllib.parse import unquote_to_bytes

import msgspec

from metrics_server.errors import Reason, Rejected
from metrics_server.ingest.decoding import read
from metrics_server.metrics.labels import OTHER, EventKind

# What the event types that we read are about; any other type is OTHER, is answered 200, and changes nothing.
KINDS = {
    "io.seldon.serving.inference.request": EventKind.REQUEST,
    "io.seldon.serving.inference.response": EventKind.RESPONSE,
    "io.seldon.serving.feedback": EventKind.FEEDBACK,
    "org.kubeflow.serving.inference.request": EventKind.REQUEST,
    "org.kubeflow.serving.inference.response": EventKind.RESPONSE,
    "org.kubeflow.serving.feedback": EventKind.FEEDBACK,
}
# Types whose events of one request share an id, which is then the request id.
SHARED_ID_PREFIX = "org.kubeflow.serving."

# A Kafka record that is no CloudEvent, wrapped by Knative's KafkaSource: the record's headers are extensions with this
# prefix.
WRAPPED_TYPE = "dev.knative.kafka.event"
WRAPPED_PREFIX = "kafkaheader"

BATCH = "application/cloudevents-batch+json"

REQUIRED = ("specversion", "id", "source", "type")
MAX_ATTRIBUTE = 1024  # characters of an attribute that we use

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.IGNORECASE)
_PERCENT = re.compile(r"%[0-9A-Fa-f]{2}")
_NULL = msgspec.Raw(b"null")

MAX_EVENTS = 20_000  # of one batch

_BATCH = msgspec.json.Decoder(list[msgspec.Raw])


class _Envelope(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A structured event whose attributes are texts, and none of them rare: what nearly all are."""

    specversion: str
    id: str
    source: str
    type: str
    data: msgspec.Raw = msgspec.Raw()
    time: str | None = None
    requestid: str | None = None
    namespace: str | None = None
    inferenceservicename: str | None = None
    endpoint: str | None = None
    modelid: str | None = None
    component: str | None = None
    protocol: str | None = None
    subject: str | None = None
    traceparent: str | None = None
    datacontenttype: Literal["application/json"] | None = None


# Attributes of the structure above that few events have.
_RARE = ("component", "subject", "traceparent")

_ENVELOPES = msgspec.json.Decoder(Annotated[list[_Envelope], msgspec.Meta(max_length=MAX_EVENTS)])
_ENVELOPE = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ATTRIBUTE: msgspec.json.Decoder[str | int | float | bool | None] = msgspec.json.Decoder(
    str | int | float | bool | None
)
_TEXT = msgspec.json.Decoder(str)
_OPTIONAL_TEXT: msgspec.json.Decoder[str | None] = msgspec.json.Decoder(str | None)


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event: its context attributes and its data, undecoded. A bare body has an empty id, source and type."""

    kind: EventKind
    id: str = ""
    source: str = ""
    type: str = ""
    time: float | None = None  # UTC seconds
    attributes: Mapping[str, str] = {}  # extensions and the optional attributes
    content_type: str = ""  # of the data, as stated
    data: bytes | msgspec.Raw = b""

    @property
    def key(self) -> bytes:
        """Identity for deduplication: a digest of source, type and id. Type, because KServe gives request and response
        one id.
        """
        # The lengths keep ("a", "b:1") and ("a:b", "1") apart.
        identity = f"{len(self.source)}:{len(self.type)}:{self.source}{self.type}{self.id}"
        return blake2b(identity.encode(), digest_size=16).digest()


@lru_cache(256)
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
            return _batch(body)
        if mode == "application/cloudevents+json":
            return [_structured(body)]
        raise Rejected(Reason.UNSUPPORTED_FORMAT, f"{mode} is not read; send application/cloudevents+json")
    if headers.keys().isdisjoint(REQUIRED):
        return [Event(kind=EventKind.FEEDBACK, content_type=content_type, data=body)]
    return [_binary(headers, content_type, body)]


def _batch(body: bytes) -> list[Event | Rejected]:
    """Decodes the envelopes in one pass; where one of them is out of the ordinary, all one by one, at ten times the
    cost.
    """
    try:
        envelopes = read(body, _ENVELOPES, Reason.MALFORMED_EVENT, "a batch")
    except Rejected:
        elements = read(body, _BATCH, Reason.MALFORMED_EVENT, "a batch")
        if len(elements) > MAX_EVENTS:
            raise Rejected(
                Reason.TOO_MANY_ROWS, f"a batch: {len(elements)} events, more than {MAX_EVENTS}; send several batches"
            ) from None
        return [_element(raw) for raw in elements]
    return [_opened(envelope) for envelope in envelopes]


def _opened(one: _Envelope) -> Event | Rejected:
    try:
        return _event(
            one.specversion,
            one.id,
            one.source,
            one.type,
            one.time,
            _attributes_of(one),
            one.datacontenttype or "",
            one.data or b"",
        )
    except Rejected as error:
        return error.without_traceback()


def _attributes_of(one: _Envelope) -> dict[str, str]:
    """Takes the attributes as the structured mode would have them; in a loop they would cost more than all decoding."""
    attributes: dict[str, str] = {}
    if one.requestid is not None:
        attributes["requestid"] = one.requestid
    if one.namespace is not None:
        attributes["namespace"] = one.namespace
    if one.inferenceservicename is not None:
        attributes["inferenceservicename"] = one.inferenceservicename
    if one.endpoint is not None:
        attributes["endpoint"] = one.endpoint
    if one.modelid is not None:
        attributes["modelid"] = one.modelid
    if one.protocol is not None:
        attributes["protocol"] = one.protocol
    for name in _RARE:
        if (value := getattr(one, name)) is not None:
            attributes[name] = value
    return attributes


def _element(raw: msgspec.Raw) -> Event | Rejected:
    try:
        return _structured(raw)
    except Rejected as error:
        return error.without_traceback()


def _binary(headers: Mapping[str, str], content_type: str, body: bytes) -> Event:
    text = "".join(headers.values())
    attributes = dict(headers)
    if not text.isascii() or "%" in text or '"' in text:
        attributes = {name: _decoded(name, value) for name, value in headers.items()}
    if (stated := attributes.pop("datacontenttype", content_type)) != content_type:
        _check_same_type(stated, content_type)
    return event_of(attributes, content_type, body)


def _check_same_type(stated: str, content_type: str) -> None:
    """Checks `ce-datacontenttype`, which must not be there in binary mode (HTTP binding, section 3.1.1), but which old
    SDKs write as they write Content-Type: then it says nothing else.
    """
    if _spelt_alike(stated) != _spelt_alike(content_type):
        raise Rejected(
            Reason.MALFORMED_EVENT, "ce-datacontenttype differs from Content-Type, which says it in binary mode"
        )


def _spelt_alike(content_type: str) -> list[str]:
    """A media type and its parameters, in one case and without the blanks around them."""
    return [part.strip().lower() for part in content_type.split(";")]


def _decoded(name: str, value: str) -> str:
    """A header's value: quotes around the whole undone, then one round of percent-decoding; strict for what must be
    right.
    """
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
        read(members.get("datacontenttype", _NULL), _OPTIONAL_TEXT, Reason.MALFORMED_EVENT, "datacontenttype")
        or "application/json"
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
    take = attributes.pop
    specversion, event_id, source, event_type = (
        take("specversion", ""),
        take("id", ""),
        take("source", ""),
        take("type", ""),
    )
    return _event(specversion, event_id, source, event_type, take("time", None), attributes, content_type, data)


def _event(  # noqa: PLR0917 - called for every element of a batch: names would cost more than the checks
    specversion: str,
    event_id: str,
    source: str,
    event_type: str,
    time: str | None,
    attributes: dict[str, str],
    content_type: str,
    data: bytes | msgspec.Raw,
) -> Event:
    if not (specversion and _is_usable(event_id) and _is_usable(source) and _is_usable(event_type)):
        raise _unusable(zip(REQUIRED, (specversion, event_id, source, event_type), strict=True))
    if specversion != "1.0":
        raise Rejected(Reason.UNSUPPORTED_SPECVERSION, "specversion must be 1.0")
    kind_type = event_type
    if event_type == WRAPPED_TYPE:
        attributes |= {k.removeprefix(WRAPPED_PREFIX): v for k, v in attributes.items() if k.startswith(WRAPPED_PREFIX)}
        kind_type = attributes.get("type", "")
    kind = KINDS.get(kind_type, OTHER)
    return Event(
        kind, event_id, source, event_type, None if time is None else seconds_at(time), attributes, content_type, data
    )


def _is_usable(value: str) -> bool:
    return 0 < len(value) <= MAX_ATTRIBUTE and (value.isprintable() or not _CONTROL.search(value))


def _unusable(required: Iterable[tuple[str, str]]) -> Rejected:
    """Names the required attribute that cannot be used, and why."""
    for name, value in required:
        if not value:
            return Rejected(Reason.MALFORMED_EVENT, f"the required attribute {name} is missing or empty")
        if not _is_usable(value):
            break
    return Rejected(Reason.MALFORMED_EVENT, f"{name} holds control characters, or more than {MAX_ATTRIBUTE} characters")


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
