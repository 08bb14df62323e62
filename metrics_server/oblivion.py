"""What leaves: which records go when their time has come or too many are kept, and what that takes out of the counts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from metrics_server.case import Case, decode_record, idle, waiting
from metrics_server.catalog import Catalog
from metrics_server.kept import EVENTS, Balance
from metrics_server.ledger import LABELS, NOWHERE
from metrics_server.store.interface import Change, Record
from metrics_server.sums import add_into
from metrics_server.window import EVER, KEPT, Bucket

logger = logging.getLogger(__name__)

EXPIRED, EVICTED = "expired", "evicted"  # statuses of truths, and causes


@dataclass
class Leaving:
    """The change that deletes some records, and what goes with them that still waited.

    Attributes:
        newest: when the newest case among them was received; 0 for none.
    """

    change: Change
    predictions: int = 0
    truths: int = 0
    newest: int = 0
    sums: dict[tuple[int, Bucket], dict[str, float]] = field(default_factory=dict)


def leaving(records: Mapping[bytes, Record], lane: int, cause: str, catalog: Catalog) -> Leaving:
    """What has to be applied for these records to be forgotten."""
    gone = Leaving(Change(deletes={key: record.version for key, record in records.items()}))
    balance = Balance()
    if lane == EVENTS:
        balance.events(-len(records))
    else:
        for record in records.values():
            case = _readable(record)
            balance.half(case, len(record.value), -1)
            if case is not None:
                _take_leave(gone, case, cause, catalog)
    gone.change.sums = {(NOWHERE, KEPT): balance.sums, **gone.sums}
    return gone


def _readable(record: Record) -> Case | None:
    """The case in a record; None for a pointer, and for what cannot be read, which leaves as if nothing had waited in it."""
    try:
        found = decode_record(record.value)
    except msgspec.MsgspecError:
        logger.exception("A record could not be read; it leaves all the same")
        return None
    return found if isinstance(found, Case) else None


def _take_leave(gone: Leaving, case: Case, cause: str, catalog: Catalog) -> None:
    predictions, truths = waiting(case)
    gone.predictions += predictions
    gone.truths += truths
    gone.newest = max(gone.newest, case.received)
    for truth in idle(case) if truths else ():
        # Of a truth that met nothing it is only known what its event named; a series is not made for that.
        series = catalog.find(truth.labels) if truth.labels is not None else None
        if series is not None:
            add_into(gone.sums.setdefault((series.id, EVER), {}), {LABELS + cause: 1.0})
