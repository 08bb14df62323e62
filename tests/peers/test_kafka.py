"""Servers that consume from a real broker: every record counts once, whatever is killed, moved, locked or broken
meanwhile."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

pytest.importorskip("confluent_kafka")

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from prometheus_client import CollectorRegistry

from metrics_server.ingest.kafka.consumer import KafkaConsumer
from metrics_server.ingest.kafka.in_flight import Partition
from metrics_server.ingest.kafka.record import Record
from metrics_server.telemetry import KafkaTelemetry
from tests.conftest import Serve
from tests.support.kafka_broker import ApacheKafka, Broker, broker
from tests.support.live_server import Page, live_server
from tests.support.locks import locked
from tests.support.postgres import shared_postgres
from tests.support.running import FEEDBACK, REQUEST, RESPONSE, RunningServer
from tests.support.waiting import until

PARTITIONS = 3


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for all tests; each has topics and groups of its own."""
    with broker(tmp_path_factory.mktemp("kafka")) as made:
        yield made


@pytest.fixture
def apache(kafka: Broker) -> ApacheKafka:
    """The broker, where it is a real one."""
    if not isinstance(kafka, ApacheKafka):
        pytest.skip("java and mvn are not installed; the driver's mock of a broker cannot do this")
    return kafka


def options(kafka: Broker, topic: str, group: str = "") -> list[str]:
    return [
        "--kafka_brokers",
        kafka.address,
        "--kafka_topic",
        topic,
        "--kafka_group",
        group or uuid4().hex,
        "--log_level",
        "WARNING",
    ]


def logged(
    topic: str, number: int, kind: str, body: object, request_id: str = "", *, value: bytes | None = None
) -> Record:
    """A record as the Seldon executor's logger writes it: no key, any partition."""
    headers = {
        "type": kind,
        "content-type": "application/json",
        "modelid": "classifier",
        "requestid": request_id,
        "inferenceservicename": "wine",
        "namespace": "shop",
        "endpoint": "main",
        "protocol": "seldon",
    }
    named = [(name, text.encode()) for name, text in headers.items() if text]
    return Record(
        topic, number % PARTITIONS, 0, time.time(), None, named, json.dumps(body).encode() if value is None else value
    )


def message(label: object) -> dict[str, object]:
    return {"data": {"ndarray": [label]}}


def pair(topic: str, number: int, *, right: bool = True) -> list[Record]:
    """Request, response and feedback of one request, each in another partition."""
    puid = f"p{number}"
    return [
        logged(topic, number, REQUEST, message([1.5]), puid),
        logged(topic, number + 1, RESPONSE, message("cat"), puid),
        logged(topic, number + 2, FEEDBACK, {"truth": message("cat" if right else "dog")}, puid),
    ]


def whole(topic: str, number: int, truth: str = "cat") -> Record:
    """A feedback that carries its response and no id at all: a pair known by its place alone."""
    return logged(topic, number, FEEDBACK, {"response": message("cat"), "truth": message(truth)})


def confusion(page: Page) -> dict[tuple[str, ...], float]:
    return page.by("model_confusion_total", "truth", "prediction")


def page_of(server: RunningServer) -> Page:
    return Page(server.get("/v1/metrics").body.decode())


def await_lag(server: RunningServer, seconds: float = 20) -> None:
    """Waits until everything that was produced is applied and committed."""
    until(lambda: server.value("metrics_server_kafka_lag_records") == 0, seconds, "the lag stays")


# What is consumed


