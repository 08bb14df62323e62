"""The ids that an event is joined on, and the digests that its rows are filed under."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from typing import TypeAlias

from metrics_server.errors import Reason, Rejected
from metrics_server.ingest.cloudevent import MAX_ATTRIBUTE, SHARED_ID_PREFIX, Event
from metrics_server.ingest.payload.body_id import id_in_body
from metrics_server.ingest.payload.parsed import ParsedPayload
from metrics_server.ingest.place import Place, value_at
from metrics_server.ingest.sender_rules import RulesOf, as_sent
from metrics_server.metrics.labels import EventKind
from metrics_server.pairing.observation import DIGEST_BYTES, digest_of
from metrics_server.series.series import Labels

# Looked up once: an attribute of an enum takes 0.1 µs, and these are asked for several times an event.
REQUEST, FEEDBACK = EventKind.REQUEST, EventKind.FEEDBACK

Digest: TypeAlias = "Callable[[str], bytes]"

# Row n of a batch, as Seldon's batch processor and request logger name it.
_ITEM = re.compile(r"(.+)-item-(0|[1-9][0-9]{0,4})", re.DOTALL)


def sender_id_of(event: Event) -> str:
    """Returns the id by which the sender joins request and response: the request id, for KServe the event's own."""
    return event.attributes.get("requestid") or (event.id if event.type.startswith(SHARED_ID_PREFIX) else "")


def ids_of(event: Event, parsed: ParsedPayload, places: Sequence[Place]) -> list[str]:
    """Lists the ids to join on, the best first: that of the sender or of a place, then those in a body.

    Raises:
        Rejected: one of them is too long.
    """
    sender_id = sender_id_of(event)
    if places:
        ids = list(dict.fromkeys(filter(None, (*_placed_ids(event, sender_id, places), *parsed.puids))))
    elif not parsed.puids:
        ids = [sender_id] if sender_id else []
    else:
        ids = list(dict.fromkeys([sender_id, *parsed.puids] if sender_id else parsed.puids))
    for one in ids:
        if len(one) > MAX_ATTRIBUTE:
            raise Rejected(
                Reason.LABEL_TOO_LONG, f"a request id has at most {MAX_ATTRIBUTE} characters, {len(one)} were sent"
            )
    return ids


def _placed_ids(event: Event, sender_id: str, places: Sequence[Place]) -> list[str]:
    """Lists what stands in the first of these places that has anything; the sender's id where none has."""
    for kind, key in places:
        found = id_in_body(event.kind, event.data, key) if kind == "body" else value_at(kind, key, event.attributes, {})
        if not found:
            continue
        if event.kind == FEEDBACK:  # people state the id that they know
            return [found, event.attributes.get("requestid", "")]
        if event.kind == REQUEST and kind == "body":  # its response may not repeat it: what they share is this
            return [sender_id, found]
        return [found]
    return [sender_id]


def digest_within(labels: Labels) -> Digest:
    """Returns what digests the ids of a deployment.

    An id out of a place is nobody's promise to be unique among deployments: `1` in a V2 body never is. So it is
    digested with the names of its own.
    """
    return partial(_digest_in, labels.namespace, labels.deployment)


def digest_for(labels: Labels, rules_of: RulesOf) -> Digest:
    """Returns what digests an id that is stated for a deployment, by the rules for that."""
    is_default = rules_of is as_sent  # as of nearly all servers
    return digest_of if is_default or not rules_of(labels).request_id_from else digest_within(labels)


def _digest_in(namespace: str, deployment: str, request_id: str) -> bytes:
    # The lengths keep ("a", "bc") and ("ab", "c") apart, `person` all of them from ids that belong to no deployment.
    content = f"{len(namespace)}:{len(deployment)}:{namespace}{deployment}{request_id}"
    return blake2b(content.encode(), digest_size=DIGEST_BYTES, person=b"of a deployment").digest()


def aliases_of(ids: list[str], kind: EventKind, rows: int, digest: Digest) -> list[tuple[bytes, int]]:
    """Lists where else the rows are filed: the digest of an id, and the number of the row there that is the first here.

    A single row of feedback may be named as an item of a batch; the exact id comes first.
    """
    found: list[tuple[bytes, int]] = []
    for position, one in enumerate(ids):
        if position:
            found.append((digest(one), 0))
        if kind == FEEDBACK and rows == 1 and (match := _ITEM.fullmatch(one)):
            found.append((digest(match[1]), int(match[2])))
    return found


def is_item(request_id: str) -> bool:
    """Tells whether an id names one row of a batch."""
    return _ITEM.fullmatch(request_id) is not None
