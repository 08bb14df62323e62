"""What leaves: which records go when their time has come or too many are kept, and what that takes out of the
counts.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from metrics_server.metrics.components import LABELS, SERVER_SERIES_ID
from metrics_server.metrics.labels import LabelStatus
from metrics_server.metrics.sums import add_into
from metrics_server.metrics.window import CUMULATIVE, USAGE, Bucket
from metrics_server.pairing.record import PairingRecord, decode_record, pending_rows, unmatched_truths
from metrics_server.pairing.usage import EVENT_KEYS, UsageDelta
from metrics_server.series.registry import SeriesRegistry
from metrics_server.store.interface import Change, Record

logger = logging.getLogger(__name__)


@dataclass
class Expiry:
    """The change that deletes some records, and what goes with them that still waited.

    Attributes:
        newest: when the newest case among them was received; 0 for none.
    """

    change: Change
    predictions: int = 0
    truths: int = 0
    newest: int = 0
    sums: dict[tuple[int, Bucket], dict[str, float]] = field(default_factory=dict)


def expire(records: Mapping[bytes, Record], expiry_queue: int, cause: LabelStatus, registry: SeriesRegistry) -> Expiry:
    """What has to be applied for these records to be forgotten."""
    gone = Expiry(Change(deletes={key: record.version for key, record in records.items()}))
    balance = UsageDelta()
    if expiry_queue == EVENT_KEYS:
        balance.add_event_keys(-len(records))
    else:
        for record in records.values():
            case = _readable(record)
            balance.add_record(case, len(record.value), -1)
            if case is not None:
                _take_leave(gone, case, cause, registry)
    gone.change.sums = {(SERVER_SERIES_ID, USAGE): balance.sums, **gone.sums}
    return gone


def _readable(record: Record) -> PairingRecord | None:
    """The case in a record; None for a pointer, and for what cannot be read, which leaves as if nothing had waited in
    it.
    """
    try:
        found = decode_record(record.value)
    except msgspec.MsgspecError:
        logger.exception("A record could not be read; it leaves all the same")
        return None
    return found if isinstance(found, PairingRecord) else None


def _take_leave(gone: Expiry, case: PairingRecord, cause: LabelStatus, registry: SeriesRegistry) -> None:
    predictions, truths = pending_rows(case)
    gone.predictions += predictions
    gone.truths += truths
    gone.newest = max(gone.newest, case.received_at)
    for truth in unmatched_truths(case) if truths else ():
        # Of a truth that met nothing it is only known what its event named; a series is not made for that.
        series = registry.find(truth.labels) if truth.labels is not None else None
        if series is not None:
            add_into(gone.sums.setdefault((series.id, CUMULATIVE), {}), {LABELS + cause: 1.0})
