"""A Kafka broker for tests: Apache Kafka where Java and Maven are, else the mock that the driver brings along, which
cannot restart."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from metrics_server.ingest.kafka.record import Record
from tests.support.running import ROOT, free_port

POM = ROOT / "tests" / "support" / "kafka" / "pom.xml"
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "feedback-metrics-server"

PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
controller.listener.names=CONTROLLER
log.dirs={logs}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
"""

MOCK = """
import sys
from confluent_kafka import Producer
producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 2})
(broker,) = producer.list_topics(timeout=30).brokers.values()
print(f"{broker.host}:{broker.port}", flush=True)
sys.stdin.read()
"""


class Broker:
    """What tests need of a broker at an address."""

    address: str

    def topic(self, partitions: int = 3, name: str = "") -> str:
        """A new topic."""
        raise NotImplementedError

    def produce(self, records: Iterable[Record]) -> None:
        """Sends records to their topics and partitions, and waits until the broker has them; their offsets are its
        own."""
        producer = Producer({"bootstrap.servers": self.address, "linger.ms": 5, "log_level": 2})
        failures: list[Any] = []
        for record in records:
            while True:
                try:
                    producer.produce(
                        record.topic,
                        record.value,
                        record.key,
                        record.partition,
                        on_delivery=lambda error, _: failures.append(error) if error else None,
                        timestamp=int((record.time or 0) * 1000),
                        headers=list(record.headers),
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
        assert producer.flush(30) == 0
        assert not failures, failures[0]

    def committed(self, topic: str, group: str, partitions: int) -> int:
        """The sum of a group's committed offsets."""
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": group, "log_level": 2})
        try:
            places = consumer.committed([TopicPartition(topic, number) for number in range(partitions)], timeout=30)
            return sum(max(0, place.offset) for place in places)
        finally:
            consumer.close()


class ApacheKafka(Broker):
    """One node on loopback, which can be stopped and started again."""

    def __init__(self, directory: Path, jars: Path) -> None:
        self._directory = directory
        self._java = ["java", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/*"]
        self._port = free_port()
        self.address = f"127.0.0.1:{self._port}"
        self._file = directory / "server.properties"
        self._file.write_text(PROPERTIES.format(port=self._port, controller=free_port(), logs=directory / "logs"))
        self._process: subprocess.Popen[bytes] | None = None
        format_ = [
            *self._java,
            "kafka.tools.StorageTool",
            "format",
            "-t",
            "AAAAAAAAAAAAAAAAAAAAAQ",
            "-c",
            str(self._file),
        ]
        subprocess.run(format_, check=True, capture_output=True, timeout=60)

    def start(self) -> None:
        with (self._directory / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._java, "kafka.Kafka", str(self._file)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
                return
            except OSError:
                assert self._process.poll() is None, (self._directory / "broker.log").read_text()[-2000:]
                assert time.monotonic() < deadline, "the broker did not start"
                time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    def topic(self, partitions: int = 3, name: str = "") -> str:
        name = name or f"t{uuid4().hex}"
        admin = AdminClient({"bootstrap.servers": self.address, "log_level": 2})
        admin.create_topics([NewTopic(name, partitions, 1)])[name].result(30)
        return name


class MockKafka(Broker):
    """The driver's mock of a broker, in a process of its own. Its topics have four partitions."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", MOCK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()

    def topic(self, partitions: int = 3, name: str = "") -> str:
        name = name or f"t{uuid4().hex}"
        admin = AdminClient({"bootstrap.servers": self.address, "log_level": 2, "allow.auto.create.topics": True})
        admin.list_topics(name, timeout=30)
        return name

    def stop(self) -> None:
        self._process.communicate(timeout=30)


def _jars() -> Path:
    """The broker's files, fetched once by Maven into the user's cache."""
    versions = re.findall(r"<version>([\d.]+)</version>", POM.read_text())
    found = CACHE / f"kafka-{versions[1]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            fetched = CACHE / f"kafka-{os.getpid()}"
            command = [
                "mvn",
                "-q",
                "-B",
                "-f",
                str(POM),
                COPY,
                f"-DoutputDirectory={fetched}",
                "-DincludeScope=runtime",
            ]
            done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
            assert done.returncode == 0, done.stdout[-2000:]
            fetched.rename(found)
    return found


@contextmanager
def broker(directory: Path) -> Iterator[Broker]:
    """A running broker."""
    missing = [name for name in ("java", "mvn") if shutil.which(name) is None]
    if missing and os.environ.get("CI"):
        pytest.fail(f"{' and '.join(missing)} missing in CI")
    made: ApacheKafka | MockKafka
    if missing:
        made = MockKafka()
    else:
        made = ApacheKafka(directory, _jars())
        made.start()
    try:
        yield made
    finally:
        made.stop()
