"""The traffic of the simulated cluster: the hours before its start, told at once in batches, and then live calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count as numbers
from random import Random
from typing import NamedTuple

from metrics_server.commands.simulation.delivery import Copies, Delivery
from metrics_server.commands.simulation.executor import CallResponse, Executor
from metrics_server.commands.simulation.executor_event import Message
from metrics_server.commands.simulation.story import Story, Visit

VISITS_AN_HOUR = 900  # of the past: enough for narrow intervals, and told in seconds
LATENCY_SECONDS = 0.004  # mean
BATCH_EVENTS = 2000


class Due(NamedTuple):
    """A label that will be known at a time; sorted by that time, and else by number."""

    at: float
    number: int
    visit: Visit
    response: CallResponse


class PastTraffic:
    """The events that executors would have logged from `since` of each deployment until `until`; Unix seconds."""

    def __init__(self, story: Story, since: dict[str, float], until: float, copies: Copies, random: Random) -> None:
        self.due: list[Due] = []  # in the end: the labels that are not known yet
        self.seconds = until - min(since.values())
        self.share = 0.0  # of these seconds that is told
        self._story, self._since, self._until, self._random = story, since, until, random
        self._messages: list[Message] = []
        self._clock = 0.0
        self._executor = Executor(lambda message: self._messages.extend(copies.of(message)), self._tick, random)

    def batches(self) -> Iterator[list[Message]]:
        """Yields all events in the order of time."""
        order = numbers()
        for at in self._story.times(self._until - self.seconds, self._until, VISITS_AN_HOUR / 3600):
            yield from self._learn(at)
            visit = self._story.visit(at)
            if at < self._since[visit.deployment.path]:
                continue
            self._clock = at
            response = self._executor.predict(visit.deployment, visit.call)
            if visit.label_after is not None:
                heappush(self.due, Due(at + visit.label_after, next(order), visit, response))
            self.share = 1 - (self._until - at) / self.seconds
        yield from self._learn(self._until)
        yield self._messages

    def _learn(self, until: float) -> Iterator[list[Message]]:
        while self.due and self.due[0].at < until:
            at, _, visit, response = heappop(self.due)
            self._clock = at
            self._executor.feedback(visit.deployment, visit.feedback(response))
        if len(self._messages) >= BATCH_EVENTS:
            yield self._messages
            self._messages = []

    def _tick(self) -> int:
        self._clock += self._random.expovariate(1 / LATENCY_SECONDS)
        return int(self._clock * 1e9)


@dataclass
class Traffic:
    """Live calls, and feedback for them."""

    story: Story
    executor: Executor
    delivery: Delivery
    rate: float  # calls a second
    now: Callable[[], float] = field(default=time.time)

    async def run(self, count: int, due: list[Due]) -> None:
        """Makes `count` calls and their feedback, without end for 0; `due` are labels of the past.

        With a rate of 0 there are no calls, only those labels.
        """
        clock = asyncio.get_running_loop().time
        next_at, made = clock(), 0
        async with asyncio.TaskGroup() as tasks:
            for label in due:
                tasks.create_task(self._tell(label.visit, label.response, label.at - self.now()))
            while self.rate and (not count or made < count):
                await self.delivery.room()
                visit = self.story.visit(self.now())
                response = self.executor.predict(visit.deployment, visit.call)
                if visit.label_after is not None:
                    tasks.create_task(self._tell(visit, response, visit.label_after))
                made += 1
                next_at = max(next_at, clock() - 1) + self.story.random.expovariate(self.rate)
                await asyncio.sleep(max(0.0, next_at - clock()))

    async def _tell(self, visit: Visit, response: CallResponse, after: float) -> None:
        await asyncio.sleep(max(0.0, after))
        self.executor.feedback(visit.deployment, visit.feedback(response))
