"""Load for several servers on one store: stories whose end is known, sent in any order, doubled, to any server."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from tests.support.live_server import ce_time, message
from tests.support.running import FEEDBACK, RESPONSE

CLASSES = [f"class-{number:02}" for number in range(12)]
HOUR, DAY = 3600.0, 86400.0
PATIENCE_SECONDS = 120.0  # how long an event is sent again at most
TOKEN = "secret"  # sent always; servers that are given none do not ask
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}

Event = dict[str, Any]
Cell = tuple[str, str, str]  # deployment, truth, prediction


class Expected(NamedTuple):
    """What a set of stories comes to, told by their author: net cells, and rows of the request log."""

    cells: Counter[Cell]
    predictions: Counter[str]

    @property
    def pairs(self) -> Counter[str]:
        pairs: Counter[str] = Counter()
        for (deployment, _, _), count in self.cells.items():
            pairs[deployment] += count
        return pairs


class Stories:
    """Short histories of one prediction each, all of whose events have a time and an id of their own."""

    def __init__(self, seed: int, deployments: int = 4, prefix: str = "") -> None:
        self._chance = random.Random(seed)
        self._deployments = deployments
        self._prefix = prefix
        self._grows_every = 0
        self._now = time.time()
        self._count = 0
        self.expected = Expected(Counter(), Counter())

    def grow(self, every: int) -> None:
        """Lets there be another deployment after each so many stories, so that there is always something to claim."""
        self._grows_every = every

    def events(self, stories: int) -> list[Event]:
        """The events of the next stories, in the order in which they happened."""
        return [event for _ in range(stories) for event in self._next()]

    def _next(self) -> list[Event]:
        self._count += 1
        if self._grows_every and self._count % self._grows_every == 0:
            self._deployments += 1
        chance = self._chance
        story = _Story(
            f"{self._prefix}{self._count}",
            f"fraud-{chance.randrange(self._deployments)}",
            # within the window of 1h or only in that of 1d, and far from the edges of both
            self._now - chance.choice([chance.uniform(300, 2400), chance.uniform(2 * HOUR, 20 * HOUR)]),
        )
        first, second, prediction = (chance.choice(CLASSES) for _ in range(3))
        tell = chance.choice([_carried, _without_request, _joined, _by_puid, _corrected, _retracted, _open])
        events, stands = tell(story, first, second, prediction)
        if stands is not None:
            self.expected.cells[story.deployment, stands, prediction] += 1
        self.expected.predictions[story.deployment] += sum(event["type"] == RESPONSE for event in events)
        return events


class _Story(NamedTuple):
    name: str
    deployment: str
    at: float

    def event(self, kind: str, data: Event, after: int = 0, *, request_id: str | None = None) -> Event:
        request = self.name if request_id is None else request_id
        return {
            "specversion": "1.0",
            "id": f"{self.name}-{after}",
            "source": "test",
            "type": kind,
            "time": ce_time(self.at + after),
            "namespace": "shop",
            "inferenceservicename": self.deployment,
            "endpoint": "default",
            "modelid": "tree",
            **({"requestid": request} if request else {}),
            "data": data,
        }

    def logged(self, prediction: str, puid: str = "") -> Event:
        return self.event(RESPONSE, {**message(prediction), "meta": {"puid": puid}} if puid else message(prediction))

    def truth(self, truth: str | None, after: int) -> Event:
        return self.event(FEEDBACK, {"truth": message(truth)}, after)


Told = tuple[list[Event], str | None]


def _carried(story: _Story, truth: str, other: str, prediction: str) -> Told:
    return [story.event(FEEDBACK, {"response": message(prediction), "truth": message(truth)})], truth


def _without_request(story: _Story, truth: str, other: str, prediction: str) -> Told:
    data = {"response": message(prediction), "truth": message(truth)}
    return [story.event(FEEDBACK, data, request_id="")], truth


def _joined(story: _Story, truth: str, other: str, prediction: str) -> Told:
    return [story.logged(prediction), story.truth(truth, 1)], truth


def _by_puid(story: _Story, truth: str, other: str, prediction: str) -> Told:
    """The truth knows the prediction by the id in its body alone."""
    data = {"truth": {**message(truth), "meta": {"puid": f"puid-{story.name}"}}}
    return [
        story.logged(prediction, f"puid-{story.name}"),
        story.event(FEEDBACK, data, 1, request_id=""),
    ], truth


def _corrected(story: _Story, truth: str, other: str, prediction: str) -> Told:
    return [story.logged(prediction), story.truth(truth, 1), story.truth(other, 2)], other


def _retracted(story: _Story, truth: str, other: str, prediction: str) -> Told:
    return [story.logged(prediction), story.truth(truth, 1), story.truth(None, 2)], None


def _open(story: _Story, truth: str, other: str, prediction: str) -> Told:
    return [story.logged(prediction)], None


def batches_of(events: Sequence[Event], chance: random.Random, largest: int = 16) -> list[list[Event]]:
    """Cuts events into batches of any size up to the largest."""
    batches, start = [], 0
    while start < len(events):
        size = chance.randint(1, largest)
        batches.append(list(events[start : start + size]))
        start += size
    return batches


def doubled_and_shuffled(events: Sequence[Event], chance: random.Random) -> list[Event]:
    return chance.sample([*events, *events], 2 * len(events))


class Flow:
    """Batches of stories that are told on the way, until it is ended: half of the events twice, far from in order."""

    def __init__(self, stories: Stories, seed: int, largest: int = 16, waiting: int = 300) -> None:
        self._stories = stories
        self._chance = random.Random(seed)
        self._largest = largest
        self._least = waiting
        self._waiting: list[Event] = []
        self._lock = threading.Lock()
        self._is_over = False

    def __iter__(self) -> Iterator[list[Event]]:
        return self

    def __next__(self) -> list[Event]:
        with self._lock:
            if not self._is_over and len(self._waiting) < self._least:
                events = self._stories.events(20)
                self._waiting += [*events, *self._chance.sample(events, len(events) // 2)]
                self._chance.shuffle(self._waiting)
            batch = self._waiting[: self._chance.randint(1, self._largest)]
            del self._waiting[: len(batch)]
        if not batch:
            raise StopIteration
        return batch

    def end(self) -> None:
        """Lets it end with what waits."""
        with self._lock:
            self._is_over = True


class Sender(threading.Thread):
    """Sends batches, each until it is answered 200, to any of the ports that there are at the time."""

    def __init__(
        self, ports: Callable[[], Sequence[int]], batches: Iterable[list[Event]], seed: int, pause: float = 0.0
    ) -> None:
        super().__init__(daemon=True)
        self._ports = ports
        self._batches = batches
        self._chance = random.Random(seed)
        self._pause = pause
        self._connections: dict[int, http.client.HTTPConnection] = {}
        self.answers: Counter[int | None] = Counter()  # None: none came
        self.acknowledged = 0  # events
        self.without_retry_after = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            for batch in self._batches:
                self._deliver(batch)
                self.acknowledged += len(batch)
                if self._pause:
                    time.sleep(self._pause)
        except BaseException as error:  # noqa: BLE001 - told to who waits
            self.error = error
        finally:
            for port in list(self._connections):
                self._drop(port)

    def _deliver(self, batch: list[Event]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (status := self._try(batch)) != 200:
            assert status in (503, None), status
            assert time.monotonic() < deadline, f"not taken for {PATIENCE_SECONDS:.0f} s: {self.answers}"
            time.sleep(self._chance.uniform(0.01, 0.1))

    def _try(self, batch: list[Event]) -> int | None:
        port = self._chance.choice(self._ports())
        try:
            connection = self._connections.setdefault(port, http.client.HTTPConnection("127.0.0.1", port, timeout=40))
            headers = {"Content-Type": "application/cloudevents-batch+json", **AUTHORIZED}
            connection.request("POST", "/", json.dumps(batch).encode(), headers)
            reply = connection.getresponse()
            assert not (body := reply.read()) or reply.status != 200, body  # 200 with a list: some were refused
        except (OSError, http.client.HTTPException):
            self._drop(port)
            self.answers[None] += 1
            return None
        self.answers[reply.status] += 1
        self.without_retry_after += reply.status == 503 and not reply.headers.get("Retry-After")
        return reply.status

    def _drop(self, port: int) -> None:
        if connection := self._connections.pop(port, None):
            connection.close()


def sending(
    ports: Callable[[], Sequence[int]], batches: Sequence[list[Event]] | Flow, threads: int = 4, pause: float = 0.0
) -> list[Sender]:
    """Starts senders that share the batches."""
    shares = [batches if isinstance(batches, Flow) else batches[number::threads] for number in range(threads)]
    senders = [Sender(ports, share, number, pause) for number, share in enumerate(shares)]
    for sender in senders:
        sender.start()
    return senders


def finished(senders: Sequence[Sender], seconds: float = 120.0) -> Counter[int | None]:
    """Waits until all is acknowledged; returns how often each answer came, each 503 with Retry-After."""
    deadline = time.monotonic() + seconds
    for sender in senders:
        sender.join(max(0.0, deadline - time.monotonic()))
        assert not sender.is_alive(), f"still sending after {seconds:.0f} s: {sender.answers}"
        if sender.error is not None:
            raise sender.error
    assert not sum(sender.without_retry_after for sender in senders)
    return sum((sender.answers for sender in senders), Counter())