def test_each_kind_of_record_counts(kafka: Broker, serve: Serve) -> None:
    """CloudEvents in both modes and the executor's records, gzip too, pair with each other by request id, whatever
    brought them."""
    topic = kafka.topic()
    group = uuid4().hex
    attributes = {
        "specversion": "1.0",
        "source": "test",
        "namespace": "shop",
        "inferenceservicename": "wine",
        "endpoint": "main",
    }
    attributes["modelid"] = "classifier"
    truth = {**attributes, "id": "2", "type": FEEDBACK, "requestid": "b", "data": {"truth": message("dog")}}
    binary = {**attributes, "id": "1", "type": RESPONSE, "requestid": "a"}
    named = [(f"ce_{name}", text.encode()) for name, text in binary.items()]
    now = time.time()
    records = [
        Record(
            topic, 0, 0, now, b"k", [*named, ("content-type", b"application/json")], json.dumps(message("cat")).encode()
        ),
        logged(topic, 1, FEEDBACK, {"truth": message("cat")}, "a"),
        Record(
            topic,
            2,
            0,
            now,
            None,
            [("content-type", b"application/cloudevents+json; charset=utf-8")],
            json.dumps(truth).encode(),
        ),
        logged(topic, 0, RESPONSE, None, "b", value=gzip.compress(json.dumps(message("cat")).encode())),
        *pair(topic, 1),
        whole(topic, 2, "dog"),
        Record(topic, 1, 0, now, b"x", [], b"not one of ours"),
        Record(topic, 1, 0, now, b"x", [], None),
    ]
    kafka.produce(records)
    server = serve("--store", "memory://", *options(kafka, topic, group))
    until(lambda: server.value("metrics_server_received_total") == len(records), 20, "not all records came")
    page = page_of(server)
    assert confusion(page) == {("cat", "cat"): 2, ("dog", "cat"): 2}
    assert page.value("model_predictions_total") == 3
    assert page.value("metrics_server_events_total", outcome="ignored") == 2
    assert page.value("metrics_server_events_total", outcome="accepted") == 8
    until(lambda: kafka.committed(topic, group, PARTITIONS) == len(records), 30, "the offsets are not committed")
    await_lag(server)


def _tensor(*classes: str) -> bytes:
    """A V2 ModelInferResponse in protobuf with a BYTES tensor: field numbers as in the Open Inference Protocol."""

    def part(field: int, content: bytes) -> bytes:
        return bytes([field << 3 | 2, len(content)]) + content

    contents = b"".join(part(8, text.encode()) for text in classes)
    output = part(1, b"label") + part(2, b"BYTES") + part(3, bytes([len(classes)])) + part(5, contents)
    return part(1, b"wine") + part(5, output)


def test_topics_of_core_2_count(kafka: Broker, serve: Serve) -> None:
    """Outputs in protobuf, framed by a schema registry or not, and in JSON meet their truths, found by a regular
    expression."""
    pytest.importorskip("metrics_server.ingest.payload.protobuf")
    unique = uuid4().hex
    outputs, inputs, errors, truths = (
        kafka.topic(1, f"{unique}.shop.{name}")
        for name in ("model.wine.outputs", "model.wine.inputs", "errors.errors", "truths")
    )
    now = time.time()
    as_json = json.dumps(
        {"model_name": "wine", "outputs": [{"name": "label", "datatype": "BYTES", "shape": [1], "data": ["cat"]}]}
    )

    def truth(request_id: str, label: str) -> Record:
        event = {"specversion": "1.0", "id": request_id, "source": "test", "type": FEEDBACK, "requestid": request_id}
        body = json.dumps({**event, "data": {"truth": message(label)}}).encode()
        return Record(truths, 0, 0, now, None, [("content-type", b"application/cloudevents+json")], body)

    kafka.produce(
        [
            Record(inputs, 0, 0, now, b"2.p.a", [("x-request-id", b"a"), ("pipeline", b"p")], b"\x0a\x04wine"),
            Record(outputs, 0, 0, now, b"2.p.a", [("x-request-id", b"a"), ("pipeline", b"p")], _tensor("cat")),
            Record(
                outputs,
                0,
                0,
                now,
                b"2.p.b",
                [("x-request-id", b"2.p.b"), ("pipeline", b"p")],
                b"\0\0\0\0\7\0" + _tensor("dog"),
            ),
            Record(outputs, 0, 0, now, b"p.c", [("seldon-infer-type", b"json/inferModelResponse")], as_json.encode()),
            Record(errors, 0, 0, now, b"2.p.d", [("seldon-pipeline-errors", b"wine")], b"broken"),
            truth("a", "cat"),
            truth("b", "cat"),
            truth("c", "cat"),
        ]
    )
    server = serve("--store", "memory://", *options(kafka, f"^{unique}[.].*"))
    until(lambda: server.value("metrics_server_received_total") == 8, 20, "not all records came")
    page = page_of(server)
    assert page.value("metrics_server_events_total", outcome="rejected") == 0, server.get("/v1/rejected").body
    assert page.by("model_confusion_total", "deployment_namespace", "deployment_name", "truth", "prediction") == {
        ("shop", "wine", "cat", "cat"): 2,
        ("shop", "wine", "cat", "dog"): 1,
    }
    assert page.by("model_predictions_total", "predictor_name") == {("p",): 2, ("",): 1}


