"""Reads documents of seldon-request-logger: the index that a prediction is in, and the event that it was."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

import msgspec

from metrics_server.errors import Reason, Rejected
from metrics_server.ingest.cloudevent import Event, seconds_at
from metrics_server.ingest.decoding import read
from metrics_server.ingest.payload.rows import MAX_ROWS
from metrics_server.metrics.labels import EventKind
from metrics_server.pairing.observation import Observation
from metrics_server.series.series import Labels

RESPONSE_TYPE = "io.seldon.serving.inference.response"
SOURCE = "elasticsearch"

# What is read of a document. Features are neither needed nor fetched.
FIELDS = (
    "response.instance,response.payload,response.ce-time,Ce-Namespace,Ce-Inferenceservicename,Ce-Endpoint,Ce-Modelid"
)

# What the request logger writes where an event names nothing, and what it deletes from a name.
MISSING = {"namespace": "unknown-namespace", "service": "unknown-inferenceservice", "endpoint": "unknown-endpoint"}
_DELETED = str.maketrans("", "", '!@#$"<>/?')

_ITEM = re.compile(r"-item-\d+\Z")
_NULL = msgspec.Raw(b"null")


class LoggedResponse(msgspec.Struct):
    """The response in a document: one row, and the whole body it came in, which for a batch is that of all rows."""

    instance: msgspec.Raw = _NULL
    payload: msgspec.Raw = _NULL
    time: str | None = msgspec.field(default=None, name="ce-time")


class Document(msgspec.Struct):
    """One document, as far as it is read."""

    response: LoggedResponse | None = None
    namespace: str | None = msgspec.field(default=None, name="Ce-Namespace")
    service: str | None = msgspec.field(default=None, name="Ce-Inferenceservicename")
    endpoint: str | None = msgspec.field(default=None, name="Ce-Endpoint")
    model: str | None = msgspec.field(default=None, name="Ce-Modelid")


class _Response(msgspec.Struct):
    found: bool | None = None
    source: Document | None = msgspec.field(default=None, name="_source")
    error: msgspec.Raw = _NULL


_RESPONSE = msgspec.json.Decoder(_Response)
_TEXT = msgspec.json.Decoder(str)


class LookupFailed(Exception):
    """Elasticsearch has not said whether it has the document."""


class LookupRequest(NamedTuple):
    """The prediction of a request that a truth with so many rows waits for; the rest fills in what its documents leave
    open.
    """

    index_name: str
    request_id: str
    rows: int
    labels: Labels
    protocol: str
    time: float | None


@lru_cache(4096)
def index_of(template: str, labels: Labels, model: str) -> str:
    """The index that the request logger writes predictions with these labels to."""
    stated = {"namespace": labels.namespace, "service": labels.deployment or model, "endpoint": labels.predictor}
    return template.format(**{name: value.translate(_DELETED) or MISSING[name] for name, value in stated.items()})


def rows_to_look_up(observation: Observation) -> int:
    """Counts the rows of its request that have to be looked up for the truths of an observation, up to the last one; 0
    without any.

    For a single row further on it is rounded up, so that truths that come row by row agree on few look-ups.
    """
    truths = sum(arrival.truth is not None for arrival in observation.rows)
    if truths != 1 or not observation.keys:
        return truths if observation.keys else 0
    row = int.from_bytes(observation.keys[0][-4:])  # as `row_key` has it
    return min(1 << row.bit_length(), MAX_ROWS)


def is_item(request_id: str) -> bool:
    """Tells whether an id is that of one row of a batch."""
    return _ITEM.search(request_id) is not None


def document_of(status: int, body: bytes) -> Document | None:
    """Takes the document out of a response to `GET /<index>/_doc/<id>`; None when it is not there, or holds no
    response.

    Raises:
        LookupFailed: it is no such response. A 404 of something else than Elasticsearch is none, or a wrong address
            would look like a miss.
    """
    if status not in (200, 404):
        raise LookupFailed(f"HTTP {status}")
    try:
        response = read(body, _RESPONSE, Reason.MALFORMED_PAYLOAD, "document")
    except Rejected as error:
        raise LookupFailed(f"HTTP {status}, {error.detail}") from error
    if response.found is None and b'"index_not_found_exception"' not in bytes(response.error):
        raise LookupFailed(f"HTTP {status}, but not from Elasticsearch")
    return response.source if response.found and response.source and response.source.response else None


def has_row(document: Document | None) -> bool:
    """Tells whether a document holds a row of its own, and not only the body that it came in."""
    return document is not None and document.response is not None and document.response.instance != _NULL


def event_of(documents: Sequence[Document], request: LookupRequest) -> Event | None:
    """Makes of a prediction the event that was logged: one row a document, or else the body in the first; None without
    either.

    Its identity follows from the documents' ids, so that looking up twice counts once.
    """
    parts = [document.response for document in documents if document.response is not None]
    if all(map(has_row, documents)):
        protocol, data = "seldon", b'{"data":{"ndarray":[' + b",".join(bytes(part.instance) for part in parts) + b"]}}"
    elif parts[0].payload != _NULL and not is_item(request.request_id):
        protocol, data = request.protocol, _body(parts[0].payload)
    else:
        return None
    return Event(
        kind=EventKind.RESPONSE,
        id=f"{request.index_name}/{request.request_id}/{len(parts)}",
        source=SOURCE,
        type=RESPONSE_TYPE,
        time=_time(parts[0].time, request.time),
        attributes={name: value for name, value in _attributes(documents[0], request, protocol).items() if value},
        content_type="application/json",
        data=data,
    )


def _attributes(document: Document, request: LookupRequest, protocol: str) -> dict[str, str]:
    return {
        "requestid": request.request_id,
        "namespace": document.namespace or request.labels.namespace,
        "inferenceservicename": document.service or request.labels.deployment,
        "endpoint": document.endpoint or request.labels.predictor,
        "modelid": document.model or request.labels.model,
        "protocol": protocol,
    }


def _body(payload: msgspec.Raw) -> bytes:
    """A logged body: as JSON, or in a JSON string. What is neither is refused like any other body."""
    if bytes(payload).startswith(b'"'):
        with suppress(Rejected):
            return read(payload, _TEXT, Reason.MALFORMED_PAYLOAD, "payload").encode()
    return bytes(payload)


def _time(text: str | None, otherwise: float | None) -> float | None:
    with suppress(Rejected):
        return seconds_at(text or "")
    return otherwise
