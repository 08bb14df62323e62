"""The configuration of the Kafka driver: from the settings, and from a file for what must not stand on a command
line.
"""

from __future__ import annotations

import re
from pathlib import Path

from metrics_server.errors import BadConfiguration

DEFAULTS: dict[str, str | int | bool] = {
    "client.id": "feedback-metrics-server",
    # A group without offsets starts with what the topic still has: nothing that was predicted before the server came is
    # lost.
    "auto.offset.reset": "earliest",
    # Partitions that stay are read on while others move. Nothing needs two topics' partitions in one place:
    # observations meet in the store.
    "partition.assignment.strategy": "cooperative-sticky",
    "session.timeout.ms": 10_000,  # how long a restart after a crash waits for the broker to miss the member that died
    "queued.max.messages.kbytes": 16 * 1024,  # read ahead, of all partitions
    "topic.metadata.refresh.interval.ms": 30_000,  # how soon a new topic is found
    "log_level": 2,  # what concerns the operator is told by errors, once, not by each attempt to connect
}
# Offsets are committed by the consumer alone, when records are durably applied.
FIXED: dict[str, str | int | bool] = {"enable.auto.commit": False, "enable.auto.offset.store": False}

_LINE = re.compile(r"([\w.]+)\s*[=:]\s*(.*)")


def configuration(brokers: str, group: str, path: str = "") -> dict[str, str | int | bool]:
    """Makes the driver's configuration.

    Args:
        brokers: host:port, separated by commas.
        group: of the consumer.
        path: of a file with further settings, as name=value lines; "" for none.

    Raises:
        BadConfiguration: the file cannot be read, or sets what cannot be set there.
    """
    own = {"bootstrap.servers": brokers, "group.id": group}
    given = _from_file(path) if path else {}
    for name in given:
        if name in own or name in FIXED:
            raise BadConfiguration(f"--kafka_config {path}: {name} is not set there")
    return {**DEFAULTS, **given, **own, **FIXED}


def topics(stated: str) -> list[str]:
    """Splits names of topics at commas; one regular expression, which starts with ^, may hold commas.

    >>> topics("seldon, wine.predictions")
    ['seldon', 'wine.predictions']
    """
    if stated.startswith("^"):
        return [stated]
    return [name.strip() for name in stated.split(",") if name.strip()]


def _from_file(path: str) -> dict[str, str]:
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfiguration(f"--kafka_config {path}: {error}") from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not (text := line.strip()) or text.startswith("#"):
            continue
        if not (parts := _LINE.fullmatch(text)):
            raise BadConfiguration(
                f"--kafka_config {path}, line {number}: want name=value"
            )  # without the line: it may hold a secret
        found[parts[1]] = parts[2]
    return found
