"""Real server processes that are killed, locked out, flooded and stopped: nothing is lost, nothing counts twice."""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from metrics_server.__main__ import SWITCH_SECONDS
from metrics_server.api.exposition import AncestorLabels, Exposition
from metrics_server.metrics.model import load
from metrics_server.series.evaluator import Evaluator
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.series import Scoring
from metrics_server.series.totals import Totals
from metrics_server.store.sqlite.store import BUSY_SECONDS
from metrics_server.telemetry import Telemetry
from tests.support.live_server import (
    LiveServer,
    Page,
    Request,
    ce_time,
    event,
    feedback,
    live_server,
    logged,
    send,
    truth_only,
)
from tests.support.locks import locked
from tests.support.waiting import until

CLASSES = ("cat", "dog", "owl")
MINUTE, HOUR, DAY = 60, 3600, 86400


def assert_all_answers_counted(page: Page) -> None:
    """The invariant of every scrape: received = accepted + duplicate + ignored + rejected + unavailable."""
    received, outcomes = (
        page.by("metrics_server_received_total", "type"),
        page.by("metrics_server_events_total", "type"),
    )
    assert received == outcomes
    assert {key for (key,) in page.by("metrics_server_events_total", "outcome")} == {
        "accepted",
        "duplicate",
        "erased",
        "ignored",
        "rejected",
        "unavailable",
    }


# kill -9


@dataclass
class Expected:
    """What a set of events says, whatever happened on its way."""

    labels: Counter[str] = field(default_factory=Counter)
    confusion: Counter[tuple[str, str]] = field(default_factory=Counter)
    retracted: Counter[tuple[str, str]] = field(default_factory=Counter)
    predictions: int = 0

    def pair(self, truth: str, prediction: str) -> None:
        self.labels["matched"] += 1
        self.confusion[truth, prediction] += 1


