"""Normalising: from an event of any sender to the observation that it brings."""

from __future__ import annotations

import re
from functools import lru_cache

from metrics_server.errors import Reason, Rejected
from metrics_server.ingest.cloudevent import MAX_ATTRIBUTE, SHARED_ID_PREFIX, Event
from metrics_server.ingest.payload import read
from metrics_server.ingest.payload.parsed import ParsedPayload
from metrics_server.ingest.payload.rows import is_label
from metrics_server.ingest.slicing import SlicingRules
from metrics_server.metrics.labels import EventKind
from metrics_server.metrics.window import FUTURE_TOLERANCE
from metrics_server.pairing.observation import Observation, RowObservation, digest_of, row_key
from metrics_server.pairing.record import Prediction, Reward, Truth
from metrics_server.series.series import Labels

# Looked up once: an attribute of an enum takes 0.1 µs, and these are asked for several times an event.
REQUEST, RESPONSE, FEEDBACK = EventKind.REQUEST, EventKind.RESPONSE, EventKind.FEEDBACK

EVERYTHING = SlicingRules()

_FIRST_ROW = bytes(4)

# Row n of a batch, as Seldon's batch processor and request logger name it.
_ITEM = re.compile(r"(.+)-item-(0|[1-9][0-9]{0,4})", re.DOTALL)


def observation_of(event: Event, defaults: Labels, now: float, slicing: SlicingRules = EVERYTHING) -> Observation:
    """Normalizes an event of one of our kinds.

    Raises:
        Rejected: its payload cannot be read, or what it says of itself cannot be used.
    """
    get = event.attributes.get
    parsed = read(event.kind, get("protocol", ""), event.content_type, event.data)
    stated = _checked(
        get("namespace", ""),
        get("inferenceservicename", ""),
        get("endpoint", ""),
        get("modelid") or get("component", ""),
    )
    labels = (
        stated if all(stated) else Labels(*(part or default for part, default in zip(stated, defaults, strict=True)))
    )
    clamped = event.time is not None and event.time > now + FUTURE_TOLERANCE
    time = now if event.time is None or clamped else event.time
    rows = _rows(event, parsed, slicing, stated, labels, time=time)
    ids = _ids(event, parsed)
    if not ids and parsed.truth is not None and parsed.response is None and parsed.reward is None:
        raise Rejected(
            Reason.MALFORMED_FEEDBACK, "feedback: a truth without its response needs a request id to join on"
        )
    key = event.key if event.id else b""
    if not ids:
        return Observation(event.kind, key, labels, time, False, [], [], rows, clamped)
    digest = digest_of(ids[0])
    aliases = aliases_of(ids, event.kind, len(rows)) if len(ids) > 1 or "-item-" in ids[0] else []
    # A request known by one id alone has nothing to tell those that come under it.
    count = len(rows) if event.kind != REQUEST else 1 if aliases else 0
    keys = [digest + _FIRST_ROW] if count == 1 else [row_key(digest, row) for row in range(count)]
    return Observation(event.kind, key, labels, time, bool(keys), keys, aliases, rows, clamped, ids[0])


@lru_cache(4096)
def _checked(*names: str) -> Labels:
    """Checks the labels that an event states itself; "" for what it leaves open."""
    for name in names:
        if not is_label(name):
            raise Rejected(
                Reason.LABEL_TOO_LONG,
                "namespace, inferenceservicename, endpoint and modelid: at most 256 printable characters",
            )
    return Labels(*names)


def _ids(event: Event, parsed: ParsedPayload) -> list[str]:
    """Lists the ids to join on, the best first: the request id, for KServe the event's own, then those in a body."""
    request_id = event.attributes.get("requestid") or (event.id if event.type.startswith(SHARED_ID_PREFIX) else "")
    if not parsed.puids:
        ids = [request_id] if request_id else []
    else:
        ids = list(dict.fromkeys([request_id, *parsed.puids] if request_id else parsed.puids))
    for one in ids:
        if len(one) > MAX_ATTRIBUTE:
            raise Rejected(
                Reason.LABEL_TOO_LONG, f"a request id has at most {MAX_ATTRIBUTE} characters, {len(one)} were sent"
            )
    return ids


def aliases_of(ids: list[str], kind: EventKind, rows: int) -> list[tuple[bytes, int]]:
    """Lists where else the rows are filed: the digest of an id, and the number of the row there that is the first here.

    A single row of feedback may be named as an item of a batch; the exact id comes first.
    """
    found: list[tuple[bytes, int]] = []
    for position, one in enumerate(ids):
        if position:
            found.append((digest_of(one), 0))
        if kind == FEEDBACK and rows == 1 and (match := _ITEM.fullmatch(one)):
            found.append((digest_of(match[1]), int(match[2])))
    return found


def _rows(
    event: Event, parsed: ParsedPayload, slicing: SlicingRules, stated: Labels, labels: Labels, *, time: float
) -> list[RowObservation]:
    scored = slicing.scores(labels.model)
    if event.kind == FEEDBACK and parsed.path and labels.model not in parsed.path:
        scored = False  # logged by a node of the graph that did not take part in this prediction
    slices = slicing.slices_of(event, parsed.tags) if slicing.dimensions else []
    response, truth = (parsed.response or [] if scored else []), parsed.truth or []
    logged = event.kind == RESPONSE
    rows = [RowObservation(Prediction(labels, time, time, logged, value, slices=slices)) for value in response]
    if len(truth) > len(rows) or (parsed.reward is not None and not rows):
        rows += [RowObservation() for _ in range(max(len(truth), 1) - len(rows))]
    pending = None if response else labels
    for row, value in zip(rows, truth, strict=False):
        row.truth = Truth(stated.namespace, stated.deployment, time, value, labels=pending)
    if parsed.reward is not None and rows and scored:
        rows[0].reward = Reward(labels, time, time, parsed.reward, slices=slices)
    return rows