def test_a_poison_record_blocks_nothing(kafka: Broker, serve: Serve) -> None:
    """What cannot be read is counted with its reason and left behind; the records after it count."""
    topic = kafka.topic()
    group = uuid4().hex
    poison = [
        logged(topic, 0, RESPONSE, None, "a", value=b"{"),
        logged(topic, 0, RESPONSE, None, "a", value=b"\x1f\x8bnot gzip"),
        logged(topic, 0, RESPONSE, None, "a", value=gzip.compress(b" " * 5000)),
        logged(topic, 0, FEEDBACK, None, "a", value=b" " * 5000),
        Record(topic, 0, 0, time.time(), None, [("ce_id", b"1"), ("ce_type", FEEDBACK.encode())], b"{}"),
        logged(topic, 0, FEEDBACK, {"nothing": 1}, "a"),
    ]
    kafka.produce([*poison, whole(topic, 0)])
    server = serve("--store", "memory://", "--max_body_bytes", "4096", *options(kafka, topic, group))
    until(lambda: server.value("metrics_server_received_total") == len(poison) + 1, 20, "not all records came")
    page = page_of(server)
    assert confusion(page) == {("cat", "cat"): 1}
    reasons = {
        reason: count for (reason,), count in page.by("metrics_server_rejected_total", "reason").items() if count
    }
    assert reasons == {
        "malformed_json": 1,
        "malformed_gzip": 1,
        "body_too_large": 2,
        "malformed_event": 1,
        "malformed_feedback": 1,
    }
    rejected = json.loads(server.get("/v1/rejected").body)
    assert f"{topic} partition:0/offset:1" in " ".join(entry["detail"] for entry in rejected)
    until(lambda: kafka.committed(topic, group, PARTITIONS) == len(poison) + 1, 30, "the offsets are not committed")


# What goes wrong meanwhile


@pytest.mark.long
def test_a_killed_server_loses_and_doubles_nothing(apache: ApacheKafka, tmp_path: Path) -> None:
    """Killed twice among thousands of records, and once with records it could not store, the server ends with the exact
    totals."""
    # Seen to fail in a copy that committed what was read, not what was answered.
    topic, pairs, more = apache.topic(), 3000, 300
    stream = [
        record
        for number in range(pairs)
        for record in (*pair(topic, number, right=bool(number % 4)), whole(topic, number))
    ]
    apache.produce(stream)
    path = tmp_path / "kafka.properties"
    path.write_text("session.timeout.ms=1500\nheartbeat.interval.ms=300\n")  # a member that died is missed sooner
    with live_server(tmp_path, *options(apache, topic), "--kafka_config", str(path)) as server:
        for share in (0.1, 0.4):
            until(
                lambda share=share: server.page().value("model_support", window="1h") > share * 2 * pairs,
                30,
                "nothing comes",
            )
            server.kill()
            server.start()
        until(lambda: server.page().value("model_support", window="1h") >= 2 * pairs, 30, "records are lost")
        until(lambda: server.page().value("metrics_server_kafka_lag_records") == 0, 20, "the lag stays")
        page = server.page()
        assert 0 < page.value("metrics_server_events_total", outcome="accepted") < len(stream), (
            "the kills came too early or too late"
        )
        with locked(server.database):
            apache.produce([whole(topic, number, "owl") for number in range(more)])
            until(lambda: server.page().value("metrics_server_kafka_lag_records") == more, 20, "the lag is not shown")
            server.kill()
        server.start()
        until(lambda: server.page().value("model_support", window="1h") >= 2 * pairs + more, 30, "records are lost")
        until(lambda: server.page().value("metrics_server_kafka_lag_records") == 0, 20, "the lag stays")
        page = server.page()
        assert confusion(page) == {("cat", "cat"): pairs * 7 / 4, ("dog", "cat"): pairs / 4, ("owl", "cat"): more}
        assert page.value("model_labels_total", status="matched") == 2 * pairs + more
        assert page.value("model_predictions_total") == pairs


