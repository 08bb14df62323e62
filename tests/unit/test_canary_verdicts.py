"""Verdicts from sums: who is compared with whom, since when, and what keeps a verdict back."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from metrics_server.api.schema import CanaryVerdict
from metrics_server.api.verdict import Decision, KeptVerdicts
from metrics_server.errors import BadRequest
from metrics_server.metrics.labels import EventKind
from metrics_server.metrics.window import DAY, HOUR, MINUTE
from tests.support.canary_deployment import LATER, SPLIT, Deployment
from tests.support.pairing_bench import CANARY, MAIN, NOW, Sent
from tests.support.waiting import until

THIRD = MAIN._replace(predictor="third")


def test_a_worse_canary_is_told_of() -> None:
    """It is worse when its interval, which holds at all looks, is below zero; the sign says so of the difference."""
    pets = Deployment()
    pets.send(MAIN, 300, 270, 300)
    pets.send(CANARY, 100, 60, 100)
    found = pets.one()
    assert (found.predictor, found.baseline, found.metric) == ("canary", "main", "model_accuracy_ratio")
    assert (found.verdict, found.since, found.candidates) == ("worse", SPLIT, 1)
    assert found.difference == pytest.approx(-0.3)
    assert found.lower < -0.3 < found.upper < 0
    assert [(arm.predictor, arm.value, arm.support) for arm in found.arms] == [
        ("canary", pytest.approx(0.6), 100.0),
        ("main", pytest.approx(0.9), 300.0),
    ]


def test_the_other_way_round_it_is_better() -> None:
    """Named as the baseline the canary is what the other is compared with."""
    pets = Deployment()
    pets.send(MAIN, 300, 270, 300)
    pets.send(CANARY, 100, 60, 100)
    found = pets.one("canary")
    assert (found.predictor, found.baseline, found.verdict) == ("main", "canary", "better")
    pets.declared = "canary"
    assert pets.one().predictor == "main"


def test_a_margin_is_what_does_not_matter() -> None:
    """Declared, or asked for: within it two are equivalent, and a difference below it decides nothing."""
    pets = Deployment(decision=Decision(margin=0.1))
    pets.send(MAIN, 4000, 3600, 4000)
    pets.send(CANARY, 4000, 3500, 4000)
    assert (pets.one().verdict, pets.one().margin) == ("equivalent", 0.1)
    assert pets.one(margin=0.02).verdict == "undecided"
    assert pets.one(margin=0.0).verdict == "undecided"


def test_what_came_before_both_were_there_does_not_count() -> None:
    """The baseline has labels of weeks; those since the canary began decide, of both."""
    pets = Deployment()
    pets.send(MAIN, 1000, 0, 1000, at=NOW - DAY)
    pets.send(MAIN, 300, 270, 300)
    pets.send(CANARY, 300, 270, 300)
    assert [(arm.value, arm.support) for arm in pets.one().arms] == [(pytest.approx(0.9), 300.0)] * 2


def test_since_a_time_that_is_asked_for() -> None:
    """Only buckets that begin at that time or later count, and the answer says which was the first."""
    pets = Deployment()
    pets.send(MAIN, 100, 0, 100)
    pets.send(CANARY, 100, 0, 100)
    for labels in MAIN, CANARY:
        pets.send(labels, 50, 50, 50, at=SPLIT + HOUR)
    found = pets.one(since=SPLIT + HOUR - 59.5)
    assert found.since == SPLIT + HOUR
    assert [(arm.value, arm.support) for arm in found.arms] == [(1.0, 50.0)] * 2


def test_canaries_share_the_errors() -> None:
    """With two candidates each interval is wider than of one alone."""
    alone, two = Deployment(), Deployment(MAIN, CANARY, THIRD)
    for pets in alone, two:
        pets.send(MAIN, 300, 270, 300)
        pets.send(CANARY, 100, 60, 100)
    (found, other) = two.judged()
    assert (found.candidates, other.verdict) == (2, "undecided")
    assert found.lower < alone.one().lower


def test_missing_labels_keep_a_verdict_back() -> None:
    """Half of the canary's labels are missing where the baseline has all: that alone could make it look worse."""
    pets = Deployment()
    pets.send(MAIN, 400, 360, 400)
    pets.send(CANARY, 400, 120, 200)
    found = pets.one()
    assert (found.verdict, found.arms[0].predictions, found.arms[0].labelled) == ("incomparable", 401.0, 200.0)
    assert found.upper < 0
    pets.send(CANARY, 200, 0, 200)  # whatever the missing ones are now, it is worse
    assert pets.one().verdict == "worse"


