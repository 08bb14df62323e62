"""What is kept is forgotten in time, and what cannot be kept fails alone."""

from __future__ import annotations

import queue
from typing import Any

from metrics_server.errors import Unavailable
from metrics_server.ingest.normalize import observation_of
from metrics_server.metrics.window import DAY
from metrics_server.pairing.maintenance import Maintenance
from metrics_server.pairing.observation import digest_of, row_key
from metrics_server.pairing.usage import RECORDS, UsageLimits
from metrics_server.pairing.writer import Submission, Writer
from metrics_server.series.series import Labels
from metrics_server.series.totals import Totals
from metrics_server.store.interface import Change, Write
from metrics_server.telemetry import Telemetry
from tests.support.pairing_bench import KEEPING, MAIN, NOW, NOWHERE, Bench, Sent


def _upkeep(
    bench: Bench, totals: Totals, *, series_retention: int = 400 * DAY, limits: UsageLimits | None = None
) -> Maintenance:
    kept = {"history": KEEPING.history, "retention": KEEPING.retention, "series_retention": series_retention}
    return Maintenance(bench.store, bench.registry, totals, Telemetry(), limits or UsageLimits(), **kept)


def test_a_series_that_is_idle_leaves_with_its_sums() -> None:
    """After --series_retention without events a series is gone from store and page; the next event starts it anew."""
    bench = Bench()
    bench.send(Sent("feedback", "1", NOW, "r", MAIN, ("", ""), (1,), (1,)))
    totals = Totals({"1h": 3600})
    totals.rebuild(bench.store, NOW)
    upkeep = _upkeep(bench, totals, series_retention=30 * DAY)
    upkeep.run_due(NOW + 29 * DAY)
    assert [series.labels for series in bench.registry.current()] == [MAIN]
    upkeep.run_due(NOW + 31 * DAY)
    assert bench.registry.current() == []
    assert bench.store.series() == []
    assert bench.store.totals(0) == {}


def test_one_series_too_many_is_refused_and_leaves_no_trace() -> None:
    """An event that would make one more than --max_series is refused; its key is not burnt, and nothing has moved."""
    bench = Bench()
    bench.registry = type(bench.registry)(lambda labels: bench.scoring, bench.registry._build, 1)
    one = Sent("feedback", "1", NOW, "r", MAIN, ("", ""), (1,), (1,))
    other = one._replace(id="2", request="q", labels=Labels("lab", "iris", "main", "m"))
    first, second = bench.send(one, other)
    assert (first, second.reason.label) == ("accepted", "too_many_series")
    assert len(bench.registry) == 1
    assert bench.send(other)[0].status == 422
    bench.registry._max_series = 2
    assert bench.send(other) == ["accepted"]


def test_expired_halves_and_keys_are_forgotten() -> None:
    """After the retention a prediction is gone, and the numbers stay."""
    bench = Bench()
    bench.send(
        Sent("feedback", "1", NOW, "r", MAIN, ("", ""), (1,), (1,)),
        Sent("feedback", "2", NOW, "", MAIN, ("", ""), (1,), (1,)),
    )
    totals = Totals({"1h": 3600})
    upkeep = _upkeep(bench, totals, series_retention=400 * DAY)
    before = bench.net()
    upkeep.run_due(NOW + DAY + 2)
    assert len(bench.store._records) == 1
    upkeep.run_due(NOW + 36 * DAY)
    assert not bench.store._records
    assert bench.net() == before


def test_a_record_that_cannot_be_read_holds_nothing_up() -> None:
    """It leaves when its time has come, like the others; upkeep goes on."""
    bench = Bench()
    bench.store.commit(Change({b"x" * 20: Write(0, b"\xc1", NOW - 9, RECORDS)}))
    bench.send(Sent("feedback", "1", NOW, "r", MAIN, ("", ""), (1,), (1,)))
    totals = Totals({"1h": 3600})
    totals.rebuild(bench.store, NOW)
    _upkeep(bench, totals).run_due(NOW + 36 * DAY)
    assert not bench.store._records
    assert totals.series_totals(bench.registry.current()[0].id).windows["1h"] == {}


def test_a_group_larger_than_a_sweep_does_not_outgrow_the_limit() -> None:
    """However many rows an event brings, what is kept is back at --max_pending after the next look."""
    bench = Bench()
    totals = Totals({"1h": 3600})
    upkeep = _upkeep(bench, totals, limits=UsageLimits(records=100))
    for number in range(2):
        bench.send(
            Sent("response", f"{number}", NOW + number, f"r{number}", MAIN, ("", ""), (1,) * 12_000), now=NOW + number
        )
        totals.rebuild(bench.store, NOW + number)
        upkeep.run_due(NOW + number)
        assert len(bench.store._records) == 100


def test_an_event_that_cannot_be_applied_fails_alone() -> None:
    """When a group meets a fault of ours, the events that have nothing to do with it are applied all the same."""
    bench = Bench()
    bench.store.commit(Change({row_key(digest_of("bad"), 0): Write(0, b"\xc1", NOW + DAY, RECORDS)}))
    answered: queue.Queue[list[Any]] = queue.Queue()
    totals = Totals({"1h": 3600})
    writer = Writer(
        bench.store,
        bench.registry,
        totals,
        Telemetry(),
        KEEPING,
        max_queue=100,
        series_retention=400 * DAY,
        limits=UsageLimits(),
        deliver_results=lambda done: [told(outcomes) for told, outcomes in done],
        clock=lambda: NOW,
    )
    writer.start()
    events = [
        Sent("feedback", str(n), NOW, "bad" if n == 5 else f"r{n}", MAIN, ("", ""), (1,), (1,)).event()
        for n in range(9)
    ]
    writer.submit(Submission([observation_of(event, NOWHERE, NOW) for event in events], answered.put))
    outcomes = answered.get(timeout=20)
    assert [outcome for outcome in outcomes if outcome != "accepted"] == [outcomes[5]]
    assert isinstance(outcomes[5], Unavailable)
    assert bench.net()[MAIN]["pairs"] == 8
    assert writer.stop(10)
