"""How long rows wait is told to the second, and truths that wait in vain are counted, without a look at records."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from metrics_server.metrics.components import PENDING_SINCE
from metrics_server.metrics.window import HOUR, QUARTER
from metrics_server.pairing import usage
from metrics_server.pairing.usage import PendingSeconds
from metrics_server.store.memory import MemoryStore
from tests.support.pairing_bench import MAIN, NOW, Sent
from tests.support.writer_bench import WriterBench

START = NOW - NOW % QUARTER + 200  # well within a quarter of an hour


@pytest.fixture
def bench() -> Iterator[WriterBench]:
    bench = WriterBench(MemoryStore(), START)
    yield bench
    bench.stop()


def predicted(request: str, at: float) -> Sent:
    return Sent("response", f"p{request}", at, request, MAIN, ("", ""), (1,))


def labelled(request: str, at: float, deployment: str = "") -> Sent:
    scope = ("shop", deployment) if deployment else ("", "")
    return Sent("feedback", f"t{request}", at, request, MAIN, scope, truth=(1,))


def test_a_server_that_is_seconds_old_tells_ages_of_seconds(bench: WriterBench) -> None:
    """The age of the oldest row that waits is exact to a second, when it has met its truth that of the next, and 0 when
    none waits."""
    assert bench.reads("oldest_pending_seconds", 0)
    for second in (3, 7):
        bench.now = START + second
        bench.send(predicted(f"r{second}", bench.now))
    bench.now = START + 20
    assert bench.reads("oldest_pending_seconds", 17)
    bench.send(labelled("r3", bench.now))
    bench.now = START + 21
    assert bench.reads("oldest_pending_seconds", 14)
    bench.send(labelled("r7", bench.now))
    bench.now = START + 22
    assert bench.reads("oldest_pending_seconds", 0)


def test_ages_stay_exact_over_hours_and_leave_with_what_expires(bench: WriterBench) -> None:
    """A row that has waited for hours is as old as it is; once it has expired the next one is the oldest."""
    bench.now = START + 5
    bench.send(predicted("old", bench.now))
    bench.now = START + 5 * HOUR
    bench.send(predicted("new", bench.now))
    bench.now = START + 6 * HOUR
    assert bench.reads("oldest_pending_seconds", 6 * HOUR - 5)
    bench.now = START + 5 + 35 * 24 * HOUR + 1
    assert bench.reads("oldest_pending_seconds", 35 * 24 * HOUR + 6 - 5 * HOUR)


def test_what_a_former_process_received_is_never_made_older_than_it_is() -> None:
    """After a restart a row is at least as old as is told, and at most a quarter of an hour older; rows that come then
    are exact again as soon as those have left."""
    store = MemoryStore()
    first = WriterBench(store, START)
    first.send(predicted("before", START))
    first.stop()
    again = WriterBench(store, START + 60)
    try:
        again.now = START + 100
        again.send(predicted("after", again.now))
        again.now = START + 110
        assert again.reads("oldest_pending_seconds", 49)
        again.send(labelled("before", again.now))
        again.now = START + 120
        assert again.reads("oldest_pending_seconds", 20)
    finally:
        again.stop()


def test_seconds_in_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """When rows of more seconds wait than are kept, the older half is known to a quarter of an hour, the rest still to
    the second."""
    monkeypatch.setattr(usage, "MOST_SECONDS", 10)
    seconds = PendingSeconds()
    seconds.start(0.0)
    seconds.add({100 * second: 1 for second in range(1, 12)})
    sums = {f"{PENDING_SINCE}0": 8.0, f"{PENDING_SINCE}900": 3.0}
    assert seconds.oldest(sums) == 600  # of 100 to 500 it is known that they came before
    assert seconds.oldest({f"{PENDING_SINCE}0": 3.0, f"{PENDING_SINCE}900": 3.0}) == 600
    seconds.add({600: -1})
    assert seconds.oldest({f"{PENDING_SINCE}0": 2.0, f"{PENDING_SINCE}900": 3.0}) == 700


def test_a_truth_under_an_id_without_predictions_is_overdue_after_an_hour(bench: WriterBench) -> None:
    """A truth that nothing was ever predicted under is overdue when it has waited for an hour and a quarter at most;
    one that a prediction comes for is not, nor one whose id has a prediction elsewhere."""
    bench.send(
        labelled("feedback-call", START),
        labelled("late", START),
        labelled("elsewhere", START, deployment="beer"),
        predicted("elsewhere", START),
        predicted("unlabelled", START),
    )
    bench.now = START + HOUR - 1
    assert bench.reads("pending_truths", 3)
    assert bench.reads("overdue_truths", 0)
    bench.now = START + HOUR + QUARTER
    assert bench.reads("overdue_truths", 2)
    bench.send(predicted("late", bench.now))
    bench.now += 1
    assert bench.reads("overdue_truths", 1)
    bench.now += 35 * 24 * HOUR
    assert bench.reads("overdue_truths", 0)
