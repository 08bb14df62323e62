"""Pairing against its specification: histories of any events, in any order, beside a plain computation over the set of
them.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis.stateful import run_state_machine_as_test

from metrics_server.ingest.slicing import SlicingRules
from metrics_server.metrics.components import LOGGED
from metrics_server.metrics.labels import EventKind, LabelStatus
from metrics_server.metrics.reward_stats import REWARDS
from metrics_server.metrics.window import (
    DAY,
    bucket_of,
)
from metrics_server.pairing import usage as kept
from metrics_server.pairing.expiry import expire
from metrics_server.pairing.observation import digest_of, row_key
from metrics_server.pairing.record import MAX_KEYS, PairingRecord, decode_record
from metrics_server.pairing.usage import RECORDS, UsageLimits
from metrics_server.store.sqlite.store import SqliteStore
from tests.support.pairing_bench import CANARY, ELSEWHERE, KEEPING, MAIN, NOW, OTHER_NODE
from tests.support.pairing_machine import BY_TENANT, EVERYWHERE, Bench, Pairing, Sent, histories


class PairingOnDisk(Pairing):
    """The same over a file."""

    def opened(self) -> Bench:
        self.directory = Path(tempfile.mkdtemp(prefix="pairing-"))
        return Bench(SqliteStore(str(self.directory / "state.db")))

    def reopened(self) -> None:
        self.bench.store.close()
        self.bench.store = SqliteStore(str(self.directory / "state.db"))  # type: ignore[assignment]
        self.bench.restart()

    def teardown(self) -> None:
        self.bench.store.close()
        shutil.rmtree(self.directory)


@pytest.mark.parametrize("examples", [20, pytest.param(200, marks=pytest.mark.long)])
def test_any_history_gives_the_numbers_of_the_set_of_its_events(examples: int) -> None:
    """However events are grouped, repeated, lost before their commit and mixed with restarts, the numbers are those of
    the set."""
    run_state_machine_as_test(Pairing, settings=histories(examples, 15))


@pytest.mark.parametrize("examples", [5, pytest.param(40, marks=pytest.mark.long)])
def test_any_history_gives_the_numbers_of_the_set_of_its_events_on_disk(examples: int) -> None:
    """The same with the state in a file that is closed and opened again at a restart."""
    run_state_machine_as_test(PairingOnDisk, settings=histories(examples, 12))


# Single promises


def said(request: str, value: int, **more: Any) -> Sent:
    """A logged prediction."""
    return Sent(
        EventKind.RESPONSE,
        **({"id": f"said {request} {value}", "time": NOW - 600, "request": request, "response": (value,)} | more),
    )


def truth(request: str, value: int | None, **more: Any) -> Sent:
    """A truth that comes alone."""
    return Sent(
        EventKind.FEEDBACK,
        **({"id": f"truth {request} {value}", "time": NOW - 60, "request": request, "truth": (value,)} | more),
    )


def in_any_order(*sent: Sent, selection: SlicingRules = BY_TENANT) -> Iterator[Bench]:
    """Servers that got these events in all orders, each event in a group of its own."""
    for order in permutations(sent):
        bench = Bench(selection=selection)
        for one in order:
            bench.send(one)
        assert bench.kept() == bench.recount()
        yield bench


def test_feedback_with_a_request_id_of_its_own_meets_its_prediction_by_the_puid_in_the_response_it_carries() -> None:
    """A client that sends no id header, only the response it got, labels that prediction, and adds no other."""
    logged = said("r", 1, puids=("p", "", ""))
    feedback = Sent(EventKind.FEEDBACK, "2", NOW - 60, "random", CANARY, response=(1,), truth=(2,), puids=("p", "", ""))
    for bench in in_any_order(logged, feedback):
        assert bench.confusion() == {"2 1": 1}
        assert bench.whole(CANARY) == {}


def test_a_request_that_names_the_puid_joins_its_prediction_and_truth_whenever_it_comes() -> None:
    """The id that the client put into the request is one of the prediction's, in each of its rows, also when it comes
    last."""
    logged = said("r", 1, response=(1, 0))
    request = Sent(EventKind.REQUEST, "2", NOW - 601, "r", puids=("", "p", ""))
    known = truth("random", 2, truth=(2, 0), puids=("", "", "p"))
    for bench in in_any_order(logged, request, known):
        assert bench.confusion() == {"2 1": 1, "0 0": 1}
        assert bench.kept()[kept.RECORD_COUNT] == 6
        assert kept.PENDING_PREDICTIONS not in bench.kept()
        assert kept.PENDING_TRUTHS not in bench.kept()


def test_an_item_is_the_row_of_the_batch_until_its_exact_id_appears() -> None:
    """`x-item-1` labels row 1 of x, and gives it back when something is logged under exactly that id."""
    batch, known, exact = said("x", 0, response=(0, 0, 0)), truth("x-item-1", 2), said("x-item-1", 1)
    for bench in in_any_order(batch, known):
        assert bench.confusion() == {"2 0": 1}
    for bench in in_any_order(batch, known, exact):
        assert bench.confusion() == {"2 1": 1}


def test_two_predictions_that_share_a_puid_are_told_apart_by_exact_ids() -> None:
    """A truth with the request id of one of them is about that one alone, with a puid alone about both."""
    both = said("r", 0, puids=("p", "", "")), said("q", 1, puids=("p", "", ""))
    for bench in in_any_order(*both, truth("r", 2, puids=("", "", "p")), truth("q", 1)):
        assert bench.confusion() == {"2 0": 1, "1 1": 1}
    for bench in in_any_order(*both, truth("", 2, puids=("", "", "p"))):
        assert bench.confusion() == {"2 0": 1, "2 1": 1}


def test_self_contained_feedback_is_one_pair_with_its_logged_prediction() -> None:
    """The pair has the labels, the time and the value of the log, before or after; another model's carried row is its
    own."""
    logged = said("r", 1, time=NOW - DAY)
    feedback = Sent(EventKind.FEEDBACK, "2", NOW, "r", CANARY, response=(0,), truth=(2,))
    other = feedback._replace(id="3", labels=OTHER_NODE)
    for bench in in_any_order(logged, feedback, other):
        assert bench.confusion() == {"2 1": 1}
        assert bench.whole(CANARY) == {}
        assert bench.confusion(OTHER_NODE) == {"2 0": 1}
        assert {bucket_of(NOW - DAY, NOW, KEEPING.history)} == {
            bucket for labels, _, bucket in bench.numbers() if labels == MAIN
        }


def test_feedback_that_was_balanced_to_another_predictor_labels_the_prediction_where_it_was_made() -> None:
    """Both arms of a canary keep their own truths, whatever arm the feedback event names."""
    arms = said("r", 0), said("q", 1, labels=CANARY)
    for bench in in_any_order(*arms, truth("r", 0, labels=CANARY), truth("q", 2)):
        assert bench.confusion() == {"0 0": 1}
        assert bench.confusion(CANARY) == {"2 1": 1}


def test_a_truth_is_narrowed_by_what_it_states() -> None:
    """One that states a namespace is not about predictions of another, even under its exact id."""
    for bench in in_any_order(said("r", 0), said("r", 0, id="2", labels=ELSEWHERE), truth("r", 2, scope=("lab", ""))):
        assert bench.confusion() == {}
        assert bench.confusion(ELSEWHERE) == {"2 0": 1}


def test_a_retraction_takes_the_pair_back_unless_a_later_truth_stands() -> None:
    """A truth of null counts by its time like any other, in any order of arrival."""
    events = said("r", 1), truth("r", 2, time=NOW - 50), truth("r", None, time=NOW - 40, scope=EVERYWHERE)
    for bench in in_any_order(*events):
        assert bench.whole() == {LOGGED: 1}
    for bench in in_any_order(*events, truth("r", 0, time=NOW - 30)):
        assert bench.confusion() == {"0 1": 1}


def test_a_node_that_the_response_did_not_pass_through_made_no_prediction() -> None:
    """Where requestPath leaves out the node that logs the feedback, only the truth counts, for what the log holds."""
    feedback = Sent(
        EventKind.FEEDBACK,
        "2",
        NOW,
        "r",
        OTHER_NODE,
        response=(0,),
        truth=(2,),
        reward=1.0,
        path=("classifier", "router"),
    )
    for bench in in_any_order(said("r", 1), feedback):
        assert bench.confusion() == {"2 1": 1}
        assert bench.whole(OTHER_NODE) == {}
    for bench in in_any_order(said("r", 1), feedback._replace(path=("transformer",))):
        assert bench.confusion(OTHER_NODE) == {"2 0": 1}


def test_score_models_leaves_other_nodes_out_and_takes_their_truths() -> None:
    """What a node that is not scored predicted is nowhere; a truth that is logged under its name still counts."""
    selection = SlicingRules(score_models=frozenset({"classifier"}))
    events = said("r", 1), said("r", 0, id="2", labels=OTHER_NODE), truth("r", 2, labels=OTHER_NODE)
    for bench in in_any_order(*events, selection=selection):
        assert bench.confusion() == {"2 1": 1}
        assert {labels for labels, _, _ in bench.numbers()} == {MAIN}


def test_a_slice_holds_the_pairs_of_its_predictions() -> None:
    """The tenant is that of the prediction that stands, not that of the truth."""
    first, later = said("r", 1, tenant="red"), said("r", 2, time=NOW - 500, tenant="blue")
    for bench in in_any_order(first, later, truth("r", 2, tenant="red")):
        tallies = {name: sums.get("correct", 0) for (_, name, _), sums in bench.numbers().items()}
        assert tallies == {"": 1, "tenant=blue": 1}


def test_one_id_on_every_request_joins_no_more_than_a_case_holds_and_exact_ids_stay_right() -> None:
    """A client that gives every request the same id makes no case that grows without end, and spoils no label."""
    bench = Bench()
    expected_cells: Counter[str] = Counter()
    for number in range(100):
        events = [
            said(f"r{number}", number % 3, puids=("constant", "", "")),
            truth(f"r{number}", number % 2, puids=("", "", "constant")),
        ]
        events.append(Sent(EventKind.REQUEST, f"request {number}", NOW - 700, f"r{number}", puids=("", "constant", "")))
        for position in range(3):
            bench.send(events[(position + number) % 3])
        expected_cells[f"{number % 2} {number % 3}"] += 1
    assert bench.confusion() == expected_cells
    cases = [found for value in bench.records().values() if isinstance(found := decode_record(value), PairingRecord)]
    assert max(len(case.alias_keys) for case in cases) < MAX_KEYS
    assert all(len(value) < 64 * 1024 for value in bench.records().values())
    assert bench.kept() == bench.recount()
    for number in range(100):
        bench.send(truth(f"r{number}", number % 3, time=NOW))
    assert bench.whole()["correct"] == 100


def test_an_event_is_known_again_when_its_rows_turn_out_to_share_a_case() -> None:
    """A repeat is a duplicate also where one row of an event is known as an item of the others' batch."""
    bench = Bench()
    bench.send(truth("b", 1, puids=("x-item-1", "", "")))
    two_rows = Sent(EventKind.FEEDBACK, "2", NOW, "b", response=(1, 1), truth=(1, 1), puids=("", "x", ""))
    bench.send(two_rows)
    assert bench.send(two_rows) == ["duplicate"]


