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


# Looked up once: an attribute of an enum takes 0.1 µs, and these are asked for several times an event.
REQUEST, RESPONSE, FEEDBACK, OTHER = EventKind.REQUEST, EventKind.RESPONSE, EventKind.FEEDBACK, EventKind.OTHER


class Outcome(StrEnum):
    """What became of an event, as its sender is told and as `metrics_server_events_total` counts it."""

    ACCEPTED = "accepted"
    PENDING = "pending"  # accepted, and its truth waits for the prediction; counted as accepted
    DUPLICATE = "duplicate"
    ERASED = "erased"  # its request was erased, so that nothing is taken of it any more
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


class DroppedMetric(StrEnum):
    """Why a custom metric of a response was dropped: the `reason` of `metrics_server_dropped_custom_metrics_total`."""

    MALFORMED = "malformed"  # it is no object with a key, a known type, a number and tags
    NAME = "name"  # its key is no name for Prometheus, or is kept for others
    TAG = "tag"  # a tag has no name for a label or one of Seldon's labels, or its value is no label
    VALUE = "value"  # it is not finite, too large, or a counter or timer goes down
    TYPE = "type"  # its name is taken by a metric of another type or key
    LIMIT = "limit"  # there are too many of them: in the response, of the series, or of the server