class Stories:
    """Short histories of one prediction each, at random: the events in their order, and what they come to."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._lock = threading.Lock()
        self._count = 0
        self._started_at = time.time()
        self.expected = Expected()

    def next(self) -> list[Request]:
        with self._lock:
            self._count += 1
            chance = self._chance
            truth, prediction, other = (chance.choice(CLASSES) for _ in range(3))
            at = self._started_at - chance.uniform(2 * MINUTE, 12 * HOUR)
            tell = chance.choices(
                [self._plain, self._without_request, self._corrected, self._logged, self._joined, self._batch],
                [5, 3, 3, 2, 3, 1],
            )[0]
            return tell(f"{self._count}", at, truth, prediction, other)

    def _plain(self, name: str, at: float, truth: str, prediction: str, other: str) -> list[Request]:
        self.expected.pair(truth, prediction)
        return [feedback(f"f{name}", truth, prediction, request_id=name, at=at)]

    def _without_request(self, name: str, at: float, truth: str, prediction: str, other: str) -> list[Request]:
        self.expected.pair(truth, prediction)
        return [feedback(f"f{name}", truth, prediction, at=at)]

    def _corrected(self, name: str, at: float, truth: str, prediction: str, other: str) -> list[Request]:
        if truth != other:
            self.expected.labels["corrected"] += 1
            self.expected.confusion[other, prediction] += 1
            self.expected.retracted[truth, prediction] += 1
        return [
            *self._plain(name, at, truth, prediction, other),
            truth_only(f"c{name}", other, request_id=name, at=at + 1),
        ]

    def _logged(self, name: str, at: float, truth: str, prediction: str, other: str) -> list[Request]:
        self.expected.predictions += 1
        return [logged(f"r{name}", prediction, request_id=name, at=at)]

    def _joined(self, name: str, at: float, truth: str, prediction: str, other: str) -> list[Request]:
        self.expected.pair(truth, prediction)
        return [
            *self._logged(name, at, truth, prediction, other),
            truth_only(f"t{name}", truth, request_id=name, at=at + 1),
        ]

    def _batch(self, name: str, at: float, truth: str, prediction: str, other: str) -> list[Request]:
        events = []
        for number in range(20):
            single = feedback(
                f"f{name}-{number}", truth, prediction, request_id=f"{name}-{number}" if number % 2 else ""
            )
            attributes = {k.lower().removeprefix("ce-"): v for k, v in single.headers.items() if k.startswith("Ce-")}
            events.append({**attributes, "time": ce_time(at), "data": json.loads(single.body)})
            self.expected.pair(truth, prediction)
        return [Request({"Content-Type": "application/cloudevents-batch+json"}, json.dumps(events).encode())]


class Sender(threading.Thread):
    """Tells stories until told to stop: sends every event until it is answered 200, and some of the answered ones
    again."""

    def __init__(self, server: LiveServer, stories: Stories, seed: int, stop: threading.Event) -> None:
        super().__init__()
        self._server = server
        self._stories = stories
        self._chance = random.Random(seed)
        self._halt = stop
        self._connection: http.client.HTTPConnection | None = None
        self.answered: list[Request] = []
        self.unanswered = 0
        self.unexpected: list[int] = []
        self.finished = False

    def run(self) -> None:
        while not self._halt.is_set():
            for request in self._stories.next():
                self._deliver(request)
                self.answered.append(request)
            if self._chance.random() < 0.2:
                self._deliver(self._chance.choice(self.answered))
        self.again(0.3)
        self._drop()
        self.finished = True

    def again(self, share: float) -> None:
        """Sends a share of what was answered once more, in another order."""
        for request in self._chance.sample(self.answered, int(len(self.answered) * share)):
            self._deliver(request)

    def _deliver(self, request: Request) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            status = self._try(request)
            if status == 200:
                return
            if status is None:
                self.unanswered += 1
                time.sleep(0.01)
            elif status != 503:
                self.unexpected.append(status)
                return
        raise AssertionError("an event was not taken for 60 s")

    def _try(self, request: Request) -> int | None:
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=30)
            self._connection.request("POST", "/", request.body, dict(request.headers))
            reply = self._connection.getresponse()
            reply.read()
        except (OSError, http.client.HTTPException):
            self._drop()
            return None
        return reply.status

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


KILLS = 9
SENDERS = 8


@pytest.mark.long
def test_kill_minus_nine_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """However often the server is killed under load, what is sent until it is answered counts exactly once."""
    # Seen to fail in copies of the server that did not look whether an event had been seen (4374 matched instead of
    # 3690), that answered before the commit (6353 instead of 6356), and that committed records and sums apart (3490
    # instead of 3538).
    chance = random.Random(20260302)
    stop = threading.Event()
    stories = Stories(chance)
    with live_server(tmp_path, "--log_level", "WARNING") as server:
        senders = [Sender(server, stories, seed, stop) for seed in range(SENDERS)]
        for sender in senders:
            sender.start()
        try:
            for _ in range(KILLS):
                time.sleep(chance.uniform(0.05, 0.5))  # the moment of the kill is what is varied
                server.kill()
                server.start()
        finally:
            stop.set()
            for sender in senders:
                sender.join(60)
        assert all(sender.finished for sender in senders)
        assert [sender.unexpected for sender in senders] == [[]] * SENDERS
        assert sum(sender.unanswered for sender in senders) > KILLS, "the kills hit nothing"
        assert stories.expected.labels["matched"] > 500, "there was no load to speak of"
        _assert_shown(server.page(), stories.expected)
        server.kill()
        server.start()
        _assert_shown(server.page(), stories.expected)


def _assert_shown(page: Page, expected: Expected) -> None:
    assert page.value("model_labels_total", status="matched") == expected.labels["matched"]
    assert page.value("model_labels_total", status="corrected") == expected.labels["corrected"]
    assert page.value("model_support", window="1d") == expected.labels["matched"]
    assert page.by("model_confusion_total", "truth", "prediction") == expected.confusion
    retracted = page.by("model_confusion_retracted_total", "truth", "prediction")
    assert {cell: value for cell, value in retracted.items() if value} == expected.retracted
    assert page.value("model_predictions_total") == expected.predictions
    assert_all_answers_counted(page)


# Repeats


async def _status_of(port: int, request: Request, gate: asyncio.Event) -> int:
    """The status of one POST on its own connection, sent when the gate opens."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        headers = {**request.headers, "Host": "test", "Content-Length": str(len(request.body)), "Connection": "close"}
        await gate.wait()
        writer.write(
            ("POST / HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n").encode()
            + request.body
        )
        reply = await asyncio.wait_for(reader.read(), 30)
        return int(reply.split()[1])
    finally:
        writer.close()