@contextmanager
def stream(kafka: Broker, portion: list[Record]) -> Iterator[Counter[str]]:
    """Records produced beside the test, again and again until its end; says how many were."""
    sent, ended = Counter[str](), threading.Event()

    def produce() -> None:
        while not ended.is_set():
            kafka.produce(portion)
            sent["records"] += len(portion)

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        yield sent
    finally:
        ended.set()
        thread.join(60)


@pytest.mark.long
def test_partitions_that_move_lose_and_double_nothing(apache: ApacheKafka, serve: Serve) -> None:
    """Two servers of one group with a store each: while one comes and the other goes, each record counts at exactly one
    of them."""
    # Seen to fail in a copy that gave partitions up without waiting for what was being applied.
    topic, group = apache.topic(), uuid4().hex

    def counted(server: RunningServer) -> float:
        return server.value("model_labels_total", status="matched") or 0

    with stream(apache, [whole(topic, number) for number in range(60)]) as sent:
        first = serve("--store", "sqlite:///first.db", *options(apache, topic, group))
        until(lambda: counted(first) > 0, 20, "nothing comes")
        second = serve("--store", "sqlite:///second.db", *options(apache, topic, group))
        until(lambda: counted(second) > 0, 20, "no partition moves")
        both = counted(first), counted(second)
        until(lambda: counted(first) > both[0] and counted(second) > both[1], 20, "one of them stands still")
        assert first.stop() == 0
        alone = counted(second)
        until(lambda: counted(second) > alone + 500, 20, "no partition moves back")
    kept = serve("--store", "sqlite:///first.db")
    until(lambda: counted(kept) + counted(second) >= sent["records"], 30, "records are lost")
    await_lag(second)
    assert counted(kept) + counted(second) == sent["records"]


@pytest.mark.long
def test_servers_of_a_group_on_one_database_come_and_go(apache: ApacheKafka, serve: Serve) -> None:
    """Three servers of one group share a database: one is killed, one comes, one goes, and each record counts once and
    has its offset committed."""
    topic, group, url = apache.topic(), uuid4().hex, shared_postgres().fresh()

    def started() -> RunningServer:
        return serve("--store", url, *options(apache, topic, group))

    def counted(server: RunningServer) -> float:
        return server.value("model_labels_total", status="matched") or 0

    def until_more(server: RunningServer, what: str) -> None:
        before = counted(server)
        until(lambda: counted(server) > before + 500, 40, what)

    with stream(apache, [whole(topic, number) for number in range(60)]) as sent:
        killed, stopped, stays = started(), started(), started()
        until_more(stays, "nothing comes")
        killed.process.kill()
        killed.process.wait(10)
        until_more(stays, "nothing comes after a kill")
        comes = started()
        until_more(comes, "nothing comes after a start")
        assert stopped.stop() == 0
        until_more(stays, "nothing comes after a stop")
    until(lambda: counted(stays) >= sent["records"], 60, "records are lost")
    await_lag(stays)
    await_lag(comes)
    assert counted(stays) == counted(comes) == sent["records"]
    until(lambda: apache.committed(topic, group, PARTITIONS) == sent["records"], 30, "the offsets are not committed")
    again = sum(server.value("metrics_server_events_total", outcome="duplicate") or 0 for server in (stays, comes))
    print(f"{sent['records']} records sent, all offsets committed, {counted(stays):.0f} pairs; read again: {again:.0f}")


