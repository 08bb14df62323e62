"""How the events of a deployment are read where senders differ and the events themselves do not tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from metrics_server.series.series import Labels


class SenderRules(msgspec.Struct, frozen=True):
    """Rules for the events of some deployments.

    Attributes:
        absent_reward: what a feedback with a truth and without a reward says of it: 0.0 where the sender leaves zeros
            out, as JSON of protobuf does; None for nothing.
        row_task: the task of the named metric model, as far as its rows are lists, see `task.is_row`; "" for none.
    """

    absent_reward: float | None = None
    row_task: str = ""


AS_SENT = SenderRules()

# The rules for events that state these labels.
RulesOf: TypeAlias = "Callable[[Labels], SenderRules]"


def as_sent(labels: Labels) -> SenderRules:
    """Reads the events of all deployments as they are."""
    return AS_SENT