def test_a_request_is_known_again_when_its_rows_turn_out_to_share_a_case() -> None:
    """The same for a request event that names what joins them."""
    bench = Bench()
    bench.send(truth("b", 1, puids=("x-item-1", "", "")), said("b", 0, response=(0, 0)))
    request = Sent(EventKind.REQUEST, "2", NOW, "b", puids=("", "x", ""))
    bench.send(request)
    assert bench.send(request) == ["duplicate"]


def test_halves_can_be_paired_again_after_a_group_that_joined_them_was_lost() -> None:
    """A group whose commit failed leaves its observations as they were, also those whose cases became one in it."""
    bench = Bench()
    observations = [bench.observation(one) for one in (truth("p", 2), said("p", 0), said("r", 1, puids=("p", "", "")))]
    for _ in range(2):
        bench.restart()
        _, change = bench.taken(observations)
    assert bench.store.commit(change)
    assert bench.confusion() == {"2 0": 1, "2 1": 1}


def test_a_reward_counts_for_the_same_prediction_whichever_of_its_feedbacks_comes_first() -> None:
    """Of rewards that are one the latest stands, with its own ids: what it counts for does not depend on the order of
    arrival."""
    logged = said("a", 0), said("b", 0, time=NOW - 1200)
    rewards = (
        Sent(EventKind.FEEDBACK, "1", NOW - 9, "a", reward=1.0, puids=("", "p", "")),
        Sent(EventKind.FEEDBACK, "2", NOW - 8, "b", reward=2.0, puids=("", "p", "")),
    )
    for bench in in_any_order(*logged, *rewards):
        (bucket,) = (bucket for (_, _, bucket), sums in bench.numbers().items() if sums.get(REWARDS))
        assert bucket == bucket_of(NOW - 1200, NOW, KEEPING.history)