def test_a_locked_store_is_waited_out(kafka: Broker, serve: Serve, tmp_path: Path) -> None:
    """While the store cannot be written nothing is committed to the broker, more records than may be in flight wait,
    and all count."""
    topic, group, count = kafka.topic(), uuid4().hex, 3000
    server = serve("--store", "sqlite:///state.db", *options(kafka, topic, group))
    kafka.produce([whole(topic, 0)])
    until(lambda: kafka.committed(topic, group, PARTITIONS) == 1, 20, "nothing comes")
    with locked(tmp_path / "state.db"):
        kafka.produce([whole(topic, number) for number in range(count)])
        until(
            lambda: (server.value("metrics_server_events_total", outcome="unavailable") or 0) > 0,
            20,
            "nothing is offered",
        )
        until(lambda: (server.value("metrics_server_kafka_lag_records") or 0) > count / 2, 20, "the lag is not shown")
        assert server.get("/healthz").status == 200
        assert kafka.committed(topic, group, PARTITIONS) == 1
    until(lambda: server.value("model_labels_total", status="matched") == count + 1, 30, "not caught up")
    until(lambda: kafka.committed(topic, group, PARTITIONS) == count + 1, 30, "the offsets are not committed")
    assert server.stop() == 0


@pytest.mark.long
def test_a_broker_that_is_away_is_waited_for(apache: ApacheKafka, serve: Serve) -> None:
    """Without its broker the server starts, serves and says so once; it consumes when the broker comes, and comes
    back."""
    topic = apache.topic()
    apache.produce([whole(topic, 0)])
    apache.stop()
    try:
        server = serve("--store", "memory://", *options(apache, topic)[:-2])
        until(lambda: (server.value("metrics_server_kafka_errors_total") or 0) > 0, 20, "no error is counted")
        assert server.get("/readyz").status == 200
        assert server.post({"response": message("dog"), "truth": message("dog")}).status == 200
        apache.start()
        until(lambda: server.value("model_labels_total", status="matched") == 2, 40, "nothing comes")
        apache.stop()
    finally:
        apache.start()
    apache.produce([whole(topic, 1)])
    until(lambda: server.value("model_labels_total", status="matched") == 3, 40, "nothing comes any more")
    assert server.stop() == 0
    text = server.log.read_text()
    assert 1 <= text.count("Kafka is tried again") <= 2, text
    assert "Kafka is back" in text


@pytest.mark.long
def test_a_consumer_that_fails_is_replaced(apache: ApacheKafka, serve: Serve, tmp_path: Path) -> None:
    """Thrown out of its group for good by another member of its name, the server makes a new consumer, and each record
    counts once."""
    topic, group = apache.topic(), uuid4().hex
    (tmp_path / "kafka.properties").write_text("group.instance.id=twin\nsession.timeout.ms=6000\n")
    server = serve("--store", "memory://", *options(apache, topic, group), "--kafka_config", "kafka.properties")
    apache.produce([whole(topic, 0)])
    until(lambda: server.value("model_labels_total", status="matched") == 1, 20, "nothing comes")
    twin = Consumer(
        {
            "bootstrap.servers": apache.address,
            "group.id": group,
            "group.instance.id": "twin",
            "session.timeout.ms": 6000,
            "partition.assignment.strategy": "cooperative-sticky",
            "log_level": 2,
        }
    )
    twin.subscribe([topic])
    until(lambda: twin.poll(0.1) is None and "is replaced" in server.log.read_text(), 20, "the twin threw nobody out")
    twin.close()
    apache.produce([whole(topic, number) for number in range(9)])
    until(lambda: server.value("model_labels_total", status="matched") == 10, 30, "nothing comes any more")
    await_lag(server)


