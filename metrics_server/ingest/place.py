"""Places in an event where a value stands, such as a header that KServe's agent logs along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from metrics_server.errors import Reason, Rejected
from metrics_server.ingest.decoding import read

_HEADERS = msgspec.json.Decoder(dict[str, list[str]] | None)
_ANNOTATIONS = msgspec.json.Decoder(dict[str, str] | None)


class Place(NamedTuple):
    """One place.

    Attributes:
        kind: attribute of the event; tag of the payload's meta.tags; header or annotation that KServe logs along; or
            body, which `id_in_body` reads.
        key: its name there.
    """

    kind: str
    key: str


def place_of(text: str) -> Place:
    """Makes the place of a setting that was checked.

    >>> place_of("header:X-Request-Id")
    Place(kind='header', key='X-Request-Id')
    """
    kind, _, key = text.partition(":")
    return Place(kind, key)


def value_at(kind: str, key: str, attributes: Mapping[str, str], tags: Mapping[str, Any]) -> str | None:
    """Reads what stands at a place of these kinds but for body; None for nothing."""
    if kind == "attribute":
        return attributes.get(key)
    if kind == "tag":
        value = tags.get(key)
        return None if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    if kind == "header":
        headers = _logged(attributes.get("metadata"), _HEADERS) or {}
        return next((values[0] for name, values in headers.items() if values and name.lower() == key.lower()), None)
    return (_logged(attributes.get("annotations"), _ANNOTATIONS) or {}).get(key)


def _logged(text: str | None, decoder: msgspec.json.Decoder[Any]) -> Any:
    """Decodes JSON that KServe's agent logs in an attribute; None when it is something else."""
    try:
        return read(text.encode(), decoder, Reason.MALFORMED_EVENT, "metadata") if text else None
    except Rejected:
        return None
