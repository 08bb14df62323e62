"""Erasure: what one request has contributed leaves all sums, whatever has arrived of it and in whatever order."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from metrics_server.ingest.normalize import observation_of
from metrics_server.metrics.labels import EventKind, Outcome
from metrics_server.metrics.window import CUMULATIVE, CUMULATIVE_RETRACTED, USAGE
from metrics_server.pairing.batch import Batch
from metrics_server.pairing.latency import RequestLatencies
from metrics_server.pairing.observation import Erasure, digest_of
from tests.support.pairing_bench import CANARY, KEEPING, MAIN, NOW, NOWHERE, OTHER_NODE, Bench, Sent

GONE, KEPT = "gone", "kept"


def erase(bench: Bench, request_id: str = GONE, *before: Sent) -> list[object]:
    """Erases a request, in one batch with events before it."""
    batch = Batch(bench.store, bench.registry, KEEPING, NOW)
    outcomes = batch.apply(
        [*(observation_of(one.event(), NOWHERE, NOW) for one in before), Erasure(digest_of(request_id), request_id)]
    )
    assert bench.store.commit(batch.change())
    return list(outcomes)


def counters(bench: Bench) -> Counter[str]:
    """What counters with a twin say on balance, over all series."""
    balance: Counter[str] = Counter()
    for bucket, sign in (CUMULATIVE, 1), (CUMULATIVE_RETRACTED, -1):
        for sums in bench.store.cumulative(bucket).values():
            for name, value in sums.items():
                balance[name] += sign * round(value)
    twinned = ("confusion", "output", "server/rewards", "server/reward")
    return Counter({name: value for name, value in balance.items() if value and name.startswith(twinned)})


@st.composite
def events(draw: st.DrawFn) -> list[Sent]:
    """Events of two requests by several nodes: responses, self-contained feedback, late truths, rewards."""
    sent = []
    for number in range(draw(st.integers(1, 9))):
        kind = draw(st.sampled_from([EventKind.RESPONSE, EventKind.FEEDBACK]))
        rows = draw(st.integers(1, 3))
        values = st.lists(st.integers(0, 2), min_size=rows, max_size=rows).map(tuple)
        response = draw(values) if kind == EventKind.RESPONSE or draw(st.booleans()) else None
        reward = draw(st.none() | st.sampled_from([0.0, 1.0])) if kind == EventKind.FEEDBACK else None
        truth = draw(values) if kind == EventKind.FEEDBACK else None
        labels = draw(st.sampled_from([MAIN, CANARY, OTHER_NODE]))
        time = NOW - draw(st.integers(0, 50))
        request = draw(st.sampled_from([GONE, KEPT]))
        sent.append(Sent(kind, str(number), time, request, labels, ("shop", "wine"), response, truth, reward))
    return sent


@given(events(), st.integers(0, 9))
def test_the_sums_are_those_of_the_other_requests(sent: list[Sent], together: int) -> None:
    """After an erasure every window holds what it would without the request, and so do counters less their twins."""
    bench, others = Bench(), Bench()
    first, last = sent[:together], sent[together:]
    bench.send(*first)
    others.send(*(one for one in sent if one.request != GONE))
    *_, outcome = erase(bench, GONE, *last)
    assert outcome == (Outcome.ERASED if any(one.request == GONE for one in sent) else Outcome.IGNORED)
    assert bench.net() == others.net()
    assert bench.net_by_bucket() == others.net_by_bucket()
    assert counters(bench) == counters(others)


@given(events(), events())
def test_nothing_is_taken_of_an_erased_request_any_more(sent: list[Sent], later: list[Sent]) -> None:
    """Redeliveries of an erased request, and what else comes of it, change no sum, after a restart too."""
    bench = Bench()
    bench.send(Sent(EventKind.RESPONSE, "first", NOW, GONE, MAIN, ("", ""), (1,)), *sent)
    erase(bench)
    bench.send(*(one._replace(id=f"again {one.id}") for one in later if one.request != GONE))
    before, ever = bench.net(), bench.store.cumulative(CUMULATIVE)
    bench.restart()
    again = [one for one in [*sent, *later] if one.request == GONE]
    outcomes = bench.send(*(one._replace(id=f"new {number}") for number, one in enumerate(again)))
    assert outcomes == [Outcome.ERASED] * len(again)
    assert bench.net() == before
    assert bench.store.cumulative(CUMULATIVE) == ever


def test_a_request_is_erased_by_any_of_its_ids() -> None:
    """The row of a batch that feedback names as an item leaves with the batch, and what names it later is not taken."""
    bench = Bench()
    bench.send(Sent(EventKind.RESPONSE, "1", NOW, GONE, MAIN, ("", ""), (1, 2)))
    bench.send(Sent(EventKind.FEEDBACK, "2", NOW, f"{GONE}-item-1", MAIN, ("shop", "wine"), truth=(2,)))
    assert bench.net()[MAIN]["pairs"] == 1.0
    assert erase(bench) == [Outcome.ERASED]
    assert bench.net() == {}
    for number, request in enumerate([GONE, f"{GONE}-item-1", f"{GONE}-item-0"]):
        truth = Sent(EventKind.FEEDBACK, f"t{number}", NOW, request, MAIN, ("shop", "wine"), truth=(1,))
        assert bench.send(truth) == [Outcome.ERASED]
    assert erase(bench) == [Outcome.IGNORED]


def test_an_erased_request_waits_for_nothing() -> None:
    """Of an erased request no row is pending, and what was kept of it is a record without any content."""
    bench = Bench()
    bench.send(Sent(EventKind.RESPONSE, "1", NOW, GONE, MAIN, ("", ""), (1,)))
    bench.send(Sent(EventKind.FEEDBACK, "2", NOW, KEPT, MAIN, ("shop", "wine"), truth=(2,)))
    erase(bench)
    usage = bench.store.cumulative(USAGE)[0]
    assert usage.get("pending/predictions", 0.0) == 0.0
    assert usage["pending/truths"] == 1.0
    (kept,) = bench.store.load_prefix(digest_of(GONE)).values()
    assert b"classifier" not in kept.value


def test_its_times_are_forgotten() -> None:
    """A request that waits for its response, to time it, waits no more."""
    latencies = RequestLatencies()
    latencies.seen(GONE, MAIN, NOW, NOW, answered=False)
    latencies.forget(GONE)
    assert latencies.seen(GONE, MAIN, NOW + 1, NOW + 1, answered=True) is None
    assert latencies.completeness.judged(NOW + 1000.0)[MAIN[:2]] == (0, 0)
