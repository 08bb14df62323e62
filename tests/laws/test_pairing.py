"""Pairing: whatever the order, grouping, repetition and restarts, the net numbers are those of the set of events."""

from __future__ import annotations

import msgspec

from metrics_server.ingest.cloudevent import Event
from metrics_server.ingest.normalize import observation_of
from metrics_server.metrics.components import LABELS, PAIRS
from metrics_server.metrics.labels import EventKind
from metrics_server.metrics.reward_stats import REWARDS
from metrics_server.metrics.sums import component
from metrics_server.metrics.window import CUMULATIVE_RETRACTED, DAY, bucket_of
from metrics_server.pairing.batch import Batch
from metrics_server.series.series import Scoring
from tests.support.pairing_bench import CANARY, ELSEWHERE, KEEPING, MAIN, NOW, NOWHERE, Bench, Sent


def test_the_bucket_is_the_one_of_the_prediction() -> None:
    """A label that comes late for last Tuesday repairs last Tuesday."""
    bench = Bench()
    tuesday = NOW - 5 * DAY
    bench.send(Sent(EventKind.RESPONSE, "1", tuesday, "r", MAIN, ("", ""), (2,)))
    bench.send(Sent(EventKind.FEEDBACK, "2", NOW, "r", MAIN, ("shop", "wine"), truth=(2,)))
    bucket = bucket_of(tuesday, NOW, KEEPING.history)
    series = bench.registry.current()[0]
    assert bench.store.history(series.id, 0)[bucket]["correct"] == 1.0  # type: ignore[index]


def test_a_repeated_event_is_answered_as_a_duplicate_and_counts_once() -> None:
    """A redelivery changes nothing, in the same batch or a later one."""
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
            batch = Batch(bench.store, bench.registry, KEEPING, NOW)
            batch.apply([observation_of(event, NOWHERE, NOW)])
            bench.store.commit(batch.change())
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
    old = bench.registry.current()[0]
    bench.scoring = Scoring(storage_uri="cm_models.multiclass_one_hot.MulticlassOneHot")
    bench.restart()
    bench.send(Sent(EventKind.FEEDBACK, "2", NOW, "r", MAIN, ("", ""), truth=(0,)))
    assert not any(bench.store.totals(0)[old.id].values())
    assert bench.net()[MAIN][component("confusion", "0", "1")] == 1


def test_a_time_far_in_the_future_is_taken_as_now() -> None:
    """A broken clock cannot make a truth that stands for ever."""
    ahead = Sent(EventKind.FEEDBACK, "1", NOW + 3600, "r", MAIN, ("", ""), (1,), (1,))
    observation = observation_of(ahead.event(), NOWHERE, NOW)
    assert observation.clamped
    assert observation.rows[0].truth.time == NOW  # type: ignore[union-attr]


def test_a_pair_older_than_the_history_counts_but_is_in_no_window() -> None:
    """What is too old for the buckets still counts in the counters, and says so."""
    bench = Bench()
    bench.send(Sent(EventKind.FEEDBACK, "1", NOW - 500 * DAY, "r", MAIN, ("", ""), (1,), (1,)))
    assert bench.net() == {}
    assert bench.statuses(MAIN) == {"too_old": 1}
    assert bench.ever(MAIN)["correct"] == 1


def test_a_group_computed_again_gives_the_same() -> None:
    """When another writer came first, the same observations are paired anew, as if it were the first time."""
    one = Sent(EventKind.FEEDBACK, "1", NOW, "r", MAIN, ("", ""), (1,), (1,), 0.5)
    observations = [observation_of(one.event(), NOWHERE, NOW)]
    bench = Bench()
    for _ in range(2):  # the first attempt is thrown away
        bench.restart()
        batch = Batch(bench.store, bench.registry, KEEPING, NOW)
        assert batch.apply(observations) == ["accepted"]
        change = batch.change()
    assert bench.store.commit(change)
    assert bench.net()[MAIN][PAIRS] == 1
    assert bench.net()[MAIN][REWARDS] == 1


def test_a_series_that_left_and_came_back_owes_nothing() -> None:
    """A correction takes back only what the series still has: one that was deleted meanwhile does not go below zero."""
    bench = Bench()
    bench.send(Sent(EventKind.FEEDBACK, "1", NOW, "r", MAIN, ("", ""), (1,), (1,)))
    (series,) = bench.registry.current()
    bench.store.forget_series(series.id)
    bench.registry.drop(series.id)
    bench.send(Sent(EventKind.RESPONSE, "2", NOW + 60, "other", MAIN, ("", ""), (1,)), now=NOW + 60)
    bench.send(Sent(EventKind.FEEDBACK, "3", NOW + 120, "r", MAIN, ("shop", "wine"), truth=(2,)), now=NOW + 120)
    assert bench.net()[MAIN][component("confusion", "2", "1")] == 1
    assert all(value >= 0 for value in bench.net()[MAIN].values())


def test_a_prediction_whose_series_cannot_come_back_harms_nobody() -> None:
    """When a series left as idle and its place is taken, a late truth or reward for it is unscorable, not an error."""
    bench = Bench()
    bench.send(Sent(EventKind.RESPONSE, "1", NOW, "r", MAIN, ("", ""), (1,)))
    bench.registry.drop(bench.registry.current()[0].id)
    bench.registry._max_series = 1
    bench.send(Sent(EventKind.RESPONSE, "2", NOW, "q", ELSEWHERE, ("", ""), (1,)))
    late = Sent(EventKind.FEEDBACK, "3", NOW + 9, "r", MAIN, ("shop", "wine"), truth=(1,))
    rewarded = Sent(EventKind.FEEDBACK, "4", NOW + 9, "r", ELSEWHERE._replace(namespace="shop"), ("", ""), reward=1.0)
    assert bench.send(late)[0] == "accepted"
    assert bench.send(rewarded)[0].reason.label == "too_many_series"
    assert set(bench.net()) == {ELSEWHERE}


def test_what_ages_out_of_the_history_is_taken_back_as_it_was_counted() -> None:
    """A pair that was matched and is retracted after its bucket has gone leaves no label that is too old."""
    bench = Bench()
    at = NOW - KEEPING.history + 5 * DAY
    bench.send(Sent(EventKind.RESPONSE, "1", at, "r", MAIN, ("", ""), (2,)))
    bench.send(Sent(EventKind.FEEDBACK, "2", NOW, "r", MAIN, ("shop", "wine"), truth=(2,)))
    later = NOW + 10 * DAY
    bench.send(Sent(EventKind.FEEDBACK, "3", later, "r", MAIN, ("shop", "wine"), truth=(None,)), now=later)
    (series,) = bench.registry.current()
    taken_back = bench.store.cumulative(CUMULATIVE_RETRACTED)[series.id]
    assert bench.statuses(MAIN) == {"matched": 1, "retracted": 1}
    assert {name: count for name, count in taken_back.items() if name.startswith(LABELS)} == {LABELS + "matched": 1}
