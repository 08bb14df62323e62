"""What a server that runs takes of changed settings, and what waits for a restart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from metrics_server.settings.deployment import Deployment
from metrics_server.settings.loading import HELP
from metrics_server.settings.settings import Settings

# What may change while a server runs: neither what a series is nor what is paired depends on it.
LIVE = frozenset(
    ("absent_reward", "custom_metrics", "expose", "expose_groups", "groups", "log_level", "min_support", "objectives")
)
LIVE_OF_DEPLOYMENT = (
    "absent_reward",
    "baseline",
    "custom_metrics",
    "expose",
    "groups",
    "margin",
    "traffic",
    "value_matrix",
)
MATCHED = ("namespace", "deployment", "predictor", "model")


class Reloaded(NamedTuple):
    """What becomes of changed settings.

    Attributes:
        settings: those that hold from now on.
        taken: names of those that have changed.
        waiting: names of those that need a restart to change.
    """

    settings: Settings
    taken: list[str]
    waiting: list[str]


def reloaded(running: Settings, found: Settings) -> Reloaded:
    """Tells what a server that runs with some settings takes of others."""
    changed = [name for name in HELP if getattr(running, name) != getattr(found, name)]
    taken = [name for name in changed if _is_live(name, running, found)]
    settings = msgspec.structs.replace(running, **{name: getattr(found, name) for name in taken})
    return Reloaded(settings, taken, [name for name in changed if name not in taken])


def _is_live(name: str, running: Settings, found: Settings) -> bool:
    if name == "deployments":
        return _fixed(running.deployments) == _fixed(found.deployments)
    if name == "tls_clients":  # they say nothing without their authority, or with another
        return running.tls_client_ca == found.tls_client_ca
    return name in LIVE


def _fixed(entries: Sequence[Deployment]) -> list[Deployment]:
    """What of entries needs a restart to change. Entries behind all others that have nothing of it change no series:
    the first that matches counts.
    """
    fixed = [msgspec.structs.replace(entry, **dict.fromkeys(LIVE_OF_DEPLOYMENT)) for entry in entries]
    while fixed and msgspec.structs.replace(fixed[-1], **dict.fromkeys(MATCHED, "")) == Deployment():
        fixed.pop()
    return fixed
