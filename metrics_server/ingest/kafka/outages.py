"""What a Kafka driver complains of: each cause is said once, until it is known to be over. Knows no driver."""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)

UNREACHABLE = "unreachable"  # one outage, whatever its signs
_SIGNS = ("_TRANSPORT", "_ALL_BROKERS_DOWN", "_RESOLVE", "_TIMED_OUT", "_TIMED_OUT_QUEUE", "_WAIT_COORD")

# What a group that gives partitions or takes offsets shows to be over. It says nothing of a topic that cannot be read.
_DISPROVED = {UNREACHABLE, "_AUTHENTICATION", "_SSL", "SASL_AUTHENTICATION_FAILED", "GROUP_AUTHORIZATION_FAILED"}


class OutageLog:
    """The causes that were said. Used in the consumer's thread."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def note(self, name: str, why: str) -> None:
        """Says an error of the driver, by its name, unless its cause was said."""
        cause = UNREACHABLE if name in _SIGNS else name
        if cause not in self._said:
            self._said.add(cause)
            logger.warning("Kafka is tried again, and cannot be read now: %s", why)

    def note_success(self) -> None:
        """Says that the group is there again, if it was not."""
        if not self._said.isdisjoint(_DISPROVED):
            self._said -= _DISPROVED
            logger.info("Kafka is back")
