"""How the events of a deployment are read where senders differ and the events themselves do not tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from metrics_server.errors import BadConfiguration
from metrics_server.ingest.place import Place
from metrics_server.metrics.task import OF_ROWS
from metrics_server.series.series import Build, Labels


class SenderRules(msgspec.Struct, frozen=True):
    """Rules for the events of some deployments.

    Attributes:
        absent_reward: what a feedback with a truth and without a reward says of it: 0.0 where the sender leaves zeros
            out, as JSON of protobuf does; None for nothing.
        row_task: the task of the metric model that is named, if its rows are lists; "" for any other.
        request_id_from: where the id to join on stands, the best first; of none, where the platform has it.
        predictor_from: where the name of the predictor stands, the best first.
        custom_metrics: names of the custom metrics that are taken from responses, see `takes`.
    """

    absent_reward: float | None = None
    row_task: str = ""
    request_id_from: tuple[Place, ...] = ()
    predictor_from: tuple[Place, ...] = ()
    custom_metrics: frozenset[str] = frozenset()

    @property
    def is_predictor_in_response(self) -> bool:
        """Tells whether a response may name its predictor where its request cannot."""
        return any(place.kind == "tag" for place in self.predictor_from)


AS_SENT = SenderRules()

# The rules for events with these labels: as they state them, with the defaults of this server filled in.
RulesOf: TypeAlias = "Callable[[Labels], SenderRules]"


def as_sent(labels: Labels) -> SenderRules:
    """Reads the events of all deployments as they are."""
    return AS_SENT


def row_task_of(path: str, build: Build) -> str:
    """Tells the task of the metric model at a path, if its rows are lists; "" for any other.

    One that cannot be made is for the start of the server to refuse, which has to say why.
    """
    try:
        task = getattr(build(path, {}), "task", "")
    except BadConfiguration:
        return ""
    return task if task in OF_ROWS else ""