# What leaves


def test_what_expires_leaves_the_counts_and_the_pairs_stay() -> None:
    """After the retention nothing waits any more; a truth that met nothing is expired in the series it named, if there
    is one."""
    bench = Bench()
    bench.send(said("r", 1), said("paired", 1), truth("paired", 2), truth("q", 2), truth("lost", 2, labels=CANARY))
    bench.send(truth("null", None), truth("q", None, puids=("", "", "z")))
    before = bench.whole()
    assert (bench.kept()[kept.PENDING_PREDICTIONS], bench.kept()[kept.PENDING_TRUTHS]) == (1, 2)
    later = NOW + 10 * DAY
    bench.send(said("s", 1, time=later), now=later)
    telemetry = bench.upkeep(NOW + 36 * DAY)
    assert bench.kept() == bench.recount()
    assert (bench.kept()[kept.RECORD_COUNT], bench.kept()[kept.PENDING_PREDICTIONS]) == (1, 1)
    assert bench.statuses(MAIN) == {"matched": 1, LabelStatus.EXPIRED: 1}
    assert [labels for labels in (MAIN, CANARY) if bench.registry.find(labels)] == [MAIN]
    assert bench.whole() == before | {LOGGED: 3}
    assert telemetry.dropped_rows["prediction", LabelStatus.EXPIRED]._value.get() == 1
    assert telemetry.dropped_rows["truth", LabelStatus.EXPIRED]._value.get() == 2
    bench.upkeep(NOW + 50 * DAY)
    assert bench.kept() == bench.recount() == {}
    assert bench.whole() == before | {LOGGED: 3}


