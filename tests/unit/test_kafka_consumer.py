"""The consumer's parts: its settings, its topics, and the offset from which it would go on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metrics_server.errors import BadConfiguration
from metrics_server.http.response import EMPTY, Response
from metrics_server.ingest.cloudevent import Event
from metrics_server.ingest.kafka import config as kafka_config
from metrics_server.ingest.kafka.in_flight import InFlight, InFlightRecord, Partition
from metrics_server.settings import load
from tests.support.running import FEEDBACK


def test_offering_leaves_the_event_loop_free() -> None:
    """Records that take long are offered a few at a time, in their order; between them the loop does what else is
    due."""
    taken: list[str] = []
    pauses: list[float] = []

    class Slow:
        def take_event(self, event: Event, answered: Callable[[Response], None]) -> None:
            time.sleep(0.002)
            taken.append(event.id)
            answered(EMPTY)

    async def run() -> None:
        ingest: Any = Slow()
        offers = InFlight(ingest, 1000, 2**20)
        partition = Partition("t", 0)
        batches = [
            [InFlightRecord(partition, n, Event(kind=FEEDBACK, id=str(n))) for n in range(at, at + 100)]
            for at in (0, 100)
        ]
        for batch in batches:
            for offer in batch:
                offers.add(offer)
            offers.hand_over(batch)
        last = time.monotonic()
        while len(taken) < 200:
            await asyncio.sleep(0)
            pauses.append(time.monotonic() - last)
            last = time.monotonic()
        offers.collect()
        assert partition.is_settled

    asyncio.run(run())
    assert taken == [str(n) for n in range(200)]
    assert len(pauses) > 40
    assert sorted(pauses)[-3] < 0.1  # a busy machine may hold up one or two


# What is configured


def test_the_offset_to_go_on_from_is_the_first_one_open() -> None:
    """Whatever the order of the answers, what is committed covers nothing that is not answered."""
    partition = Partition("t", 0)
    assert partition.durable is None
    for offset in (5, 6, 9):
        partition.read(offset)
    partition.open.discard(6)
    assert partition.durable == 5
    partition.open.discard(5)
    assert partition.durable == 9
    partition.open.discard(9)
    assert partition.durable == 10


def test_a_file_brings_settings_of_the_driver(tmp_path: Path) -> None:
    """Lines with either sign, comments and values with signs of their own are read; what the server sets itself
    stays."""
    path = tmp_path / "kafka.properties"
    path.write_text("# ours\nsecurity.protocol=SASL_SSL\n\nsasl.password: a=b:c# d \nauto.offset.reset = latest\n")
    made = kafka_config.configuration("b:1", "group", str(path))
    assert made["security.protocol"] == "SASL_SSL"
    assert made["sasl.password"] == "a=b:c# d"
    assert made["auto.offset.reset"] == "latest"
    assert made["bootstrap.servers"] == "b:1"
    assert made["enable.auto.commit"] is False


@pytest.mark.parametrize("line", ["enable.auto.commit=true", "group.id: other", "bootstrap.servers=x", "secret"])
def test_what_cannot_be_set_in_the_file_is_refused(tmp_path: Path, line: str) -> None:
    """What has a setting of its own, would break a promise, or is no setting stops the start; the message shows no
    secret."""
    path = tmp_path / "kafka.properties"
    path.write_text(line)
    with pytest.raises(BadConfiguration, match="--kafka_config") as raised:
        kafka_config.configuration("b:1", "group", str(path))
    assert "secret" not in str(raised.value)


def test_topics_are_names_or_one_expression() -> None:
    """A regular expression may hold a comma, names are separated by them; consuming nothing is refused."""
    assert kafka_config.topics(" a, b,") == ["a", "b"]
    assert kafka_config.topics("^a{1,2}$") == ["^a{1,2}$"]
    with pytest.raises(BadConfiguration, match="--kafka_topic"):
        load(["--kafka_brokers", "b:1", "--kafka_topic", ","], {})
