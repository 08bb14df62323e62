"""The core of a server without sockets or threads, and events as a test of pairing writes them."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import msgspec

from metrics_server.ingest.cloudevent import Event
from metrics_server.ingest.normalize import observation_of
from metrics_server.metrics.labels import EventKind
from metrics_server.metrics.model import load
from metrics_server.metrics.sums import component
from metrics_server.metrics.window import CUMULATIVE, DAY, Bucket
from metrics_server.pairing.batch import Batch, Retention
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.series import Labels, Scoring
from metrics_server.store.memory import MemoryStore

NOW = 1_790_000_000.0
NOWHERE = Labels("", "", "", "")
KEEPING = Retention(history=400 * DAY, retention=35 * DAY, dedupe=DAY)


class Sent(NamedTuple):
    """One event as a test writes it."""

    kind: str
    id: str
    time: float
    request: str
    labels: Labels
    scope: tuple[str, str]
    response: tuple[int, ...] | None = None
    truth: tuple[int | None, ...] | None = None
    reward: float | None = None

    def event(self) -> Event:
        body: dict[str, Any] = {"ndarray": list(self.response or ())}
        if self.kind == EventKind.RESPONSE:
            data = msgspec.json.encode({"data": body})
        else:
            feedback: dict[str, Any] = {}
            if self.response is not None:
                feedback["response"] = {"data": body}
            if self.truth is not None:
                feedback["truth"] = {"data": {"ndarray": list(self.truth)}}
            if self.reward is not None:
                feedback["reward"] = self.reward
            data = msgspec.json.encode(feedback)
        names = ("namespace", "inferenceservicename", "endpoint", "modelid")
        stated = dict(zip(names, self.labels, strict=True))
        if self.kind == EventKind.FEEDBACK and self.response is None and self.reward is None:
            stated |= dict(zip(names[:2], self.scope, strict=True))
        attributes = {name: value for name, value in stated.items() if value}
        if self.request:
            attributes["requestid"] = self.request
        return Event(
            kind=self.kind, id=self.id, source="/test", type="t", time=self.time, attributes=attributes, data=data
        )


class Bench:
    """A server's core without sockets or threads, on a memory store."""

    def __init__(self, scoring: Scoring | None = None) -> None:
        self.store = MemoryStore()
        self.scoring = scoring or Scoring(storage_uri="cm_models.multiclass_numeric.MultiClassNumeric")
        self.restart()

    def restart(self) -> None:
        self.registry = SeriesRegistry(
            lambda labels: self.scoring, lambda path, parameters: load(path, parameters), 1000
        )
        self.registry.restore(self.store.series())

    def send(self, *sent: Sent, now: float = NOW) -> list[Any]:
        batch = Batch(self.store, self.registry, KEEPING, now)
        outcomes = batch.apply([observation_of(one.event(), NOWHERE, now) for one in sent])
        assert self.store.commit(batch.change())
        return outcomes

    def net(self) -> dict[Labels, Counter[str]]:
        """What stands, by series, over all time buckets; without what came to nothing."""
        totals = self.store.totals(0)
        result = {}
        for series in self.registry.current():
            counts = Counter({name: value for name, value in totals.get(series.id, {}).items() if value})
            if counts:
                result[series.labels] = counts
        return result

    def net_by_bucket(self) -> dict[tuple[Labels, Bucket], dict[str, float]]:
        """What stands, by series and bucket."""
        return {
            (series.labels, bucket): kept
            for series in self.registry.current()
            for bucket, sums in self.store.history(series.id, 0).items()
            if (kept := {name: value for name, value in sums.items() if value and not name.startswith("output")})
        }

    def ever(self, labels: Labels) -> dict[str, float]:
        series = next(series for series in self.registry.current() if series.labels == labels)
        return dict(self.store.cumulative(CUMULATIVE).get(series.id, {}))

    def statuses(self, labels: Labels) -> dict[str, float]:
        prefix = component("server/labels", "")
        return {
            name.removeprefix(prefix): value for name, value in self.ever(labels).items() if name.startswith(prefix)
        }


MAIN = Labels("shop", "wine", "main", "classifier")
CANARY = MAIN._replace(predictor="canary")
OTHER_NODE = MAIN._replace(model="transformer")
ELSEWHERE = Labels("lab", "wine", "main", "classifier")
