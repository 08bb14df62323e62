"""A deployment of predictors without a server, whose verdicts are read from the sums of what it was sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from metrics_server.api.schema import CanaryVerdict
from metrics_server.api.verdict import Decision, Question, Verdicts, candidates_of
from metrics_server.metrics.labels import EventKind
from metrics_server.metrics.window import DAY, HOUR, MINUTE
from metrics_server.series.evaluator import Evaluator
from metrics_server.series.series import Labels, Scoring
from metrics_server.series.totals import Totals
from tests.support.pairing_bench import CANARY, MAIN, NOW, Bench, Sent

SPLIT = NOW - NOW % MINUTE  # the canary comes within this minute
LATER = SPLIT + 2 * HOUR  # when labels of the first minutes are to be expected


class Deployment:
    """Predictors of one deployment, with rows sent as their traffic and labels are wanted."""

    def __init__(self, *predictors: Labels, scoring: Scoring | None = None, decision: Decision = Decision()) -> None:  # noqa: B008
        self.bench = Bench(scoring)
        self.now = float(LATER)
        self.declared: str | None = None
        self.decision = decision
        self._sent = 0
        for number, labels in enumerate(predictors or (MAIN, CANARY)):
            self.send(labels, 1, at=NOW + number * 1e-3, now=NOW + number * 1e-3)

    def send(
        self,
        labels: Labels,
        rows: int,
        right: int = 0,
        labelled: int = 0,
        *,
        at: float = SPLIT + MINUTE,
        now: float = LATER,
    ) -> None:
        """Sends rows, the first of them labelled, of which the first are right."""
        events = []
        for row in range(rows):
            self._sent += 1
            name = str(self._sent)
            events.append(Sent(EventKind.RESPONSE, f"p{name}", at, name, labels, ("", ""), (1,)))
            if row < labelled:
                truth = 1 if row < right else 0
                events.append(Sent(EventKind.FEEDBACK, f"t{name}", at, name, labels, labels[:2], truth=(truth,)))
        self.bench.send(*events, now=now)

    def send_answers(self, labels: Labels, answers: Iterable[Any], truths: Iterable[Any]) -> None:
        """Sends rows with what was answered and what is true."""
        at, events = SPLIT + MINUTE, []
        for answer, truth in zip(answers, truths, strict=True):
            self._sent += 1
            name = str(self._sent)
            events.append(Sent(EventKind.RESPONSE, f"p{name}", at, name, labels, ("", ""), (answer,)))
            events.append(Sent(EventKind.FEEDBACK, f"t{name}", at, name, labels, labels[:2], truth=(truth,)))
        self.bench.send(*events, now=LATER)

    @property
    def verdicts(self) -> Verdicts:
        totals = Totals({"1h": HOUR})
        totals.rebuild(self.bench.store, self.now)
        return Verdicts(
            self.bench.registry,
            totals,
            Evaluator(100, 1),
            self.bench.store,
            history=35 * DAY,
            declared_baseline=lambda labels: self.declared,
            decision_of=lambda labels: self.decision,
            clock=lambda: self.now,
        )

    def judged(self, baseline: str | None = None, **asked: Any) -> list[CanaryVerdict]:
        verdicts = self.verdicts
        pairs = verdicts.pairs(self.bench.registry.current(), baseline)
        counts = candidates_of(pairs)
        return [verdicts.verdict(pair, counts[pair.baseline.id], Question(**asked)) for pair in pairs]

    def one(self, baseline: str | None = None, **asked: Any) -> CanaryVerdict:
        (verdict,) = self.judged(baseline, **asked)
        return verdict
