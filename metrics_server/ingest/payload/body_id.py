"""Reads the id of a request out of a JSON body, whatever its protocol, by the path of a member."""

from __future__ import annotations

import msgspec

from metrics_server.errors import Reason, Rejected
from metrics_server.ingest.decoding import read
from metrics_server.ingest.payload.openai import first_chunk, is_stream
from metrics_server.ingest.payload.v2 import end_of_json
from metrics_server.metrics.labels import EventKind

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ID: msgspec.json.Decoder[str | int | None] = msgspec.json.Decoder(str | int | None)


def id_in_body(kind: EventKind, data: bytes | msgspec.Raw, path: str) -> str:
    """Returns the text or whole number at a path of a body; of a feedback, in its response or else in its request.

    >>> id_in_body(EventKind.RESPONSE, b'{"id": "chatcmpl-7", "choices": []}', "id")
    'chatcmpl-7'

    Returns:
        "" where there is none: also in a body that is no JSON.
    """
    names = path.split(".")
    found = ([part, *names] for part in ("response", "request")) if kind == EventKind.FEEDBACK else (names,)
    body = _json_of(data)
    try:
        return next(filter(None, (_text_at(body, steps) for steps in found)), "")
    except Rejected:
        return ""


def _json_of(data: bytes | msgspec.Raw) -> bytes | msgspec.Raw:
    """Cuts the JSON out of a body: the first event of a stream, or what stands before the bytes of V2's tensors."""
    if not isinstance(data, bytes):
        return data
    if is_stream(data):
        return first_chunk(data)
    return data if data.rstrip().endswith(b"}") else data[: end_of_json(data)]


def _text_at(body: bytes | msgspec.Raw, steps: list[str]) -> str:
    for name in steps:
        members = read(body, _MEMBERS, Reason.MALFORMED_PAYLOAD, "body")
        if name not in members:
            return ""
        body = members[name]
    value = read(body, _ID, Reason.MALFORMED_PAYLOAD, "body")
    return "" if value is None else str(value)