def test_beyond_the_limits_the_oldest_leave_and_the_pairs_stay() -> None:
    """As many as are too many leave the counts as they stood in them; a truth that waited is evicted in the series it
    named."""
    bench = Bench()
    bench.send(said("paired", 1, puids=("p", "", "")), truth("paired", 2), truth("q", 2))
    bench.send(said("r", 1), truth("s", 0), now=NOW + 5)
    before = bench.whole()
    telemetry = bench.upkeep(NOW + 5, UsageLimits(records=2))
    assert bench.kept() == bench.recount()
    assert bench.kept()[kept.RECORD_COUNT] == 2
    assert (bench.kept()[kept.PENDING_PREDICTIONS], bench.kept()[kept.PENDING_TRUTHS]) == (1, 1)
    assert bench.statuses(MAIN) == {"matched": 1, LabelStatus.EVICTED: 1}
    assert bench.whole() == before
    assert telemetry.dropped_rows["truth", LabelStatus.EVICTED]._value.get() == 1
    bench.upkeep(NOW + 5, UsageLimits(record_bytes=1))
    assert bench.kept() == bench.recount() == {}
    assert bench.statuses(MAIN) == {"matched": 1, LabelStatus.EVICTED: 2}
    assert bench.whole() == before


def test_keys_of_events_without_ids_leave_in_a_lane_of_their_own() -> None:
    """They go after the time of deduplication or beyond their own limit, and take no record with them."""
    bench = Bench()
    alone = Sent(EventKind.FEEDBACK, "1", NOW, response=(1,), truth=(1,))
    bench.send(alone, alone._replace(id="2"), said("r", 1))
    assert bench.kept()[kept.EVENT_KEY_COUNT] == 2
    bench.upkeep(NOW, UsageLimits(event_keys=1))
    assert bench.kept() == bench.recount()
    assert (bench.kept()[kept.EVENT_KEY_COUNT], bench.kept()[kept.RECORD_COUNT]) == (1, 1)
    bench.send(alone._replace(id="3"))
    bench.upkeep(NOW + DAY + 2)
    assert kept.EVENT_KEY_COUNT not in bench.kept()


