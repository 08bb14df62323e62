"""The story of the clients of the simulated cluster: the rows that they send, and the truths that they learn later.

Pure but for the random numbers, which come in.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

from metrics_server.commands.simulation.cluster import Deployment, HeldOut
from metrics_server.commands.simulation.executor import Call, CallResponse

OWN_RESPONSE_SHARE = 0.3  # of the feedback repeats the response it is about, as Seldon's documentation shows it
INDEX_SHARE = 0.5  # of the truths of a class are its index, the others one-hot
DRIFT_SECONDS = 2 * 3600.0  # from the first sign of the drift to the whole of it
# The wave of a day: at noon, UTC, there are more than twice as many calls as at midnight.
DAY_SECONDS, SWING = 86400.0, 0.4


class Visit(NamedTuple):
    """One request, and the truth that will be known of it."""

    deployment: Deployment
    call: Call
    truth: Any
    repeats_response: bool
    label_after: float | None  # seconds; None: nobody ever tells

    def feedback(self, response: CallResponse) -> Call:
        """Returns the call that tells the truth, with the puid of the prediction, by which the two meet."""
        repeated = {"response": {"data": json.loads(response.body)["data"]}} if self.repeats_response else {}
        body = {**repeated, "truth": {"data": {"ndarray": [self.truth]}}}
        return Call(json.dumps(body, separators=(",", ":")).encode(), response.puid)


@dataclass(frozen=True)
class Story:
    """The visits, one after another; equal random numbers make equal visits."""

    deployments: Sequence[Deployment]
    random: Random
    label_delay: float  # mean seconds
    label_share: float
    drift_at: float  # Unix seconds; from then on inputs go wrong

    def visit(self, at: float) -> Visit:
        """Draws a request at this time."""
        deployment = self.random.choice(self.deployments)
        held_out, random = deployment.held_out, self.random
        index = random.randrange(len(held_out.truths))
        is_labelled = random.random() < self.label_share
        delay = random.expovariate(1.0) * self.label_delay * deployment.delay_factor
        return Visit(
            deployment,
            Call(_request(held_out, index, _ramp((at - self.drift_at) / DRIFT_SECONDS))),
            self._truth(held_out, index),
            random.random() < OWN_RESPONSE_SHARE,
            delay if is_labelled else None,
        )

    def times(self, since: float, until: float, rate: float) -> Iterator[float]:
        """Draws the times of requests: `rate` a second on average over a day, more by day than at night."""
        at = since
        while (at := at + self.random.expovariate(rate * (1 + SWING))) < until:
            wave = 1 - SWING * math.cos(2 * math.pi * at / DAY_SECONDS)
            if self.random.random() * (1 + SWING) < wave:
                yield at

    def _truth(self, held_out: HeldOut, index: int) -> Any:
        truth, classes = held_out.truths[index], range(held_out.classes)
        one_hot = classes and self.random.random() >= INDEX_SHARE
        return [int(truth == other) for other in classes] if one_hot else truth


def _ramp(share: float) -> float:
    return min(max(share, 0.0), 1.0)


def _request(held_out: HeldOut, index: int, drifted: float) -> bytes:
    row = held_out.rows[index].tolist()
    if held_out.drift:
        column, offset = held_out.drift
        row[column] += drifted * offset
    return json.dumps({"data": {"names": held_out.features, "ndarray": [row]}}, separators=(",", ":")).encode()
