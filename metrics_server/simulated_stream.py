"""A stream of real predictions and their late labels: what a classifier says of rows it was not trained on, and what they are."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random, SystemRandom
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPResponse

from metrics_server.executor_event import (
    Message,
    Origin,
    Stamp,
    feedback_event,
    new_stamp,
    new_uuid,
    request_event,
    response_event,
)

DATASETS = ("digits", "wine", "iris", "breast_cancer")
TRAINING_SHARE = 0.1  # so little that the model is wrong now and then: right for 85 to 96 % of the held-out rows
OWN_RESPONSE_SHARE = 0.3  # of the feedback repeats the response it is about, as Seldon's documentation shows it
INDEX_SHARE = 0.5  # of the truths are the index of a class, the others one-hot
REPEATED_SHARE = 0.03  # of the feedback is delivered twice

IN_FLIGHT = 32
ANSWER_SECONDS = 10.0
RETRY_SECONDS = (0.5, 1.0, 2.0, 4.0)


class Failed(Exception):
    """The simulation cannot go on; the message says why and what to do."""


@dataclass(frozen=True)
class HeldOut:
    """The rows a model was not trained on, what it predicts for them, and their true classes."""

    features: list[str]
    classes: list[str]
    rows: list[list[float]]
    probabilities: list[list[float]]
    truths: list[int]


def held_out(dataset: str) -> HeldOut:
    """Trains a classifier on a part of a data set that scikit-learn brings along, and predicts the rest; the same every time."""
    try:
        from sklearn import datasets
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import train_test_split
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise Failed("the simulation needs scikit-learn: pip install scikit-learn (the extra demo)") from error
    bunch = getattr(datasets, f"load_{dataset}")()
    known, rows, labels, truths = train_test_split(
        bunch.data, bunch.target, train_size=TRAINING_SHARE, stratify=bunch.target, random_state=0
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(known, labels)
    features, classes = ([str(name) for name in names] for names in (bunch.feature_names, bunch.target_names))
    return HeldOut(features, classes, rows.tolist(), model.predict_proba(rows).tolist(), truths.tolist())


class Link:
    """HTTP to the server. What it cannot deliver it tries again, and says so once."""

    def __init__(self, url: str, say: Callable[[str], None]) -> None:
        self.url = url
        self._client = AsyncHTTPClient(force_instance=True, max_clients=IN_FLIGHT)
        self._say = say
        self._is_up = True
        self._refused: set[int] = set()

    async def post(self, message: Message) -> None:
        headers, body = message
        for attempt in range(sys.maxsize):
            answer = await self._fetch("/", method="POST", headers=headers, body=body)
            if answer is not None and answer.code != 503:
                break
            # Spread, so that everything that waited does not come back at once.
            await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)] * SystemRandom().uniform(0.5, 1.5))
        assert answer is not None
        if answer.code >= 300 and answer.code not in self._refused:
            self._refused.add(answer.code)
            self._say(f"{self.url} refused an event: HTTP {answer.code} {answer.body[:200].decode(errors='replace')}")

    async def page(self) -> str | None:
        answer = await self._fetch("/v1/metrics")
        return answer.body.decode() if answer is not None and answer.code == 200 else None

    async def is_ready(self) -> bool:
        """Asks without a word about a failure: a server that starts is not there yet."""
        try:
            return (await self._client.fetch(f"{self.url}/readyz", raise_error=False)).code == 200
        except (OSError, HTTPClientError):
            return False

    async def _fetch(self, path: str, **options: Any) -> HTTPResponse | None:
        try:
            answer = await self._client.fetch(self.url + path, raise_error=False, request_timeout=ANSWER_SECONDS, **options)
        except (OSError, HTTPClientError) as error:  # HTTPClientError: no answer in time, or half of one
            if self._is_up:
                reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
                self._say(f"Cannot reach {self.url} ({reason}); trying again until it answers.")
            self._is_up = False
            return None
        if not self._is_up:
            self._say(f"{self.url} answers again.")
        self._is_up = True
        return answer


@dataclass
class Stream:
    """Requests, responses and late feedback of one deployment."""

    link: Link
    origin: Origin
    held: HeldOut
    random: Random  # what is sent and when; --seed repeats it
    rate: float
    label_delay: float
    label_share: float
    ids: Random = field(default_factory=SystemRandom)  # never repeated, or a server that keeps its state counts a second run as repeats
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(IN_FLIGHT))

    async def run(self, count: int) -> None:
        """Sends `count` requests and what follows from them; without end for 0."""
        clock = asyncio.get_running_loop().time
        due, sent = clock(), 0
        async with asyncio.TaskGroup() as tasks:
            while not count or sent < count:
                await self.slots.acquire()  # a server that is away or slow stops the stream here
                tasks.create_task(self._one(self.random.randrange(len(self.held.rows)), Random(self.random.getrandbits(64))))  # noqa: S311 - a simulation
                sent += 1
                due = max(due, clock() - 1) + self.random.expovariate(self.rate)
                await asyncio.sleep(max(0.0, due - clock()))

    async def _one(self, index: int, random: Random) -> None:
        puid, held = new_uuid(self.ids), self.held
        try:
            await self.link.post(request_event(self.origin, self._stamp(), puid, held.features, [held.rows[index]]))
            await self.link.post(response_event(self.origin, self._stamp(), puid, held.classes, [held.probabilities[index]]))
        finally:
            self.slots.release()
        if random.random() < self.label_share:
            await asyncio.sleep(random.expovariate(1 / self.label_delay) if self.label_delay else 0)
            message = self._feedback(index, puid, random)
            for _ in range(1 + (random.random() < REPEATED_SHARE)):
                await self.link.post(message)

    def _feedback(self, index: int, puid: str, random: Random) -> Message:
        label, classes = self.held.truths[index], range(len(self.held.classes))
        truth = label if random.random() < INDEX_SHARE else [int(label == other) for other in classes]
        response = [self.held.probabilities[index]] if random.random() < OWN_RESPONSE_SHARE else None
        return feedback_event(self.origin, self._stamp(), puid, [truth], response)

    def _stamp(self) -> Stamp:
        return new_stamp(self.ids, time.time_ns())
