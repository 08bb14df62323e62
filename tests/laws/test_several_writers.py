"""What one writer may take for granted and several may not, each by itself: two servers, one database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from metrics_server.errors import Rejected
from metrics_server.metrics.components import PAIRS
from metrics_server.metrics.labels import EventKind
from metrics_server.metrics.window import DAY, HOUR, MINUTE, Bucket
from metrics_server.pairing.maintenance import Maintenance
from metrics_server.pairing.usage import UsageLimits
from metrics_server.store.interface import Change, Write
from metrics_server.telemetry import Telemetry
from tests.support.pairing_bench import CANARY, MAIN, NOW
from tests.support.pairing_machine import Sent
from tests.support.postgres import shared_postgres
from tests.support.shared_bench import SharedBench

Two = tuple[SharedBench, SharedBench]


@pytest.fixture
def two() -> Iterator[Two]:
    url = shared_postgres().fresh()
    benches = SharedBench(url), SharedBench(url)
    yield benches
    for bench in benches:
        bench.store.close()


def pair(name: str, truth: int = 1, at: float = NOW - 60, **more: Any) -> Sent:
    """A prediction of 1 and its truth in one event."""
    return Sent(EventKind.FEEDBACK, f"event {name}", at, f"request {name}", response=(1,), truth=(truth,), **more)


def pairs_in(bench: SharedBench, window: str = "1h", labels: Any = MAIN) -> float:
    series = bench.registry.find(labels)
    return 0.0 if series is None else bench.totals.series_totals(series.id).windows[window].get(PAIRS, 0.0)


def test_a_window_loses_what_all_have_put_into_it(two: Two) -> None:
    """A server that has not yet heard of the pairs of another takes none out that it never had."""
    first, second = two
    first.send(pair("a", at=NOW - 50 * MINUTE))
    for number in range(5):
        second.send(pair(f"b{number}", at=NOW - 50 * MINUTE))
    first.view.slide(NOW + 30 * MINUTE)
    assert pairs_in(first) == 0.0
    first.send(pair("c", at=NOW), now=NOW + 30 * MINUTE)
    assert pairs_in(first) == 1.0


def test_a_series_that_two_have_made_was_made_once(two: Two) -> None:
    """Both see its first event at once; a retraction by either takes back what the other has counted."""
    first, second = two
    observations = [first.observation(pair("a"), NOW)], [second.observation(pair("b"), NOW + 5)]
    (_, mine), (_, others) = first.taken(observations[0], NOW), second.taken(observations[1], NOW + 5)
    assert first.commit(mine)
    assert not second.commit(others, NOW + 5)
    second.committed(observations[1], NOW + 5)
    second.send(Sent(EventKind.FEEDBACK, "taken back", NOW, "request a", truth=(None,)))
    first.view.catch_up(NOW)
    assert (pairs_in(first), pairs_in(second)) == (1.0, 1.0)
    created = {bench.registry.find(MAIN).created_at for bench in two}  # type: ignore[union-attr]
    assert created == {NOW}


def test_a_version_is_never_given_again(two: Two) -> None:
    """What was computed from a record is not written over another one that has been made in its place."""
    first, second = two
    record = Change(records={b"key": Write(0, b"old", NOW)})
    assert first.store.commit(record)
    version = first.store.load([b"key"])[b"key"].version
    assert second.store.commit(Change(deletes={b"key": version}))
    assert second.store.commit(Change(records={b"key": Write(0, b"new", NOW)}))
    assert not first.store.commit(Change(records={b"key": Write(version, b"from old", NOW)}))
    assert first.store.load([b"key"])[b"key"].value == b"new"


def test_nothing_is_added_to_a_series_that_was_deleted(two: Two) -> None:
    """A batch that was computed before the deletion is refused; the series it makes then is a new one."""
    first, second = two
    first.send(pair("a"))
    second.view.catch_up(NOW)
    observations = [second.observation(pair("b"), NOW + 60)]
    outcomes, change = second.taken(observations, NOW + 60)
    series = first.registry.find(MAIN)
    assert series is not None
    assert first.store.forget_series(series.id)
    assert not second.commit(change, NOW + 60)
    assert second.store.totals(0).get(series.id, {}) == {}
    second.committed(observations, NOW + 60)
    first.view.catch_up(NOW)
    assert (pairs_in(first), pairs_in(second)) == (1.0, 1.0)
    assert first.registry.find(MAIN).created_at == NOW + 60  # type: ignore[union-attr]


def test_a_series_that_another_uses_is_not_idle(two: Two) -> None:
    """A server that has not seen it used for long asks the store; there all uses are."""
    first, second = two
    first.send(pair("a"))
    second.send(pair("b", at=NOW + 9 * DAY), now=NOW + 9 * DAY)
    (idle,) = first.registry.idle(NOW + 8 * DAY)
    assert not first.store.forget_series(idle, NOW + 8 * DAY)
    assert first.store.forget_series(idle, NOW + 10 * DAY)


def test_a_clock_that_is_ahead_takes_nothing_from_the_windows_of_others(two: Two) -> None:
    """A quarter of an hour early, the edge of another's window of six hours still lies among minutes."""
    first, second = two
    at = NOW - 6 * HOUR + 90
    for number in range(3):
        first.send(pair(f"a{number}", at=at))
    second.view.catch_up(NOW)
    ahead = NOW + 15 * MINUTE
    times = {"history": 400 * DAY, "retention": 35 * DAY, "series_retention": 400 * DAY}
    upkeep = Maintenance(second.store, second.registry, second.totals, Telemetry(), UsageLimits(), **times)  # type: ignore[arg-type]
    upkeep.run_due(ahead)
    while upkeep.is_busy:
        upkeep.run_due(ahead)
    first.view.slide(NOW + MINUTE)
    series = first.registry.find(MAIN)
    assert series is not None
    assert pairs_in(first, "6h") == 3.0
    assert all(bucket.width == MINUTE for bucket in first.store.history(series.id, 0))
    first.view.slide(NOW + 11 * MINUTE)
    assert pairs_in(first, "6h") == 0.0


