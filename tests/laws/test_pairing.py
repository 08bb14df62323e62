"""Pairing: whatever the order, grouping, repetition and restarts, the net numbers are those of the set of halves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_server.ingest.cloudevent import Event
from metrics_server.ingest.normalize import observation_of
from metrics_server.metrics import reward_stats as reward
from metrics_server.metrics.components import LOGGED, PAIRS
from metrics_server.metrics.labels import EventKind
from metrics_server.metrics.reward_stats import REWARDS
from metrics_server.metrics.sums import component
from metrics_server.metrics.window import DAY, Bucket, bucket_of
from metrics_server.pairing.batch import Batch
from metrics_server.series.series import Labels, Scoring
from tests.support.pairing_bench import CANARY, ELSEWHERE, KEEPING, MAIN, NOW, NOWHERE, OTHER_NODE, Bench, Sent

ANY_LABELS = st.sampled_from([MAIN, CANARY, OTHER_NODE, ELSEWHERE])


@st.composite
def histories(draw: st.DrawFn) -> list[Sent]:
    """A set of events over few requests, few labels and few times, so that they meet, tie and contradict each other."""
    sent = []
    for number in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from([EventKind.RESPONSE, EventKind.FEEDBACK, EventKind.FEEDBACK]))
        rows = draw(st.integers(1, 2))
        classes = st.tuples(*[st.integers(0, 2)] * rows)
        truths = st.tuples(*[st.one_of(st.none(), st.integers(0, 2))] * rows)
        has_response = kind == EventKind.RESPONSE or draw(st.booleans())
        reward = None if kind == EventKind.RESPONSE or draw(st.booleans()) else float(draw(st.integers(-2, 2)))
        truth = None if kind == EventKind.RESPONSE or (reward is not None and draw(st.booleans())) else draw(truths)
        sent.append(
            Sent(
                kind,
                f"event-{number}",
                NOW - 60 * draw(st.integers(0, 4)) - DAY * draw(st.integers(0, 1)),
                draw(st.sampled_from(["a", "b"])),
                draw(ANY_LABELS),
                draw(st.sampled_from([("", ""), ("shop", ""), ("shop", "wine"), ("lab", "wine")])),
                draw(classes) if has_response else None,
                truth,
                reward,
            )
        )
    return sent


Counts = dict[tuple[Labels, Bucket], dict[str, float]]


def expected(history: Iterable[Sent]) -> Counts:
    """The same numbers in the plainest way: all halves in one place, the latest of each, then counted."""
    result: dict[tuple[Labels, Bucket], Counter[str]] = {}
    for request in ("a", "b"):
        for row in range(2):
            for labels, at, counts in _expected_row([one for one in history if one.request == request], row):
                bucket = bucket_of(at, NOW, KEEPING.history)
                assert bucket is not None
                result.setdefault((labels, bucket), Counter()).update(counts)
    return {
        key: kept
        for key, counts in result.items()
        if (kept := {name: value for name, value in counts.items() if value})
    }


def _key(time: float, content: Any) -> tuple[float, bytes]:
    return time, msgspec.msgpack.encode(content)


def _expected_row(events: list[Sent], row: int) -> Iterable[tuple[Labels, float, Counter[str]]]:
    logged: dict[Labels, tuple[tuple[float, bytes], float, int]] = {}
    carried: dict[tuple[str, str, str], tuple[tuple[float, bytes], float, int, Labels]] = {}
    truths: list[tuple[tuple[float, bytes], tuple[str, str], int | None]] = []
    rewards: dict[tuple[str, str, str], tuple[tuple[float, bytes], float, float, Labels]] = {}
    for one in events:
        alike = (one.labels.namespace, one.labels.deployment, one.labels.model)
        if one.response is not None and row < len(one.response):
            value = one.response[row]
            key = _key(one.time, [one.labels, value])
            if one.kind == EventKind.RESPONSE:
                logged[one.labels] = max(logged.get(one.labels, (key, one.time, value)), (key, one.time, value))
            else:
                before = carried.get(alike, (key, one.time, value, one.labels))
                latest = max(before, (key, one.time, value, one.labels), key=lambda entry: entry[0])
                carried[alike] = (latest[0], min(before[1], one.time), latest[2], latest[3])
        if one.truth is not None and row < len(one.truth):
            stated = (
                one.scope
                if one.response is None and one.reward is None
                else (one.labels.namespace, one.labels.deployment)
            )
            truths.append((_key(one.time, one.truth[row]), stated, one.truth[row]))
        if one.reward is not None and row == 0:
            key = _key(one.time, [*one.labels, one.reward])
            before = rewards.get(alike, (key, one.time, one.reward, one.labels))
            latest = max(before, (key, one.time, one.reward, one.labels), key=lambda entry: entry[0])
            rewards[alike] = (latest[0], min(before[1], one.time), latest[2], latest[3])
    predictions = [(labels, at, value) for labels, (_, at, value) in logged.items()]
    taken = {(labels.namespace, labels.deployment, labels.model) for labels in logged}
    predictions += [(labels, at, value) for alike, (_, at, value, labels) in carried.items() if alike not in taken]
    for labels, (_, at, _) in logged.items():
        yield labels, at, Counter({LOGGED: 1})
    for labels, at, value in predictions:
        matching = [t for t in truths if t[1][0] in ("", labels.namespace) and t[1][1] in ("", labels.deployment)]
        if matching and (truth := max(matching, key=lambda t: t[0])[2]) is not None:
            counts = Counter({PAIRS: 1, "pairs": 1, component("confusion", str(truth), str(value)): 1})
            if truth == value:
                counts["correct"] = 1
            yield labels, at, counts
    for alike, (_, at, value, labels) in rewards.items():
        about = [
            (known, when)
            for known, (_, when, _) in logged.items()
            if (known.namespace, known.deployment, known.model) == alike
        ]
        where, when = min(about, default=(labels, at))
        yield where, when, Counter(reward.increments(value))


@pytest.mark.long
@settings(max_examples=400, deadline=None)
@given(
    histories(),
    st.randoms(use_true_random=False),
    st.lists(st.integers(1, 5), min_size=20, max_size=20),
    st.sets(st.integers(0, 20)),
)
def test_any_order_grouping_repetition_and_restart_give_the_numbers_of_the_set(
    history: list[Sent], random: Any, sizes: list[int], restarts: set[int]
) -> None:
    """The net numbers equal a plain batch computation over the set of halves, however they arrived."""
    rows = history + random.sample(history, len(history) // 2)
    random.shuffle(rows)
    bench = Bench()
    for number, size in enumerate(sizes):
        group, rows = rows[:size], rows[size:]
        bench.send(*group)
        if number in restarts:
            bench.restart()
    bench.send(*rows)
    assert bench.net_by_bucket() == expected(history)


def test_the_bucket_is_the_one_of_the_prediction() -> None:
    """A label that comes late for last Tuesday repairs last Tuesday."""
    bench = Bench()
    tuesday = NOW - 5 * DAY
    bench.send(Sent(EventKind.RESPONSE, "1", tuesday, "r", MAIN, ("", ""), (2,)))
    bench.send(Sent(EventKind.FEEDBACK, "2", NOW, "r", MAIN, ("shop", "wine"), truth=(2,)))
    bucket = bucket_of(tuesday, NOW, KEEPING.history)
    series = bench.catalog.current()[0]
    assert bench.store.history(series.id, 0)[bucket]["correct"] == 1.0  # type: ignore[index]


def test_a_repeated_event_is_answered_as_a_duplicate_and_counts_once() -> None:
    """A redelivery changes nothing, in the same group or a later one."""
    bench = Bench()
    one = Sent(EventKind.FEEDBACK, "1", NOW, "r", MAIN, ("", ""), (1,), (1,))
    assert bench.send(one, one) == ["accepted", "duplicate"]
    before = bench.ever(MAIN)
    assert bench.send(one) == ["duplicate"]
    assert bench.ever(MAIN) == before


def test_equal_truth_is_a_duplicate_later_truth_a_correction_older_truth_changes_nothing() -> None:
    """Every truth after the first has the status that says what became of it."""
    bench = Bench()
    bench.send(Sent(EventKind.FEEDBACK, "1", NOW - 50, "r", MAIN, ("", ""), (1,), (1,)))
    bench.send(Sent(EventKind.FEEDBACK, "2", NOW - 40, "r", MAIN, ("shop", "wine"), truth=(1,)))
    assert bench.statuses(MAIN) == {"matched": 1, "duplicate": 1}
    bench.send(Sent(EventKind.FEEDBACK, "3", NOW - 30, "r", MAIN, ("shop", "wine"), truth=(2,)))
    bench.send(Sent(EventKind.FEEDBACK, "4", NOW - 45, "r", MAIN, ("shop", "wine"), truth=(0,)))
    assert bench.statuses(MAIN) == {"matched": 1, "duplicate": 1, "corrected": 1, "superseded": 1}
    assert bench.net()[MAIN][component("confusion", "2", "1")] == 1
    bench.send(Sent(EventKind.FEEDBACK, "5", NOW - 20, "r", MAIN, ("shop", "wine"), truth=(None,)))
    assert bench.statuses(MAIN)["retracted"] == 1
    assert PAIRS not in bench.net()[MAIN] if MAIN in bench.net() else True


def test_one_class_written_in_several_ways_is_one_truth() -> None:
    """2, 2.0, [2], "2" and the one-hot row say the same; repeating one in another form corrects nothing."""
    for form in ([2], [2.0], [[2]], ["2"], [[0, 0, 1]]):
        bench = Bench(Scoring())
        first = Event(
            kind=EventKind.FEEDBACK,
            id="1",
            source="s",
            type="t",
            time=NOW - 9,
            attributes={"requestid": "r"},
            data=b'{"response":{"data":{"ndarray":[[0.1,0.2,0.7]]}},"truth":{"data":{"ndarray":[[0,0,1]]}}}',
        )
        again = msgspec.structs.replace(
            first, id="2", time=NOW, data=msgspec.json.encode({"truth": {"data": {"ndarray": form}}})
        )
        for event in (first, again):
            group = Batch(bench.store, bench.catalog, KEEPING, NOW)
            group.apply([observation_of(event, NOWHERE, NOW)])
            bench.store.commit(group.change())
        assert bench.statuses(NOWHERE) == {"matched": 1, "duplicate": 1}, form


def test_self_contained_feedback_of_several_nodes_and_predictors_counts_once_per_model() -> None:
    """A feedback that is logged under both arms of a canary is one pair, not two."""
    bench = Bench()
    bench.send(Sent(EventKind.FEEDBACK, "1", NOW - 2, "r", MAIN, ("", ""), (1,), (1,)))
    bench.send(Sent(EventKind.FEEDBACK, "2", NOW - 1, "r", CANARY, ("", ""), (1,), (1,)))
    assert sum(counts[PAIRS] for counts in bench.net().values()) == 1


def test_feedback_that_lands_on_the_other_predictor_labels_the_prediction_of_the_first() -> None:
    """The prediction's labels are the pair's, whatever predictor the feedback event names."""
    bench = Bench()
    bench.send(Sent(EventKind.RESPONSE, "1", NOW - 9, "r", MAIN, ("", ""), (1,)))
    bench.send(Sent(EventKind.FEEDBACK, "2", NOW, "r", CANARY, ("shop", "wine"), truth=(1,)))
    assert bench.net()[MAIN]["correct"] == 1
    assert CANARY not in bench.net()


def test_events_without_a_request_id_count_once_each() -> None:
    """Without any id to join on each event id is a pair of its own."""
    bench = Bench()
    one = Sent(EventKind.FEEDBACK, "1", NOW, "", MAIN, ("", ""), (1,), (1,))
    bench.send(one, one, one._replace(id="2"))
    assert bench.net()[MAIN][PAIRS] == 2


def test_what_was_applied_before_a_change_of_configuration_can_be_taken_back() -> None:
    """After the metric model changed, a correction subtracts from the old series and adds to the new one."""
    bench = Bench()
    bench.send(Sent(EventKind.FEEDBACK, "1", NOW - 9, "r", MAIN, ("", ""), (1,), (1,)))
    old = bench.catalog.current()[0]
    bench.scoring = Scoring(storage_uri="cm_models.multiclass_one_hot.MulticlassOneHot")
    bench.restart()
    bench.send(Sent(EventKind.FEEDBACK, "2", NOW, "r", MAIN, ("", ""), truth=(0,)))
    assert not any(bench.store.totals(0)[old.id].values())
    assert bench.net()[MAIN][component("confusion", "0", "1")] == 1


def test_a_time_far_in_the_future_is_taken_as_now() -> None:
    """A broken clock cannot make a truth that stands for ever."""
    ahead = Sent(EventKind.FEEDBACK, "1", NOW + 3600, "r", MAIN, ("", ""), (1,), (1,))
    half = observation_of(ahead.event(), NOWHERE, NOW)
    assert half.clamped
    assert half.rows[0].truth.time == NOW  # type: ignore[union-attr]


def test_a_pair_older_than_the_history_counts_but_is_in_no_window() -> None:
    """What is too old for the buckets still counts in the ledgers, and says so."""
    bench = Bench()
    bench.send(Sent(EventKind.FEEDBACK, "1", NOW - 500 * DAY, "r", MAIN, ("", ""), (1,), (1,)))
    assert bench.net() == {}
    assert bench.statuses(MAIN) == {"too_old": 1}
    assert bench.ever(MAIN)["correct"] == 1


def test_a_group_computed_again_gives_the_same() -> None:
    """When another writer came first, the same halves are paired anew, as if it were the first time."""
    one = Sent(EventKind.FEEDBACK, "1", NOW, "r", MAIN, ("", ""), (1,), (1,), 0.5)
    halves = [observation_of(one.event(), NOWHERE, NOW)]
    bench = Bench()
    for _ in range(2):  # the first attempt is thrown away
        bench.restart()
        group = Batch(bench.store, bench.catalog, KEEPING, NOW)
        assert group.apply(halves) == ["accepted"]
        change = group.change()
    assert bench.store.commit(change)
    assert bench.net()[MAIN][PAIRS] == 1
    assert bench.net()[MAIN][REWARDS] == 1


def test_a_series_that_left_and_came_back_owes_nothing() -> None:
    """A correction takes back only what the series still has: one that was deleted meanwhile does not go below zero."""
    bench = Bench()
    bench.send(Sent(EventKind.FEEDBACK, "1", NOW, "r", MAIN, ("", ""), (1,), (1,)))
    (series,) = bench.catalog.current()
    bench.store.forget_series(series.id)
    bench.catalog.drop(series.id)
    bench.send(Sent(EventKind.RESPONSE, "2", NOW + 60, "other", MAIN, ("", ""), (1,)), now=NOW + 60)
    bench.send(Sent(EventKind.FEEDBACK, "3", NOW + 120, "r", MAIN, ("shop", "wine"), truth=(2,)), now=NOW + 120)
    assert bench.net()[MAIN][component("confusion", "2", "1")] == 1
    assert all(value >= 0 for value in bench.net()[MAIN].values())


def test_a_prediction_whose_series_cannot_come_back_harms_nobody() -> None:
    """When a series left as idle and its place is taken, a late truth or reward for it is unscorable, not an error."""
    bench = Bench()
    bench.send(Sent(EventKind.RESPONSE, "1", NOW, "r", MAIN, ("", ""), (1,)))
    bench.catalog.drop(bench.catalog.current()[0].id)
    bench.catalog._max_series = 1
    bench.send(Sent(EventKind.RESPONSE, "2", NOW, "q", ELSEWHERE, ("", ""), (1,)))
    late = Sent(EventKind.FEEDBACK, "3", NOW + 9, "r", MAIN, ("shop", "wine"), truth=(1,))
    rewarded = Sent(EventKind.FEEDBACK, "4", NOW + 9, "r", ELSEWHERE._replace(namespace="shop"), ("", ""), reward=1.0)
    assert bench.send(late)[0] == "accepted"
    assert bench.send(rewarded)[0].reason.label == "too_many_series"
    assert set(bench.net()) == {ELSEWHERE}