def test_labels_that_are_not_due_yet_are_not_missing() -> None:
    """Rows of the last hour have no label yet, and most are the canary's: the shares of older rows are compared."""
    pets = Deployment()
    pets.send(MAIN, 400, 360, 400)
    pets.send(CANARY, 100, 60, 100)
    pets.now = SPLIT + 2 * HOUR
    pets.send(CANARY, 900, at=pets.now - 1, now=pets.now)
    found = pets.one()
    assert (found.verdict, found.arms[0].predictions, found.arms[0].labelled) == ("worse", 101.0, 100.0)


def test_the_split_of_traffic_is_checked() -> None:
    """Requests that one arm has lost, or got too many of, show against the declared shares."""
    pets = Deployment(decision=Decision(traffic={"main": 75, "canary": 25}))
    pets.send(MAIN, 3000)
    pets.send(CANARY, 1000)
    assert pets.one().traffic.declared == 0.25
    assert not pets.one().traffic.differs
    pets.send(CANARY, 600)
    assert pets.one().traffic.differs
    assert pets.one().traffic.observed == pytest.approx(1601 / 4602)


def test_why_there_is_no_verdict() -> None:
    """Each reason for `undecided` is told, and which metric can be asked for."""
    pets = Deployment()
    assert pets.one().detail.startswith("one of them has no labels yet")
    pets.send(MAIN, 10, 9, 10)
    pets.send(CANARY, 10, 9, 10)
    assert pets.one().detail.startswith("the interval of the difference reaches over the margin")
    assert pets.one(metric="model_f1_macro_ratio").detail.startswith("one of them has too few labels")
    with pytest.raises(BadRequest, match="metric: want one of model_accuracy_ratio, "):
        pets.one(metric="model_nonsense")
    pets.now = SPLIT + 40 * DAY
    assert pets.one().detail.startswith("it began longer ago than --history")


def test_a_verdict_survives_restart_and_time() -> None:
    """A day later, after roll-ups and a restart, the sums since the canary began are what they were."""
    pets = Deployment()
    pets.send(MAIN, 300, 270, 300, at=SPLIT - 31)
    pets.send(MAIN, 300, 270, 300)
    pets.send(CANARY, 100, 60, 100)
    before = pets.one()
    pets.now = SPLIT + 10 * DAY
    for widths in ((MINUTE, 15 * MINUTE), (15 * MINUTE, DAY)):
        while pets.bench.store.roll_up(*widths, int(pets.now - DAY), pets.bench.registry.splits()):
            pass
    pets.bench.restart()
    assert pets.one() == before


def test_models_that_began_before_splits_were_kept_are_compared_since_midnight() -> None:
    """A bucket of a day that is not split begins there."""
    pets = Deployment()
    for series in pets.bench.registry.current():
        series.parameters.pop("split_at", None)
    assert pets.one().since == NOW - NOW % DAY


def test_a_past_that_is_replayed_begins_where_its_buckets_do() -> None:
    """A canary whose first event is half a day old begins with its quarter of an hour: no bucket is finer."""
    pets = Deployment(MAIN)
    pets.send(MAIN, 300, 270, 300, at=NOW - 12 * HOUR, now=NOW)
    pets.send(CANARY, 300, 270, 300, at=NOW - 12 * HOUR, now=NOW)
    assert pets.one().since == NOW - 12 * HOUR - NOW % (15 * MINUTE)
    assert [arm.support for arm in pets.one().arms] == [300.0, 300.0]


