"""Consumes Kafka topics and feeds the server as a sender would: each record is offered until it is answered, then its
offset is committed.

A thread polls, the event loop takes. The offset of a partition is committed up to the first record that is not answered
yet, and an answer comes after the store's commit: a crash or a rebalance loses nothing, and what is then read again is
known by its identity. Order within a partition is not kept, for no number depends on it; so a record that has to wait
holds up no other.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, KafkaException, Message, TopicPartition

from metrics_server.errors import BadConfiguration, Reason, Rejected
from metrics_server.ingest.cloudevent import Event
from metrics_server.ingest.kafka.in_flight import InFlight, InFlightRecord, Partition
from metrics_server.ingest.kafka.record import Record, event_of_record
from metrics_server.ingest.pipeline import Ingest
from metrics_server.telemetry import KafkaTelemetry, OutageLog

logger = logging.getLogger(__name__)

BATCH = 200  # records taken over at once
MAX_IN_FLIGHT = 2000  # records being applied or waiting to be offered again
POLL_SECONDS = 0.5
COMMIT_SECONDS = 1.0
ASK_SECONDS = 5.0  # how often the ends of paused partitions are asked for; those of others come along with what is read
SETTLE_SECONDS = 5.0  # how long a partition that is taken away waits for what is being applied
AGAIN_SECONDS = 5.0  # before a consumer that failed is replaced
PROBE_SECONDS = 3.0  # within which the group's coordinator has to answer, or it is not asked for anything at the end

_UNREACHABLE = "unreachable"  # one outage, whatever its signs: the driver's names of errors
_SIGNS = ("_TRANSPORT", "_ALL_BROKERS_DOWN", "_RESOLVE", "_TIMED_OUT", "_TIMED_OUT_QUEUE", "_WAIT_COORD")
# What a group that gives partitions or takes offsets shows to be over. It says nothing of a topic that cannot be read.
_DISPROVED = (_UNREACHABLE, "_AUTHENTICATION", "_SSL", "SASL_AUTHENTICATION_FAILED", "GROUP_AUTHORIZATION_FAILED")


class KafkaConsumer:
    """Consumes topics in a thread of its own, from `start` until `stop`. Made in the event loop that takes the records.

    Args:
        config: of the driver.
        topics: their names, or regular expressions that start with ^.
        max_body_bytes: of one record, after decompression.
        max_bodies_bytes: of all records being applied.

    Raises:
        BadConfiguration: the driver does not take the configuration.
    """

    def __init__(
        self,
        config: Mapping[str, str | int | bool],
        topics: Sequence[str],
        ingest: Ingest,
        telemetry: KafkaTelemetry,
        *,
        max_body_bytes: int,
        max_bodies_bytes: int,
    ) -> None:
        self._config = {**config, "error_cb": self._note_error, "on_commit": self._on_commit}
        self._topics = list(topics)
        self._telemetry = telemetry
        self._max_body_bytes = max_body_bytes
        self._in_flight = InFlight(ingest, MAX_IN_FLIGHT, max_bodies_bytes)
        self._partitions: dict[tuple[str, int], Partition] = {}
        self._backlog: deque[tuple[Partition, Record]] = deque()  # read, and not handed over yet
        self._stopping = threading.Event()
        self._drained = threading.Event()
        self._commit_at = self._ask_at = 0.0
        self._outages = OutageLog(logger)
        self._fatal: KafkaError | None = None
        self._is_spent = False
        try:
            self._consumer = Consumer(self._config)
        except KafkaException as error:
            raise BadConfiguration(f"--kafka_brokers, --kafka_config: {error.args[0].str()}") from error
        self._thread = threading.Thread(
            target=self._run, name="kafka", daemon=True
        )  # a driver that hangs must not keep the process

    def start(self) -> None:
        """Begins to consume; a broker that is away is waited for."""
        self._thread.start()

    def stop(self) -> None:
        """Reads no more. What is being applied is waited for, then its offsets are committed, in the consumer's
        thread.
        """
        self._stopping.set()

    @property
    def is_drained(self) -> bool:
        """Is true when, after `stop`, nothing is being applied any more."""
        return self._drained.is_set()

    def join(self, timeout: float) -> None:
        """Waits until the offsets are committed and the group is left."""
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._consume()
            except Exception:
                self._telemetry.errors.inc()
                logger.exception("The Kafka consumer failed and is replaced")
                self._stopping.wait(AGAIN_SECONDS)
        self._drained.set()

    def _consume(self) -> None:
        """Reads until told to stop, then settles, commits and leaves the group."""
        if self._is_spent:
            self._consumer, self._fatal = Consumer(self._config), None
        self._is_spent = True
        try:
            self._consumer.subscribe(
                self._topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
            while not self._stopping.is_set():
                self._step()
        finally:
            held = list(self._partitions.values())
            self._leave(held)
            if self._stopping.is_set():
                self._drained.set()
            self._consumer.poll(0)  # what it has to say of the broker
            # Thrown out or without a broker, both would wait for a minute; what is not committed is read again, and
            # known.
            if self._fatal is None and self._is_reachable(held):
                self._commit(held, asynchronous=False)
                self._consumer.close()

    def _step(self) -> None:
        self._in_flight.collect()
        self._commit_when_due()
        if self._fatal is not None:
            raise KafkaException(self._fatal)
        if not self._in_flight.has_room:
            self._wait_for_room()
            return
        self._pause(paused=False)
        if not self._backlog:
            self._poll()
        self._hand_over()

    def _wait_for_room(self) -> None:
        """Waits for answers; when none come, pauses what is assigned and polls on, or the group would take this member
        for dead.
        """
        if self._in_flight.wait(POLL_SECONDS):
            return
        self._pause(paused=True)
        if (message := self._consumer.poll(0)) is not None:
            self._sort(message)

    def _pause(self, *, paused: bool) -> None:
        if changed := [partition for partition in self._partitions.values() if partition.paused != paused]:
            change = self._consumer.pause if paused else self._consumer.resume
            change([TopicPartition(partition.topic, partition.number) for partition in changed])
            for partition in changed:
                partition.paused = paused

    def _poll(self) -> None:
        """Waits for one record and takes what else is there already: the driver's own batches wait until they are
        full.
        """
        if (first := self._consumer.poll(POLL_SECONDS)) is not None:
            self._sort(first)
            for message in self._consumer.consume(BATCH - 1, 0):
                self._sort(message)

    def _sort(self, message: Message) -> None:
        if (error := message.error()) is not None:
            self._note_error(error)
            return
        record = record_of(message)
        partition = self._partitions.get((record.topic, record.partition))
        if partition is not None:  # else it was taken away in the meantime, and its new owner reads this
            partition.read(record.offset)
            self._backlog.append((partition, record))

    def _hand_over(self) -> None:
        records = []
        while self._backlog and self._in_flight.has_room:
            partition, record = self._backlog.popleft()
            if not partition.revoked:
                records.append(InFlightRecord(partition, record.offset, self._event_of(record)))
                self._in_flight.add(records[-1])
        if records:
            self._in_flight.hand_over(records)

    def _event_of(self, record: Record) -> Event | Rejected:
        try:
            return event_of_record(record, self._max_body_bytes)
        except Rejected as error:
            return error
        except Exception:  # a bug of ours must not end the consumer, and would be the same the next time
            logger.exception("A Kafka record could not be read")
            return Rejected(Reason.MALFORMED_EVENT, f"{record.topic} {record.place}: internal error")

    # Offsets and partitions

    def _commit_when_due(self) -> None:
        if (now := time.monotonic()) >= self._commit_at:
            self._commit_at = now + COMMIT_SECONDS
            self._commit(self._partitions.values(), asynchronous=True)
            self._measure_lag(now)

    def _commit(self, partitions: Iterable[Partition], *, asynchronous: bool) -> None:
        offsets = []
        for partition in partitions:
            durable = partition.durable
            if durable is not None and durable != partition.committed:
                partition.committed = durable
                offsets.append(TopicPartition(partition.topic, partition.number, durable))
        if not offsets:
            return
        try:
            if asynchronous:
                self._consumer.commit(offsets=offsets)
            else:
                self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            self._on_commit(error.args[0], offsets)

    def _is_reachable(self, partitions: Iterable[Partition]) -> bool:
        """Asks whether the coordinator answers now. What was said of it before may be long over, or not be known
        yet.
        """
        places = [TopicPartition(partition.topic, partition.number) for partition in partitions]
        try:
            self._consumer.committed(places or [TopicPartition("none", 0)], timeout=PROBE_SECONDS)
        except KafkaException:
            return False
        return True

    def _on_commit(self, error: KafkaError | None, offsets: Sequence[TopicPartition]) -> None:
        """An offset that was not committed is committed with the next ones; until then a crash repeats records, and
        loses none.
        """
        failed = [offset for offset in offsets if error is not None or offset.error is not None]
        for offset in failed:
            if (partition := self._partitions.get((offset.topic, offset.partition))) is not None:
                partition.committed = None
        if failed:
            self._telemetry.errors.inc()
        else:
            self._note_group()

    def _measure_lag(self, now: float) -> None:
        ask = now >= self._ask_at
        if ask:
            self._ask_at = now + ASK_SECONDS
        lag: int | None = None
        for partition in self._partitions.values():
            if (durable := partition.durable) is None:
                continue
            place = TopicPartition(partition.topic, partition.number)
            try:
                ends = self._consumer.get_watermark_offsets(place, timeout=1.0, cached=not (ask and partition.paused))
            except KafkaException:
                ask, ends = False, None  # the others would take as long
            if ends is not None and ends[1] >= 0:
                lag = (lag or 0) + max(0, ends[1] - durable)
        self._telemetry.lag = lag

    def _on_assign(self, consumer: Consumer, assigned: Sequence[TopicPartition]) -> None:
        for place in assigned:
            self._partitions[place.topic, place.partition] = Partition(place.topic, place.partition)
        if assigned:
            logger.info("Consuming %d Kafka partitions", len(self._partitions))
            self._note_group()

    def _on_revoke(self, consumer: Consumer, revoked: Sequence[TopicPartition]) -> None:
        held = self._known(revoked)
        self._leave(held)
        self._commit(held, asynchronous=False)

    def _on_lost(self, consumer: Consumer, lost: Sequence[TopicPartition]) -> None:
        self._leave(self._known(lost))

    def _known(self, places: Sequence[TopicPartition]) -> list[Partition]:
        found = (self._partitions.get((place.topic, place.partition)) for place in places)
        return [partition for partition in found if partition is not None]

    def _leave(self, partitions: Sequence[Partition]) -> None:
        """Gives partitions up. What is being applied is waited for a while, so that the next owner does not apply it
        too.
        """
        for partition in partitions:
            partition.revoked = True
            self._partitions.pop((partition.topic, partition.number), None)
        deadline = time.monotonic() + SETTLE_SECONDS
        self._in_flight.collect()
        while not all(partition.is_settled for partition in partitions) and (left := deadline - time.monotonic()) > 0:
            self._in_flight.wait(left)
            self._in_flight.collect()

    # Errors of the driver

    def _note_error(self, error: KafkaError) -> None:
        self._telemetry.errors.inc()
        if error.fatal() or error.name() == "_FATAL":
            self._fatal = error
        cause = _UNREACHABLE if error.name() in _SIGNS else error.name()
        self._outages.note_failure("Kafka is tried again, and cannot be read now: %s", error.str(), cause=cause)

    def _note_group(self) -> None:
        """Notes that the group's coordinator is there and knows this member."""
        self._outages.note_success("Kafka is back", causes=_DISPROVED)


def record_of(message: Message) -> Record:
    """The record in a message of the driver that is no error."""
    kind, milliseconds = message.timestamp()
    time_of = None if kind == TIMESTAMP_NOT_AVAILABLE else milliseconds / 1000
    place = cast("tuple[str, int, int]", (message.topic(), message.partition(), message.offset()))
    headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    return Record(*place, time_of, message.key(), headers, message.value())
