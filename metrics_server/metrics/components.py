"""The components of sums that the server itself keeps beside those of the metric models. Their names are stored."""

from __future__ import annotations

from metrics_server.metrics.sums import component

# Of a series, in the buckets by prediction time.
PAIRS = "server/pairs"  # labelled predictions
LOGGED = "server/logged"  # rows of the request log

# Rows that two predictors answered, both labelled; and of these, on which the one or the other alone was right.
COMPARED, WON, LOST = "both", "won", "lost"


def paired(other: int, what: str) -> str:
    """The component of a series for rows that another series, of this id, answered too."""
    return component("server/paired", str(other), what)


# Of a series, cumulative.
PREDICTIONS = "server/predictions"  # rows of the request log
LABELS = component("server/labels", "")  # rows of truth, by status
PREDICTED = component("server/predicted", "")  # rows of the request log, by class

# Of no series: what is kept for pairing.
SERVER_SERIES_ID = 0  # the id of no series
RECORD_COUNT, RECORD_BYTES = (
    "kept/halves",
    "kept/half_bytes",
)  # records and redirects, and about what they take on a disk
EVENT_KEY_COUNT = "kept/events"  # keys of events without a request id
PENDING_PREDICTIONS, PENDING_TRUTHS = "pending/predictions", "pending/truths"  # rows that wait for the other side
PENDING_SINCE = component(
    "pending/since", ""
)  # those of both that were received in the quarter of an hour from that second on
UNPREDICTED_SINCE = component(
    "pending/unpredicted_since", ""
)  # the truths among them that wait under ids without any prediction
