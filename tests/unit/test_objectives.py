"""Objectives: each hour enters the evidence once, when its labels have come, and nothing changes it afterwards."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest

from metrics_server.metrics.labels import EventKind
from metrics_server.metrics.sequential.detector import SPAN_HOURS, evidence_of, share_evidence
from metrics_server.metrics.window import DAY, HOUR, MINUTE, roll_ups
from metrics_server.pairing.objectives import EVIDENCE_QUEUE, KEPT_SECONDS, Objectives
from metrics_server.series.evaluator import Evaluator
from metrics_server.series.objective import Objective, ObjectiveState
from metrics_server.series.series import Scoring
from metrics_server.series.totals import Totals
from metrics_server.store.interface import Store
from tests.support.pairing_bench import MAIN, NOW, Bench, Sent

START = NOW - NOW % HOUR
ACCURACY = Objective("model_accuracy_ratio", 0.9, 0.1)


class Watch:
    """A series whose rows are labelled at once, and a writer that looks after its objective."""

    def __init__(self, objective: Objective = ACCURACY, scoring: Scoring | None = None) -> None:
        self.bench = Bench(scoring)
        self.objective = objective
        self._sent = 0
        self.send(START, 0, 1)
        self.restart()

    def restart(self) -> None:
        self.bench.restart()
        self.objectives = self.writer(self.bench.store)

    def writer(self, store: Store) -> Objectives:
        totals = Totals({"1h": HOUR})
        totals.rebuild(store, NOW)
        return Objectives(store, self.bench.registry, totals, Evaluator(10, 1), lambda labels: [self.objective])

    def send(self, at: float, wrong: int, rows: int, now: float | None = None) -> None:
        """Sends labelled rows, the first of them wrong."""
        events = []
        for row in range(rows):
            self._sent += 1
            name = str(self._sent)
            events += [
                Sent(EventKind.RESPONSE, f"p{name}", at, name, MAIN, ("", ""), (1,)),
                Sent(EventKind.FEEDBACK, f"t{name}", at, name, MAIN, MAIN[:2], truth=(0 if row < wrong else 1,)),
            ]
        self.bench.send(*events, now=at if now is None else now)

    def look(self, now: float, *, has_upkeep: bool = True) -> ObjectiveState:
        self.objectives.look(now, has_upkeep=has_upkeep)
        (state,) = self.objectives.states_of(self.series_id)
        return state

    @property
    def series_id(self) -> int:
        (series,) = self.bench.registry.current()
        return series.id


def evidence(*hours: tuple[int, int], level: float = 0.9, false_alarms: float = 0.1) -> float:
    """What the detector says of hours, each with its right ones and all."""
    log_e = np.array([share_evidence(right, rows, level) for right, rows in hours])
    return evidence_of(log_e, false_alarms).log_over_threshold


def test_an_hour_enters_once_when_it_is_over() -> None:
    """However often it is looked at, the evidence is that of the hours that are over, each once."""
    watch = Watch()
    assert watch.look(START + 1).evidence == -math.inf
    watch.send(START + MINUTE, 10, 19)
    for minute in range(2, 60):
        assert watch.look(START + minute * MINUTE).hours == 0
    watch.send(START + HOUR, 3, 20)
    for minute in range(62, 120):
        state = watch.look(START + minute * MINUTE)
        assert (state.hours, state.evidence) == (1, pytest.approx(evidence((10, 20))))
    assert watch.look(START + 2 * HOUR + 5 * MINUTE).evidence == pytest.approx(evidence((10, 20), (17, 20)))


def test_what_is_corrected_later_changes_no_evidence() -> None:
    """A frozen hour stays as it was, after corrections, late truths, roll-ups and restarts."""
    watch = Watch()
    watch.look(START)
    watch.send(START + MINUTE, 10, 19)
    before = watch.look(START + HOUR + 5 * MINUTE)
    watch.send(START + MINUTE, 50, 50, now=START + HOUR + 6 * MINUTE)
    for widths_and_mark in roll_ups(START + 9 * DAY):
        while watch.bench.store.roll_up(*widths_and_mark):
            pass
    watch.restart()
    assert watch.look(START + HOUR + 7 * MINUTE) == before


def test_a_fall_is_told_of_with_its_beginning() -> None:
    """After days at the objective a model falls: the alarm comes, and says since when."""
    watch = Watch()
    for hour in range(48):
        watch.send(START + hour * HOUR + 1, 2, 20)
        state = watch.look(START + hour * HOUR + 2)
        assert not state.is_missed
    fallen = START + 48 * HOUR
    hour = 48
    while not state.is_missed:
        watch.send(START + hour * HOUR + 1, 7, 20)
        hour += 1
        state = watch.look(START + hour * HOUR + 5 * MINUTE)
        assert hour < 100
    assert state.since is not None
    assert abs(state.since - fallen) <= 4 * HOUR


def test_an_error_has_its_objective_above() -> None:
    """Of a value of which less is better, such as a Brier score, the objective is what it is to be at most."""
    scoring = Scoring(storage_uri="cm_models.binary_metrics.BinaryMetrics")
    evidences = []
    for level in (0.05, 0.5):
        watch = Watch(Objective("model_brier_score", level, 0.1), scoring)
        for hour in range(3):
            watch.send(START + hour * HOUR + 1, 8, 20)
            state = watch.look(START + hour * HOUR + 2)
        evidences.append(state.evidence)
    assert evidences[0] > 0 > evidences[1]


def test_of_two_writers_one_takes_an_hour_in() -> None:
    """Both see the evidence that the first has frozen; the second adds nothing to it."""
    watch = Watch()
    other = watch.writer(watch.bench.store)
    watch.look(START)
    watch.send(START + MINUTE, 10, 19)
    state = watch.look(START + HOUR + 5 * MINUTE)
    other.look(START + HOUR + 6 * MINUTE, has_upkeep=False)
    assert other.states_of(watch.series_id) == [state]
    other.look(START + HOUR + 7 * MINUTE, has_upkeep=True)
    assert other.states_of(watch.series_id) == [state]
    assert len(watch.bench.store.scan(b"", 100_000)[0]) > 0


def test_hours_while_no_server_ran_enter_later() -> None:
    """After a night without a server the hours of the night enter at once; of those of a month nothing is said."""
    watch = Watch()
    watch.look(START)
    for hour in range(10):
        watch.send(START + hour * HOUR + 1, 6, 19)
    watch.restart()
    assert watch.look(START + 10 * HOUR + 5 * MINUTE).hours == 10
    state = watch.look(START + 40 * DAY)
    assert 10 + SPAN_HOURS - 3 < state.hours < 10 + SPAN_HOURS
    assert state.since is None or state.since > START + 30 * DAY


def test_an_objective_of_another_level_begins_anew() -> None:
    """Evidence is against one level; the accepted false alarms can change at any time."""
    watch = Watch()
    watch.look(START)
    watch.send(START + MINUTE, 10, 19)
    state = watch.look(START + HOUR + 5 * MINUTE)
    watch.objective = ACCURACY._replace(false_alarms_a_year=1.0)
    assert watch.look(START + HOUR + 5 * MINUTE).evidence == pytest.approx(state.evidence + 1)
    watch.objective = ACCURACY._replace(level=0.8)
    assert watch.look(START + HOUR + 5 * MINUTE).hours == 0


def test_what_cannot_be_watched_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Of a value without bounds, or that the metric model does not have, the log says once that it is not watched."""
    watch = Watch(Objective("model_matthews_correlation", 0.5, 0.1))
    with caplog.at_level(logging.WARNING):
        for hour in range(4):
            watch.send(START + hour * HOUR + 1, 1, 20)
            assert watch.look(START + hour * HOUR + 5 * MINUTE).hours == 0
    (message,) = [record.message for record in caplog.records]
    assert message.startswith(
        "The objective of model_matthews_correlation for shop/wine/main/classifier cannot be watched"
    )


def test_evidence_of_a_series_that_is_gone_leaves() -> None:
    """What nobody looks after any more is deleted some time after its last hour."""
    watch = Watch()
    watch.look(START)
    assert len(watch.bench.store.expired(math.inf, 10, EVIDENCE_QUEUE)) == 1
    watch.objective = ACCURACY._replace(level=0.8)
    watch.look(START + KEPT_SECONDS)
    assert list(watch.bench.store.expired(math.inf, 10, EVIDENCE_QUEUE)) == [watch.objective.key(watch.series_id)]