@pytest.mark.long
def test_a_server_stops_without_its_broker(apache: ApacheKafka, serve: Serve) -> None:
    """A broker that has gone keeps no server from stopping cleanly in its time."""
    topic = apache.topic()
    server = serve("--store", "memory://", "--drain_seconds", "5", *options(apache, topic))
    apache.produce([whole(topic, 0)])
    until(lambda: server.value("model_labels_total", status="matched") == 1, 20, "nothing comes")
    apache.stop()
    try:
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 5 + 10
    finally:
        apache.start()


# What the driver says


class _Driver:
    """Stands for a consumer of an idle topic that has applied one record, and has said something of its broker."""

    def __init__(self, *, answers: bool = True) -> None:
        self.answers = answers
        self.called: list[str] = []

    def subscribe(self, topics: list[str], **unused: object) -> None: ...

    def poll(self, seconds: float) -> None: ...

    def committed(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        assert places
        assert timeout < 5
        if not self.answers:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return places

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool = True) -> None:
        assert not asynchronous
        self.called += [f"commit {place.offset}" for place in offsets]

    def close(self) -> None:
        self.called.append("close")


def _consumer() -> KafkaConsumer:
    """A consumer that knows no broker; to be made in a loop."""
    ingest: Any = None
    config = {"bootstrap.servers": "127.0.0.1:1", "group.id": "g", "log_level": 0}
    telemetry = KafkaTelemetry(CollectorRegistry())
    return KafkaConsumer(config, ["t"], ingest, telemetry, max_body_bytes=9, max_bodies_bytes=9)


@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize(("answers", "called"), [(True, ["commit 5", "close"]), (False, [])])
def test_an_outage_that_is_over_keeps_nobody_in_the_group(answers: bool, called: list[str], reads: bool) -> None:
    """What counts at the end is whether the group's coordinator answers then, not what was said of it before."""

    async def run() -> list[str]:
        kafka, driver = _consumer(), _Driver(answers=answers)
        kafka._consumer = driver  # type: ignore[assignment]
        if reads:
            kafka._partitions["t", 0] = partition = Partition("t", 0)
            partition.next = 5
        kafka._note_error(KafkaError(KafkaError._TRANSPORT))
        kafka.stop()
        kafka._consume()
        return driver.called

    assert asyncio.run(run()) == (called if reads else called[1:])


def test_what_a_commit_does_not_disprove_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """A topic that may not be read, beside commits that succeed, is no outage that comes and goes; an outage is."""

    async def run() -> None:
        kafka = _consumer()
        for _ in range(3):
            kafka._note_error(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
            kafka._on_commit(None, [])
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        for sign in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
            kafka._note_error(KafkaError(sign))
        for _ in range(2):
            kafka._on_commit(None, [])
        kafka._note_error(KafkaError(KafkaError._TIMED_OUT))

    with caplog.at_level("INFO"):
        asyncio.run(run())
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "INFO", "WARNING"]


def _refused(*words: str, cwd: Path, **environment: str) -> str:
    command = [sys.executable, "-m", "metrics_server", "--store", "memory://", "--kafka_brokers", "127.0.0.1:1", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=20, cwd=cwd, check=False, env=environment or None
    )
    assert done.returncode == 1, done.stderr
    return done.stderr


def test_what_the_driver_does_not_take_stops_the_start(tmp_path: Path) -> None:
    """A setting that the driver does not know is named at the start."""
    (tmp_path / "kafka.properties").write_text("no.such.setting=1\n")
    assert 'No such configuration property: "no.such.setting"' in _refused(
        "--kafka_config", "kafka.properties", cwd=tmp_path
    )


def test_a_missing_driver_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package the message names the extra; without the setting it is not missed."""
    (tmp_path / "confluent_kafka.py").write_text("raise ImportError('it is not there')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    assert "the extra kafka" in _refused(cwd=tmp_path)
