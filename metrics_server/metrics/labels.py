"""The fixed vocabularies of labels: kinds of events, outcomes of events, statuses of labels. Each stands here once.

All are strings, so that they are written to /v1/metrics, to JSON and into the names of components as they are.
"""

from __future__ import annotations

from enum import StrEnum


class EventKind(StrEnum):
    """What an event is about."""

    REQUEST = "request"
    RESPONSE = "response"
    FEEDBACK = "feedback"
    OTHER = "other"  # a CloudEvent of a type that is none of ours
    UNKNOWN = "unknown"  # refused before that was known


class Outcome(StrEnum):
    """What became of an event, as its sender is told and as `metrics_server_events_total` counts it."""

    ACCEPTED = "accepted"
    PENDING = "pending"  # accepted, and its truth waits for the prediction; counted as accepted
    DUPLICATE = "duplicate"
    IGNORED = "ignored"
    REJECTED = "rejected"
    UNAVAILABLE = "unavailable"


class LabelStatus(StrEnum):
    """What became of a row of truth: the `status` of `model_labels_total`, and a part of the names of stored
    components.
    """

    MATCHED = "matched"  # it met its prediction, as the first truth of that
    DUPLICATE = "duplicate"  # equal to the truth that stands
    CORRECTED = "corrected"  # it took the place of another
    RETRACTED = "retracted"  # it took another back
    SUPERSEDED = "superseded"  # a later truth stands already
    EXPIRED = "expired"  # its prediction did not come within --retention
    EVICTED = "evicted"  # it left early, for --max_pending
    UNSCORABLE = "unscorable"  # it cannot be compared with its prediction at all
    TOO_OLD = "too_old"  # its prediction is older than --history
    TASK_MISMATCH = "task_mismatch"  # it could be compared, but not by the task that the series was settled on
