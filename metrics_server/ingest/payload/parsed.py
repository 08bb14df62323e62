"""Defines `ParsedPayload`, to which the payloads of all protocols are read."""

from __future__ import annotations

from typing import Any

import msgspec

from metrics_server.metrics.task import RowValue


class ParsedPayload(msgspec.Struct, gc=False):
    """The rows, ids and tags in a payload.

    Attributes:
        response: rows of the prediction.
        truth: rows of the truth, as many as of the response where both are there.
        reward: of a feedback.
        puids: ids the client gave, of the response, the request and the truth in this order; none twice, none empty.
        tags: scalars the client or the model attached; the response's before the request's before the truth's.
        path: names of the graph nodes the response went through.
        is_flat: whether the truth was sent as a flat list without types, of at least two elements, and so was the
            response if it has several rows: both may then be one row.
        metrics: custom metrics of a logged response, as JSON; empty where it has none.
    """

    response: list[RowValue] | None = None
    truth: list[RowValue] | None = None
    reward: float | None = None
    puids: list[str] = []
    tags: dict[str, Any] = {}
    path: list[str] = []
    is_flat: bool = False
    metrics: msgspec.Raw = msgspec.Raw()
