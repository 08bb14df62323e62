"""What one event brings for pairing, and the keys that it is filed under."""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from metrics_server.metrics.labels import EventKind
from metrics_server.pairing.record import Prediction, Reward, Truth
from metrics_server.series.series import Labels


class Observation(msgspec.Struct, frozen=True, gc=False):
    """What one event brings, and the keys of the cases it concerns.

    Attributes:
        kind: request, response or feedback.
        event: digest of the event's identity, b"" for a bare body, which has none.
        labels: whose prediction it names, with the defaults of this server filled in.
        time: seconds: when it was sent, as far as that can be believed.
        joins: whether it has a request id on which its halves can meet others.
        keys: where it joins, of the case of each row, under its own request id.
        aliases: what else it is known by, the best first: digest of a request id, and the number of the row there that
            is the first row here.
        arrivals: one for each row.
        clamped: whether its time was too far in the future to be believed, so that the time of receipt was taken.
        request_id: the id that the keys were made of, "" where there is none.
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


def row_key(request: bytes, row: int) -> bytes:
    """The key of a row of a request, by the digest of its id. Rows of one request stand together in a table sorted by
    key.
    """
    return request + row.to_bytes(4)


def digest_of(request_id: str) -> bytes:
    """What stands for a request id in the keys of its rows."""
    return blake2b(request_id.encode(), digest_size=16).digest()


class RowObservation(msgspec.Struct, gc=False):
    """The halves that one event brings for one row: either, both, or a reward besides."""

    prediction: Prediction | None = None
    truth: Truth | None = None
    reward: Reward | None = None