async def _at_once(port: int, request: Request, count: int) -> Counter[int]:
    gate = asyncio.Event()
    sending = [asyncio.create_task(_status_of(port, request, gate)) for _ in range(count)]
    await asyncio.sleep(0)
    gate.set()
    return Counter(await asyncio.gather(*sending))


@pytest.mark.parametrize("request_id", ["one", ""], ids=["with a request id", "without"])
@pytest.mark.parametrize("store", ["sqlite", pytest.param("memory://", marks=pytest.mark.long)])
def test_a_storm_of_duplicates_counts_once(tmp_path: Path, store: str, request_id: str) -> None:
    """Five hundred copies of one event at the same time are all answered 200, and one of them counts."""
    with live_server(tmp_path, "--log_level", "WARNING", store="" if store == "sqlite" else store) as server:
        storm = feedback("one", "cat", "dog", request_id=request_id, at=time.time() - HOUR)
        assert asyncio.run(_at_once(server.port, storm, 500)) == {200: 500}
        page = server.page()
        assert page.by("model_confusion_total", "truth", "prediction") == {("cat", "dog"): 1.0}
        assert page.value("model_support", window="1d") == 1.0
        assert page.value("metrics_server_events_total", outcome="accepted") == 1.0
        assert page.value("metrics_server_events_total", outcome="duplicate") == 499.0
        assert_all_answers_counted(page)


# A database that is held by somebody else


def test_a_locked_database_is_waited_out(tmp_path: Path) -> None:
    """While the database is locked, events get 503 soon and the page stays; afterwards the same event is taken and
    counts once."""
    with live_server(tmp_path) as server:
        assert server.post(feedback("before", "cat", "cat", request_id="before")).status == 200
        kept = server.page().model_lines()
        held = feedback("held", "cat", "dog", request_id="held")
        with locked(server.database):
            started = time.monotonic()
            reply = server.post(held)
            assert time.monotonic() - started < BUSY_SECONDS + 10
            assert (reply.status, reply.headers.get("Retry-After")) == (503, "1")
            assert json.loads(reply.body)["error"]["reason"] == "unavailable"
            assert server.get("/healthz").status == 200
            page = server.page()
            assert page.model_lines() == kept
            assert page.value("metrics_server_events_total", outcome="unavailable") == 1.0
        until(lambda: server.post(held).status == 200, 30, "the event was not taken after the release")
        page = server.page()
        assert page.by("model_confusion_total", "truth", "prediction") == {("cat", "cat"): 1.0, ("cat", "dog"): 1.0}
        assert page.value("metrics_server_store_up") == 1.0
        assert server.get("/readyz").status == 200
        assert_all_answers_counted(page)


def test_a_server_is_not_ready_while_the_database_is_locked(tmp_path: Path) -> None:
    """Once an event has failed on a locked database, the server stays not ready until the lock is gone; then it is
    ready by itself."""
    with live_server(tmp_path) as server:
        with locked(server.database):
            assert server.post(feedback("held", "cat", "dog", request_id="held")).status == 503
            states = Counter[tuple[int, float]]()
            deadline = time.monotonic() + 4
            while time.monotonic() < deadline:
                states[server.get("/readyz").status, server.page().value("metrics_server_store_up")] += 1
                time.sleep(0.05)
            assert set(states) == {(503, 0.0)}, states
        until(lambda: server.get("/readyz").status == 200, 30, "the server did not get ready again")


