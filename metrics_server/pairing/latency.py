"""Latency of predictions: from the request event to the response event, matched in a bounded table in memory."""

from __future__ import annotations

from metrics_server.series.series import Labels

MAX_WAITING = 10_000  # the oldest go first: this is a best effort, and nothing that is kept


class RequestLatencies:
    """Matches the times of request and response of one request id and node, in either order."""

    def __init__(self) -> None:
        self._times: dict[tuple[str, Labels, bool], float] = {}

    def seen(self, request_id: str, labels: Labels, time: float, *, answered: bool) -> float | None:
        """Notes that a request was sent, or answered, at `time`; returns the seconds between both, once known."""
        other = self._times.pop((request_id, labels, not answered), None)
        if other is None:
            if len(self._times) >= MAX_WAITING:
                del self._times[next(iter(self._times))]
            self._times[request_id, labels, answered] = time
            return None
        return max(0.0, time - other if answered else other - time)
