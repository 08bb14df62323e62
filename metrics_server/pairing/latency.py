"""Latency of predictions: from the request event to the response event, matched in a bounded table in memory."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

from metrics_server.pairing.completeness import RequestCompleteness, RequestKey
from metrics_server.series.series import Labels

Value = TypeVar("Value")

# The oldest go first: this is a best effort, and nothing that is kept.
MAX_WAITING = 10_000
MAX_MATCHED = 10_000


class RequestLatencies:
    """Matches the times of request and response of one request id and node, in either order, and once.

    A node with children logs two responses under one id: its own output, then that of the graph below.

    Attributes:
        completeness: which requests have no response.
    """

    def __init__(self) -> None:
        self.completeness = RequestCompleteness()
        self._waiting: OrderedDict[RequestKey, tuple[float, bool]] = OrderedDict()  # time, and whether of a response
        self._matched: OrderedDict[RequestKey, None] = OrderedDict()

    def seen(self, request_id: str, labels: Labels, time: float, now: float, *, answered: bool) -> float | None:
        """Notes that a request was sent, or answered, at `time`; returns the seconds between both, once known."""
        key = request_id, labels
        if key in self._matched:
            return None
        if (other := self._waiting.get(key)) is None:
            _put(self._waiting, key, (time, answered), MAX_WAITING)
        elif other[1] == answered:  # the first counts
            return None
        if answered:
            self.completeness.note_response(key)
        else:
            self.completeness.note_request(key, now, is_answered=other is not None)
        if other is None:
            return None
        del self._waiting[key]
        _put(self._matched, key, None, MAX_MATCHED)
        return max(0.0, time - other[0] if answered else other[0] - time)

    def forget(self, request_id: str) -> None:
        """Takes out what is kept of a request."""
        for table in (self._waiting, self._matched):
            for key in [key for key in table if key[0] == request_id]:
                del table[key]
        self.completeness.forget(request_id)


def _put(table: OrderedDict[RequestKey, Value], key: RequestKey, value: Value, most: int) -> None:
    """Adds an entry; the oldest makes room for it."""
    if len(table) >= most:
        table.popitem(last=False)
    table[key] = value
