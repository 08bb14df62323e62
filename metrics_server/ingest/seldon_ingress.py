"""Reads feedback as clients post it to Seldon's ingress: as the event that the executor would log, with its answer."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from metrics_server.errors import Reason, Rejected
from metrics_server.ingest.cloudevent import Event
from metrics_server.metrics.labels import EventKind

# A namespace or a deployment in the path of the ingress; the executor's path has none.
NAME = "[A-Za-z0-9.-]{1,253}"
PUID = "Seldon-Puid"
REPLY = b'{"data":{"tensor":{"shape":[0]}},"meta":{}}'


def puid_of(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """The value of `Seldon-Puid` as it was sent, "" when it was not.

    Raises:
        Rejected: it was sent twice.
    """
    values = [value for name, value in headers if name.lower() == b"seldon-puid"]
    if len(values) > 1:
        raise Rejected(Reason.DUPLICATE_HEADER, "seldon-puid was sent twice")
    return values[0].decode("latin-1") if values else ""


def feedback_of(names: Sequence[str], puid: str, content_type: str, body: bytes) -> Event:
    """Makes the event of a feedback that was posted to a path with the names of namespace and deployment, or with none.

    It has no id of its own: who sends it again gives feedback again.
    """
    attributes = {"requestid": _text(puid), **dict(zip(("namespace", "inferenceservicename"), names, strict=False))}
    return Event(
        kind=EventKind.FEEDBACK,
        attributes={name: value for name, value in attributes.items() if value},
        content_type=content_type,
        data=body,
    )


def _text(value: str) -> str:
    """A header's value as the same value in `Ce-Requestid` is read, so that both are one id."""
    raw = value.encode("latin-1")
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        return value