def test_a_full_queue_turns_away_at_once(tmp_path: Path) -> None:
    """With a full queue events get 503 without waiting for the store, and can be sent again."""
    with live_server(tmp_path, "--max_queue_events", "1") as server:
        assert server.post(feedback("before", "cat", "cat", request_id="before")).status == 200
        events = [feedback(f"{number}", "cat", "dog", request_id=f"{number}") for number in range(20)]
        taken: list[tuple[float, int, bytes]] = []

        def post(request: Request) -> None:
            started = time.monotonic()
            reply = server.post(request)
            assert reply.headers.get("Retry-After") == "1"
            taken.append((time.monotonic() - started, reply.status, reply.body))

        with locked(server.database), ThreadPoolExecutor(len(events)) as pool:
            list(pool.map(post, events))
        assert {status for _, status, _ in taken} == {503}
        at_once = [body for seconds, _, body in taken if seconds < BUSY_SECONDS]
        assert len(at_once) >= len(events) - 4
        assert all(b"--max_queue_events" in body for body in at_once)
        for request in events:
            until(lambda request=request: server.post(request).status == 200, 30, "not taken after the release")
        page = server.page()
        assert page.value("model_confusion_total", prediction="dog") == len(events)
        assert_all_answers_counted(page)


# Stopping


def test_stopping_under_load(tmp_path: Path) -> None:
    """SIGTERM: not ready but serving for the shutdown delay, then no connections; exit 0 in time, and all that was
    answered 200 is kept."""
    with live_server(tmp_path, "--shutdown_delay", "2", "--drain_seconds", "10", "--log_level", "WARNING") as server:
        stop = threading.Event()
        answered: list[Request] = []
        after_term: list[float] = []
        statuses: Counter[object] = Counter()
        terminated_at = float("inf")

        def load(worker: int) -> None:
            number = 0
            while not stop.is_set():
                number += 1
                request = feedback(
                    f"{worker}/{number}", "cat", "dog", request_id=f"{worker}/{number}" if number % 2 else ""
                )
                try:
                    status: object = server.post(request).status
                except (OSError, http.client.HTTPException):
                    status = "refused"
                    time.sleep(0.01)
                statuses[status] += 1
                if status == 200:
                    answered.append(request)
                    if time.monotonic() > terminated_at:
                        after_term.append(time.monotonic() - terminated_at)

        workers = [threading.Thread(target=load, args=(worker,)) for worker in range(6)]
        for worker in workers:
            worker.start()
        try:
            until(lambda: len(answered) > 100, 20, "no load")
            terminated_at = time.monotonic()
            server.signal(signal.SIGTERM)
            until(lambda: server.get("/readyz").status == 503, 1.8, "still ready")
            page = server.page()
            assert server.wait(30) == 0
            stopped_after = time.monotonic() - terminated_at
        finally:
            stop.set()
            for worker in workers:
                worker.join(20)
        assert 1.9 < stopped_after < 2 + 10
        assert max(after_term) > 0.4, "events are taken during the shutdown delay"
        assert set(statuses) <= {200, 503, "refused"}
        assert statuses["refused"]
        assert_all_answers_counted(page)
        with pytest.raises(OSError):
            send(server.port, None, "/healthz")

        server.start()
        assert server.page().value("model_labels_total", status="matched") >= len(answered)
        before = server.page().model_lines()
        with ThreadPoolExecutor(8) as pool:
            assert {reply.status for reply in pool.map(server.post, answered)} == {200}
        page = server.page()
        assert page.value("metrics_server_events_total", outcome="duplicate") == len(answered), (
            "an answered event was not kept"
        )
        assert page.model_lines() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_idle(tmp_path: Path, number: signal.Signals) -> None:
    """A server without requests stops at once with status 0."""
    with live_server(tmp_path) as server:
        started = time.monotonic()
        server.signal(number)
        assert server.wait(30) == 0
        assert time.monotonic() - started < 10, "of 20 s to drain"


