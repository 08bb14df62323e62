"""Reads feedback as clients post it to Seldon's ingress: as the event that the executor would log, with its answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from metrics_server.errors import Reason, Rejected
from metrics_server.ingest.cloudevent import Event
from metrics_server.metrics.labels import EventKind

# With the namespace and the deployment, as the ingress has it, or without, as the executor has it.
PATH = re.compile(r"(?:/seldon/([A-Za-z0-9.-]{1,253})/([A-Za-z0-9.-]{1,253}))?/api/v(?:1\.0|0\.1)/feedback")
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


def feedback_of(path: str, puid: str, content_type: str, body: bytes) -> Event:
    """The feedback posted to a path that `PATH` matches. It has no id of its own: who sends it again gives feedback
    again.
    """
    match = PATH.fullmatch(path)
    assert match is not None
    attributes = {"requestid": _text(puid), "namespace": match[1], "inferenceservicename": match[2]}
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