def test_a_key_that_points_to_an_expired_case_harms_nothing() -> None:
    """What comes under it afterwards starts anew, meets what comes under the same id, and is counted and forgotten like
    any other."""
    bench = Bench()
    bench.send(said("r", 1), truth("r", 1))
    bench.send(Sent(EventKind.REQUEST, "2", NOW - 601, "r", puids=("", "p", "")), now=NOW + DAY)
    gone = NOW + 35 * DAY + 12 * 3600
    bench.upkeep(gone)
    assert (bench.kept()[kept.RECORD_COUNT], bench.kept().get(kept.PENDING_PREDICTIONS)) == (1, None)
    assert bench.kept() == bench.recount()
    bench.send(truth("p", 2, time=gone), now=gone)
    bench.restart()
    bench.send(said("other", 0, time=gone, puids=("p", "", "")), now=gone)
    assert bench.confusion() == {"1 1": 1, "2 0": 1}
    bench.send(truth("r", 0, time=gone), now=gone)  # nothing is known of that one any more
    assert bench.confusion() == {"1 1": 1, "2 0": 1}
    assert bench.kept() == bench.recount()
    bench.upkeep(gone + 36 * DAY)
    assert bench.kept() == bench.recount() == {}


def test_every_id_is_known_as_long_as_the_case() -> None:
    """A case that is used late is kept anew under all its ids."""
    bench = Bench()
    bench.send(said("r", 1, puids=("p", "", "")))
    bench.send(truth("r", 0), now=NOW + 20 * DAY)
    later = NOW + 36 * DAY
    bench.upkeep(later)
    bench.send(truth("p", 2, time=later), now=later)
    assert bench.confusion() == {"2 1": 1}
    assert bench.kept() == bench.recount()


def test_a_case_that_outlives_a_key_pointing_to_it_takes_that_id_again() -> None:
    """A truth under an id whose key has left meets the prediction as soon as an event names both ids again."""
    bench = Bench()
    bench.send(said("r", 1, puids=("p", "", "")))
    bench.send(truth("r", 0))
    key = row_key(digest_of("p"), 0)
    bench.store.commit(expire(bench.store.load([key]), RECORDS, LabelStatus.EVICTED, bench.registry).change)
    later = NOW + 60
    bench.send(truth("p", 2, time=later), now=later)
    assert bench.confusion() == {"0 1": 1}
    bench.send(Sent(EventKind.REQUEST, "2", later, "r", puids=("", "p", "")), now=later)
    assert bench.confusion() == {"2 1": 1}
    assert bench.kept() == bench.recount()
