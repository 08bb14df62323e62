"""What one event brings for pairing, and the keys that it is filed under."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from copy import copy
from hashlib import blake2b
from typing import TypeAlias

import msgspec

from metrics_server.metrics.custom_metric import CustomSample
from metrics_server.metrics.labels import DroppedMetric, EventKind
from metrics_server.pairing.record import Prediction, Reward, Truth
from metrics_server.series.series import Labels

DIGEST_BYTES = 16
FIRST_ROW = bytes(4)  # how the key of the first row of a request ends


class RowObservation(msgspec.Struct, gc=False):
    """What one event brings for one row: a prediction, a truth, a reward, or several of them."""

    prediction: Prediction | None = None
    truth: Truth | None = None
    reward: Reward | None = None

    def filed_under(self, key_indexes: bytes) -> RowObservation:
        """Copies it for a record in which it is filed under these keys. The original may have to be applied again."""
        prediction, truth, reward = copy(self.prediction), copy(self.truth), copy(self.reward)
        if prediction is not None:
            prediction.key_indexes = key_indexes
        if truth is not None:
            truth.key_indexes_by_preference = key_indexes
        if reward is not None:
            reward.key_indexes_by_preference = key_indexes
        return RowObservation(prediction, truth, reward)


class CustomSamples(msgspec.Struct, frozen=True, gc=False):
    """The custom metrics of a response, and how many more it had that were dropped, by reason."""

    samples: list[CustomSample]
    dropped: Counter[DroppedMetric]


class Observation(msgspec.Struct, frozen=True, gc=False):
    """What one event brings, normalized, and the keys of the records it concerns.

    Attributes:
        kind: request, response or feedback.
        event: digest of the event's identity, b"" for a bare body, which has none.
        labels: whose prediction it names, with the defaults of this server filled in.
        time: when it was sent, in seconds, as far as that can be believed.
        joins: whether it has a request id on which it can meet other observations.
        keys: of the record of each row, under its own request id.
        aliases: what else it is known by, the best first: the digest of a request id, and the number of the row there
            that is the first row here.
        rows: one for each row.
        clamped: whether its time was too far in the future to be believed, so that the time of receipt was taken.
        request_id: the id that its sender knows it by, "" where there is none; request and response share it.
        more_rows: that a flat list in the first row may come to.
        custom_metrics: those of a response that are asked for, if there are any.
        trace_id: of the trace that it belongs to; "" for none, and where nobody asks for it.
    """

    kind: EventKind
    event: bytes
    labels: Labels
    time: float
    joins: bool
    keys: list[bytes]
    aliases: list[tuple[bytes, int]]
    rows: list[RowObservation]
    clamped: bool = False
    request_id: str = ""
    more_rows: int = 0
    custom_metrics: CustomSamples | None = None
    trace_id: str = ""

    @property
    def alias_row_keys(self) -> list[bytes]:
        """The keys of its rows under the ids that it is known by besides."""
        return [row_key(alias, first + row) for alias, first in self.aliases for row in range(len(self.keys))]


class Erasure(msgspec.Struct, frozen=True, gc=False):
    """Takes back everything that is kept of one request. It goes through a batch in order, among observations.

    Attributes:
        request: the digest of an id of the request.
        request_id: the id itself.
    """

    request: bytes
    request_id: str

    @property
    def rows(self) -> Sequence[RowObservation]:
        """Brings none."""
        return ()


Entry: TypeAlias = "Observation | Erasure"  # of a batch


def row_key(request: bytes, row: int) -> bytes:
    """Makes the key of a row from the digest of its request id; sorted by key, rows of one request are neighbours."""
    return request + row.to_bytes(4)


def row_number_of(key: bytes) -> int:
    """Takes the number of the row out of its key."""
    return int.from_bytes(key[DIGEST_BYTES:])


def request_of(key: bytes) -> bytes:
    """Takes the digest of the request id out of the key of a row."""
    return key[:DIGEST_BYTES]


def digest_of(request_id: str) -> bytes:
    """Digests a request id for the keys of its rows.

    >>> len(digest_of("5d7c2f9a"))
    16
    """
    return blake2b(request_id.encode(), digest_size=DIGEST_BYTES).digest()