def test_a_crowd_of_predictors_splits_a_day_only_so_often() -> None:
    """Of many predictors a day the first eight split buckets; later ones since midnight."""
    pets = Deployment(MAIN)
    for number in range(12):
        labels = MAIN._replace(predictor=f"p{number:02}")
        pets.send(labels, 1, at=NOW + number * MINUTE, now=NOW + number * MINUTE)
    splits = [series.split_at is not None for series in pets.bench.registry.current() if series.labels != MAIN]
    assert splits == [True] * 8 + [False] * 4
    assert len(set(pets.bench.registry.splits().values())) == 1


def test_a_shadow_is_judged_by_the_rows_that_one_alone_got_right() -> None:
    """Both answer the same rows, so few that differ decide; a correction of a truth changes exactly its row."""
    pets = Deployment()
    at, events = SPLIT + MINUTE, []
    for row in range(400):
        name = f"shared {row}"
        said = (
            1 if row < 30 else 0 if row < 34 else 2
        )  # the canary is right in 30 rows, the baseline in 4, in others both
        events += [
            Sent(EventKind.RESPONSE, f"m{name}", at, name, MAIN, ("", ""), (2 if said == 2 else 1 - said,)),
            Sent(EventKind.RESPONSE, f"c{name}", at + 1, name, CANARY, ("", ""), (said,)),
            Sent(EventKind.FEEDBACK, f"t{name}", at + 2, name, MAIN, MAIN[:2], truth=(2 if said == 2 else 1,)),
        ]
    pets.bench.send(*events, now=LATER)
    found = pets.one()
    assert (found.paired.both, found.paired.won, found.paired.lost) == (400.0, 30.0, 4.0)
    assert (found.verdict, found.metric) == ("better", "model_accuracy_ratio")
    corrected = [
        Sent(EventKind.FEEDBACK, f"n{row}", LATER, f"shared {row}", MAIN, MAIN[:2], truth=(0,)) for row in range(28)
    ]
    pets.bench.send(*corrected, now=LATER)
    found = pets.one()
    assert (found.paired.won, found.paired.lost, found.verdict) == (2.0, 32.0, "worse")
    assert pets.one("canary").verdict == "better"


def test_scrapes_share_a_verdict_for_a_while() -> None:
    """A scrape computes none that is younger than fifteen seconds."""
    pets = Deployment()
    pets.send(MAIN, 300, 270, 300)
    pets.send(CANARY, 100, 60, 100)
    clock = [0.0]
    kept = KeptVerdicts(pets.verdicts, lambda: clock[0], patience=60)
    ((labels, first),) = kept.current()
    assert (labels, first.verdict) == (CANARY, "worse")
    pets.send(CANARY, 2000, 2000, 2000)
    assert kept.current() == [(labels, first)]
    clock[0] = 15.0
    ((_, second),) = kept.current()
    assert second.verdict == "better"
    assert json.dumps(second.lower)


def test_a_store_that_hangs_holds_up_no_scrape() -> None:
    """While verdicts are being read, scrapes show those that are kept, and only the first waits a moment for newer."""
    pets = Deployment()
    pets.send(MAIN, 300, 270, 300)
    pets.send(CANARY, 100, 60, 100)
    clock, answers, verdicts = [0.0], threading.Event(), pets.verdicts
    answers.set()
    answer = verdicts.verdict

    def slowly(*question: Any) -> CanaryVerdict:
        assert answers.wait(60)
        return answer(*question)

    verdicts.verdict = slowly  # type: ignore[method-assign]
    kept = KeptVerdicts(verdicts, lambda: clock[0], patience=0.05)
    assert until(kept.current, 60, "no verdict")
    pets.send(CANARY, 2000, 2000, 2000)
    answers.clear()
    clock[0] = 15.0
    assert [one.verdict for _, one in kept.current()] == ["worse"]
    assert [one.verdict for _, one in kept.current()] == ["worse"]
    answers.set()
    until(lambda: [one.verdict for _, one in kept.current()] == ["better"], 60, "the newer one is not shown")