# Starting again


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_shows_the_same(tmp_path: Path, end: signal.Signals) -> None:
    """After a restart every sample about models is the same, in every window."""
    ages = {"m": 30 * MINUTE, "h": 12 * HOUR, "d": 3 * DAY + HOUR, "w": 20 * DAY, "q": 100 * DAY, "y": 500 * DAY}
    now = time.time()
    with live_server(tmp_path) as server:
        for name, age in ages.items():
            for number in range(4):
                truth, prediction = CLASSES[number % 3], CLASSES[(number + age) % 3]
                request_id = f"{name}{number}"
                story = [
                    logged(f"r{request_id}", prediction, request_id=request_id, at=now - age),
                    truth_only(f"t{request_id}", truth, request_id=request_id, at=now - age + 60),
                    feedback(f"f{request_id}", truth, "owl", request_id=f"other {request_id}", at=now - age),
                    truth_only(f"c{request_id}", "cat", request_id=f"other {request_id}", at=now - age + 60),
                    event(f"w{request_id}", {"reward": number / 4}, request_id=request_id, at=now - age),
                ]
                assert {server.post(request).status for request in story} == {200}
        before = server.page()
        assert before.value("model_labels_total", status="too_old") > 0
        assert [before.value("model_support", window=window) for window in ("1h", "1d", "7d", "30d")] == [
            8.0,
            16.0,
            24.0,
            32.0,
        ]
        server.signal(end)
        server.wait(30)
        server.start()
        assert server.page().model_lines() == before.model_lines()
        for name in ages:
            assert server.post(feedback(f"f{name}0", "cat", "owl", request_id=f"other {name}0")).status == 200
        page = server.page()
        assert page.model_lines() == before.model_lines()
        assert page.value("metrics_server_events_total", outcome="duplicate") == len(ages)


# The invariant of a scrape


def test_every_answer_is_counted(tmp_path: Path) -> None:
    """Whatever is sent, each event shows on the page under one outcome, and received is the sum of them."""
    with live_server(tmp_path) as server:
        other = event("o", {}, kind="com.example.other")
        good = feedback("f", "cat", "dog", request_id="f")
        batch = Request(
            {"Content-Type": "application/cloudevents-batch+json"},
            json.dumps(
                [{"specversion": "1.0", "id": "o", "source": "s", "type": "com.example.other"}, {"id": "broken"}, 5]
            ).encode(),
        )
        sent = [
            (good, 200),
            (good, 200),
            (other, 200),
            (event("m", {"truth": {}}), 422),
            (Request(good.headers, b"{"), 400),
            (Request({"Content-Type": "application/cloudevents+json"}, b"[]"), 400),
            (Request({**good.headers, "Ce-Specversion": "2.0"}, good.body), 400),
            (batch, 200),
            (logged("r", "cat", request_id="r"), 200),
            (
                event("q", {"data": {"ndarray": [[1.0]]}}, kind="io.seldon.serving.inference.request", request_id="r"),
                200,
            ),
        ]
        assert [server.post(request).status for request, _ in sent] == [status for _, status in sent]
        with locked(server.database):
            assert server.post(feedback("g", "cat", "dog", request_id="g")).status == 503
        page = server.page()
        assert_all_answers_counted(page)
        outcomes = page.by("metrics_server_events_total", "outcome")
        assert outcomes == {
            ("accepted",): 3.0,
            ("duplicate",): 1.0,
            ("erased",): 0.0,
            ("ignored",): 2.0,
            ("rejected",): 6.0,
            ("unavailable",): 1.0,
        }
        assert page.value("metrics_server_rejected_total") == 6.0


def test_the_invariant_holds_in_every_scrape() -> None:
    """A page rendered beside a running event loop, as scrapes are, shows as many events received as outcomes."""
    telemetry = Telemetry()
    registry = SeriesRegistry(lambda labels: Scoring(), lambda path, parameters: load(path, parameters), 10)
    exposition = Exposition(
        registry,
        Totals({}),
        telemetry,
        AncestorLabels("", "", "", ""),
        seldon_metrics=False,
        evaluator=Evaluator(100, 1),
    )
    interval = sys.getswitchinterval()
    stop = threading.Event()

    def answer() -> None:
        while not stop.is_set():
            telemetry.answered("feedback", "accepted")

    answering = threading.Thread(target=answer)
    sys.setswitchinterval(SWITCH_SECONDS)
    answering.start()
    try:
        for _ in range(200):
            assert_all_answers_counted(Page(exposition.render("")[0].decode()))
    finally:
        stop.set()
        answering.join(30)
        sys.setswitchinterval(interval)
