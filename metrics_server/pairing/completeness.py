"""Completeness of a request log: of the requests of each deployment, how many no response followed.

A sample in memory, since the start of the process: nothing that is kept, and bounded whatever is sent.
"""

from __future__ import annotations

from collections.abc import Mapping

from metrics_server.metrics.window import MINUTE
from metrics_server.series.series import Labels
from metrics_server.telemetry import RequestTally

RESPONSE_SECONDS = 5 * MINUTE  # from the receipt of a request: a response that has not come by then was not logged
MAX_FOLLOWED = 1000  # requests of a deployment at a time; others are left out, so that the sample has no bias
MAX_DEPLOYMENTS = 100  # the first ones that log requests

RequestKey = tuple[str, Labels]  # request id and node
Deployment = tuple[str, str]  # namespace and name


class RequestCompleteness:
    """Follows requests until their response has come, or is not to be expected any more."""

    def __init__(self) -> None:
        self._followed: dict[Deployment, dict[RequestKey, float]] = {}  # when each was received, the oldest first
        self._tallies: dict[Deployment, RequestTally] = {}

    def note_request(self, key: RequestKey, now: float, *, is_answered: bool) -> None:
        """Follows a request; one whose response came before it needs none."""
        deployment = key[1][:2]
        followed = self._followed.get(deployment)
        if followed is None:
            if len(self._followed) >= MAX_DEPLOYMENTS:
                return
            followed = self._followed[deployment] = {}
            self._tallies[deployment] = RequestTally()
        if len(followed) >= MAX_FOLLOWED:
            return
        if is_answered:
            self._count(deployment, answered=1)
        else:
            followed[key] = now

    def note_response(self, key: RequestKey) -> None:
        """Counts a request that is followed as answered."""
        deployment = key[1][:2]
        if (followed := self._followed.get(deployment)) and followed.pop(key, None) is not None:
            self._count(deployment, answered=1)

    def forget(self, request_id: str) -> None:
        """Takes out a request that is followed; it is counted as neither."""
        for followed in self._followed.values():
            for key in [key for key in followed if key[0] == request_id]:
                del followed[key]

    def judged(self, now: float) -> Mapping[Deployment, RequestTally]:
        """Counts the requests that have waited too long as unanswered; returns the tallies of all deployments."""
        for deployment, followed in self._followed.items():
            overdue = []
            for key, received_at in followed.items():
                if now - received_at < RESPONSE_SECONDS:
                    break
                overdue.append(key)
            for key in overdue:
                del followed[key]
            self._count(deployment, unanswered=len(overdue))
        return dict(self._tallies)

    def _count(self, deployment: Deployment, *, answered: int = 0, unanswered: int = 0) -> None:
        before = self._tallies[deployment]
        self._tallies[deployment] = RequestTally(before.answered + answered, before.unanswered + unanswered)
