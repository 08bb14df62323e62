"""Expiry: the change that deletes records whose time has come, or of which too many are kept."""

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
    """The change that deletes some records, and the rows that waited in them.

    Attributes:
        predictions: logged predictions without a truth.
        truths: truths without a prediction.
        newest: when the newest of the records was received, in seconds; 0 for none.
        pending_by_second: the rows that waited, with a minus, by the second of receipt.
    """

    change: Change
    predictions: int = 0
    truths: int = 0
    newest: int = 0
    pending_by_second: Mapping[int, int] = field(default_factory=dict)
    sums: dict[tuple[int, Bucket], dict[str, float]] = field(default_factory=dict)


def expire(stored: Mapping[bytes, Record], expiry_queue: int, cause: LabelStatus, registry: SeriesRegistry) -> Expiry:
    """Makes the change that deletes these records of an expiry queue; `cause` is the status of truths that waited."""
    expiry = Expiry(Change(deletes={key: one.version for key, one in stored.items()}))
    usage = UsageDelta()
    if expiry_queue == EVENT_KEYS:
        usage.add_event_keys(-len(stored))
    else:
        for one in stored.values():
            record = _decoded(one)
            usage.add_record(record, len(one.value), -1)
            if record is not None:
                _drop(record, expiry, cause, registry)
    expiry.pending_by_second = usage.pending_by_second
    expiry.change.sums = {(SERVER_SERIES_ID, USAGE): usage.sums, **expiry.sums}
    return expiry


def _decoded(stored: Record) -> PairingRecord | None:
    """Decodes a record; None for a redirect, and for what cannot be read: it leaves as if nothing waited in it."""
    try:
        found = decode_record(stored.value)
    except msgspec.MsgspecError:
        logger.exception("A record could not be read; it leaves all the same")
        return None
    return found if isinstance(found, PairingRecord) else None


def _drop(record: PairingRecord, expiry: Expiry, cause: LabelStatus, registry: SeriesRegistry) -> None:
    predictions, truths = pending_rows(record)
    expiry.predictions += predictions
    expiry.truths += truths
    expiry.newest = max(expiry.newest, record.received_at)
    for truth in unmatched_truths(record) if truths else ():
        # Of a truth that met nothing it is only known what its event named; a series is not made for that.
        series = registry.find(truth.labels) if truth.labels is not None else None
        if series is not None:
            add_into(expiry.sums.setdefault((series.id, CUMULATIVE), {}), {LABELS + cause: 1.0})