def test_limits_count_what_all_have_made(two: Two) -> None:
    """The last place for a series is given once, however many ask for it at the same time."""
    first, second = two
    for bench in two:
        bench.registry._max_series = 1
    observations = [second.observation(pair("b", labels=CANARY), NOW)]
    _, change = second.taken(observations)
    first.send(pair("a"))
    assert not second.commit(change)
    (outcome,) = second.committed(observations)
    assert isinstance(outcome, Rejected)
    assert len(second.registry) == 1


def test_a_conflict_does_not_have_everything_read_anew(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what others have added since; reading all sums takes seconds where there are many."""
    first, second = two
    first.send(pair("a"))
    second.view.catch_up(NOW)
    observations = [second.observation(pair("a", truth=0), NOW)]
    _, change = second.taken(observations)
    first.send(Sent(EventKind.FEEDBACK, "corrected", NOW, "request a", truth=(2,)))
    monkeypatch.setattr(second.store, "totals", None)
    assert not second.store.commit(change)
    second.view.catch_up(NOW)
    assert pairs_in(second) == 1.0


def test_sums_that_nobody_has_folded_are_in_all_that_is_read(two: Two) -> None:
    """Totals, histories and steps are the same before sums are added up and after."""
    first, second = two
    first.send(pair("a"), pair("b", truth=0))
    series = first.registry.find(MAIN)
    assert series is not None

    def read() -> Any:
        bucket = Bucket(MINUTE, int(NOW - 60) // 60 * 60)
        steps = [step.sums for step in second.store.steps(series.id, 0, int(NOW) + 60, MINUTE)]
        return second.store.totals(0), second.store.history(series.id, 0)[bucket], steps

    before = read()
    with psycopg.connect(first.store._url) as connection:
        assert connection.execute("SELECT count(*) FROM unfolded").fetchone() == (1,)
        connection.execute("SELECT tidy(100)")
        assert connection.execute("SELECT count(*) FROM unfolded").fetchone() == (0,)
    assert read() == before
