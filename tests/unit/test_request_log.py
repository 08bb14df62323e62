"""Requests and responses of a log: latency counts once, and requests without responses are told, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import pytest

from metrics_server.api.schema import FollowedRequests
from metrics_server.metrics.duration_histogram import LATENCY, cumulated
from metrics_server.pairing import completeness, latency
from metrics_server.pairing.completeness import RESPONSE_SECONDS, RequestCompleteness
from metrics_server.pairing.latency import RequestLatencies
from metrics_server.store.memory import MemoryStore
from metrics_server.telemetry import RequestTally
from metrics_server.web import notices
from tests.support.pairing_bench import MAIN, NOW, OTHER_NODE, Bench, Sent
from tests.support.writer_bench import WriterBench

CHURN = ("crm", "churn")
PREDICTOR = MAIN._replace(namespace="crm", deployment="churn")


@pytest.fixture
def bench() -> Iterator[WriterBench]:
    bench = WriterBench(MemoryStore(), NOW)
    yield bench
    bench.stop()


def requested(request: str, at: float = NOW) -> Sent:
    return Sent("request", f"q{request}", at, request, PREDICTOR, ("", ""))


def answered(request: str, at: float = NOW, event: str = "p") -> Sent:
    return Sent("response", f"{event}{request}", at, request, PREDICTOR, ("", ""), (1,))


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_node_that_logs_two_responses_has_one_latency(order: tuple[int, ...]) -> None:
    """The own output of a node with children and that of the graph below it come under one id: of a request that took
    part of a second or two one latency is counted, in any order, and one request again under that id adds none."""
    events = [(0.0, False), (1.0, True), (2.0, True)]
    latencies = RequestLatencies()
    found = [latencies.seen("r", MAIN, NOW + events[turn][0], NOW, answered=events[turn][1]) for turn in order]
    found += [latencies.seen("r", MAIN, NOW + 60, NOW, answered=later) for later in (False, True)]
    (seconds,) = [one for one in found if one is not None]
    assert seconds in (1.0, 2.0)


def test_nodes_of_a_graph_have_latencies_of_their_own() -> None:
    """Under one request id each node is timed by its own events, and so is each request of a node."""
    latencies = RequestLatencies()
    for request, labels in (("r", MAIN), ("r", OTHER_NODE), ("s", MAIN)):
        assert latencies.seen(request, labels, NOW, NOW, answered=False) is None
    assert latencies.seen("r", OTHER_NODE, NOW + 2, NOW, answered=True) == 2
    assert latencies.seen("s", MAIN, NOW + 3, NOW, answered=True) == 3
    assert latencies.seen("r", MAIN, NOW + 4, NOW, answered=True) == 4


def test_the_second_response_leaves_the_histogram_alone() -> None:
    """`model_prediction_latency_seconds` counts one observation of such a request, also when it is sent again."""
    bench = Bench()
    again = requested("r", NOW + 1)._replace(id="again")
    bench.send(requested("r"), answered("r", NOW + 1), again, answered("r", NOW + 2, "graph"))
    histogram = cumulated(LATENCY, bench.ever(PREDICTOR))
    assert histogram is not None
    buckets, seconds = histogram
    assert (list(buckets)[-1][1], seconds) == (1, 1.0)


def test_times_in_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more requests than are kept the oldest are forgotten, of those that wait and of those that were matched."""
    monkeypatch.setattr(latency, "MAX_WAITING", 3)
    monkeypatch.setattr(latency, "MAX_MATCHED", 3)
    latencies = RequestLatencies()
    for number in range(5):
        latencies.seen(f"w{number}", MAIN, NOW, NOW, answered=False)
    assert latencies.seen("w0", MAIN, NOW, NOW, answered=True) is None
    assert latencies.seen("w4", MAIN, NOW, NOW, answered=True) == 0
    for number in range(5):
        latencies.seen(f"m{number}", MAIN, NOW, NOW, answered=False)
        latencies.seen(f"m{number}", MAIN, NOW, NOW, answered=True)
    assert len(latencies._matched) == 3
    assert len(latencies._waiting) <= 3


def test_requests_without_responses_are_counted_by_deployment(bench: WriterBench) -> None:
    """A request that no response has followed within five minutes is unanswered, one that was answered before or after
    it came is not; a response that comes later changes nothing."""
    bench.send(answered("before"), requested("before"), requested("after"), requested("never"), requested("late"))
    bench.now = NOW + 60
    bench.send(answered("after"), answered("unrequested"))
    assert bench.reads("followed_requests_total", 2, *CHURN, "answered")
    assert bench.reads("followed_requests_total", 0, *CHURN, "unanswered")
    bench.now = NOW + RESPONSE_SECONDS
    assert bench.reads("followed_requests_total", 2, *CHURN, "unanswered")
    bench.send(answered("late"))
    bench.now += 1
    assert bench.reads("followed_requests_total", 2, *CHURN, "answered")
    assert bench.reads("followed_requests_total", 2, *CHURN, "unanswered")


def test_completeness_is_a_fair_sample_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """When more requests wait than are followed, those that are still end as often without a response as all do; a
    deployment beyond the limit is left out, and takes nothing from the others."""
    monkeypatch.setattr(completeness, "MAX_FOLLOWED", 50)
    monkeypatch.setattr(completeness, "MAX_DEPLOYMENTS", 1)
    log = RequestCompleteness()
    for number in range(40_000):
        now = NOW + number
        log.note_request((f"r{number}", PREDICTOR), now, is_answered=False)
        log.note_request((f"r{number}", MAIN), now, is_answered=False)
        if number % 4 == 0:
            log.note_response((f"r{number}", PREDICTOR))
        judged = log.judged(now)
    assert list(judged) == [CHURN]
    share = judged[CHURN].answered / sum(judged[CHURN])
    assert share == pytest.approx(0.25, abs=0.05)
    assert sum(judged[CHURN]) > 5000


def test_the_page_warns_of_the_deployments_that_lose_most() -> None:
    """A deployment whose requests have no responses is named with what to do; one that loses few is not; of many the
    first five are, and the number of the others."""

    def said(*tallies: tuple[int, int]) -> list[str]:
        followed = [
            FollowedRequests(namespace="crm", deployment=f"d{number}", answered=tally[0], unanswered=tally[1])
            for number, tally in enumerate(tallies)
        ]
        return [notice.text for notice in notices.of_requests(followed)]

    assert said((0, 0), (100, 5)) == []
    (none,) = said((0, 40))
    assert none.startswith("crm/d0: 40 of 40 requests without responses since the start")
    assert "batcher" in none
    (some,) = said((60, 40))
    assert some.startswith("crm/d0: 40 of 100 requests without responses since the start; they failed")
    many = said(*((0, number) for number in range(1, 9)))
    assert [text.split(":")[0] for text in many[:5]] == ["crm/d7", "crm/d6", "crm/d5", "crm/d4", "crm/d3"]
    assert many[5:] == ["3 more deployments log requests without responses"]


def test_tallies_begin_at_nothing() -> None:
    """A deployment whose first request waits has a tally of nothing yet, so that the first loss is an increase."""
    log = RequestCompleteness()
    log.note_request(("r", PREDICTOR), NOW, is_answered=False)
    assert log.judged(NOW) == {CHURN: RequestTally(0, 0)}
