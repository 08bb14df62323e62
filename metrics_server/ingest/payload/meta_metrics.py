"""Custom metrics in the `meta.metrics` of a logged response: those that are asked for, each checked by itself.

Feedback carries a copy of its response's; so they are read of responses alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import msgspec

from metrics_server.errors import Reason, Rejected
from metrics_server.ingest.decoding import read
from metrics_server.ingest.payload.rows import is_label, number
from metrics_server.metrics.custom_metric import (
    CustomMetric,
    CustomSample,
    CustomType,
    family_key,
    is_key,
    is_tag,
    takes,
)
from metrics_server.metrics.labels import DroppedMetric
from metrics_server.pairing.observation import CustomSamples

MOST_OF_RESPONSE = 1000  # looked at; each takes some microseconds of the event loop
MOST_BYTES = 2**18  # of all of them; what is longer is dropped as a whole

# By their names in JSON, and by their numbers in protobuf.
_TYPES: dict[str | int, CustomType] = {key: kind for index, kind in enumerate(CustomType) for key in (index, kind.name)}


class Entry(msgspec.Struct, gc=False):
    """An element of `meta.metrics`. JSON of protobuf leaves out a type of COUNTER and a value of 0."""

    key: str
    type: str | int = 0
    value: float | str = 0.0
    tags: dict[str, str] | None = None


class _Dropped(Exception):
    """Why an entry is dropped."""

    def __init__(self, reason: DroppedMetric) -> None:
        super().__init__(reason)
        self.reason = reason


_LIST: msgspec.json.Decoder[list[msgspec.Raw] | None] = msgspec.json.Decoder(list[msgspec.Raw] | None)
_ENTRY = msgspec.json.Decoder(Entry)


def read_metrics(metrics: msgspec.Raw, names: Collection[str]) -> CustomSamples:
    """Reads the custom metrics with these names. What is wrong with one is counted, and leaves the others alone.

    >>> read_metrics(msgspec.Raw(b'[{"key": "calls", "value": 1}, {"key": "others"}]'), {"calls"}).samples
    [CustomSample(metric=CustomMetric(type=<CustomType.COUNTER: 'counter'>, key='calls', tags=()), value=1.0)]
    """
    read_so_far = CustomSamples([], Counter())
    try:
        entries = _entries_of(metrics)
    except _Dropped as dropped:
        return CustomSamples([], Counter([dropped.reason]))
    for raw in entries[:MOST_OF_RESPONSE]:
        try:
            entry = _entry_of(raw)
            if takes(names, entry.key):
                read_so_far.samples.append(_sample_of(entry))
        except _Dropped as dropped:
            read_so_far.dropped[dropped.reason] += 1
    if surplus := len(entries[MOST_OF_RESPONSE:]):
        read_so_far.dropped[DroppedMetric.LIMIT] += surplus
    return read_so_far


def _entries_of(metrics: msgspec.Raw) -> list[msgspec.Raw]:
    if len(memoryview(metrics)) > MOST_BYTES:
        raise _Dropped(DroppedMetric.LIMIT)
    try:
        return read(metrics, _LIST, Reason.MALFORMED_PAYLOAD, "meta.metrics") or []
    except Rejected as error:
        raise _Dropped(DroppedMetric.MALFORMED) from error


def _entry_of(raw: msgspec.Raw) -> Entry:
    try:
        return read(raw, _ENTRY, Reason.MALFORMED_PAYLOAD, "meta.metrics")
    except Rejected as error:
        raise _Dropped(DroppedMetric.MALFORMED) from error


def _sample_of(entry: Entry) -> CustomSample:
    if (kind := _TYPES.get(entry.type)) is None:
        raise _Dropped(DroppedMetric.MALFORMED)
    key = family_key(kind, entry.key)
    if not (is_key(key) and is_label(key)):
        raise _Dropped(DroppedMetric.NAME)
    tags = entry.tags or {}
    if not all(is_tag(name) and is_label(name) and is_label(value) for name, value in tags.items()):
        raise _Dropped(DroppedMetric.TAG)
    return CustomSample(CustomMetric(kind, key, tuple(sorted(tags.items()))), _value_of(entry, kind))


def _value_of(entry: Entry, kind: CustomType) -> float:
    try:
        value = float(number(entry.value, "meta.metrics"))
    except Rejected as error:
        raise _Dropped(DroppedMetric.VALUE) from error
    if value < 0 and kind is not CustomType.GAUGE:
        raise _Dropped(DroppedMetric.VALUE)
    return value
