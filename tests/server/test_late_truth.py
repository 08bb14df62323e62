"""Predictions and their truths, days apart, in any order, over a real server: every number on the page is exact."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict_openmetrics
from prometheus_client.parser import text_string_to_metric_families as strict_text

from tests.conftest import Serve
from tests.support.deployments import (
    DAY,
    HOUR,
    KSERVE_REQUEST,
    KSERVE_RESPONSE,
    MINUTE,
    RETENTION,
    Deployment,
    ago,
    pending,
    stamp,
    starter,
)
from tests.support.running import FEEDBACK, REQUEST, RESPONSE, RunningServer, peer
from tests.support.waiting import until


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    yield from starter(tmp_path_factory.mktemp("shared"))


@pytest.fixture
def shop(shared: RunningServer) -> Deployment:
    return Deployment(shared)


# In either order


def test_a_truth_days_after_its_prediction(shop: Deployment) -> None:
    """It joins, and repairs the windows that hold the prediction, not those that hold the label."""
    shop.predict("r", "cat", at=ago(5 * DAY))
    assert shop.page().cells() == {}
    shop.truth("r", "cat", at=ago(2 * DAY))
    page = shop.page()
    assert page.cells() == {("cat", "cat"): 1}
    assert page.statuses() == {"matched": 1}
    assert page.windows() == {"7d": 1, "30d": 1}
    assert page.windows("model_accuracy_ratio") == {"7d": 1, "30d": 1}
    assert page("model_label_delay_seconds_sum") == 3 * DAY


def test_a_truth_before_its_prediction(shop: Deployment) -> None:
    """It waits, moves no number, and makes the same pair once the prediction comes."""
    shop.truth("r", "dog", at=ago(2 * DAY))
    assert shop.page().samples == []
    shop.predict("r", "cat", at=ago(5 * DAY))
    page = shop.page()
    assert page.cells() == {("dog", "cat"): 1}
    assert page.statuses() == {"matched": 1}
    assert page.windows() == {"7d": 1, "30d": 1}
    assert page("model_label_delay_seconds_sum") == 3 * DAY


def test_both_orders_give_the_same_page(shared: RunningServer) -> None:
    """Whichever of both comes first, all numbers are equal."""
    pages = []
    for turned in (False, True):
        one = Deployment(shared)
        sends = [
            partial(one.predict, "r", "cat", "dog", at=ago(3 * HOUR)),
            partial(one.truth, "r", "cat", "owl", at=ago(HOUR)),
        ]
        for send in reversed(sends) if turned else sends:
            send()
        pages.append(
            {
                (n, frozenset((k, v) for k, v in labels if v != one.name)): x
                for (n, labels), x in one.page().numbers().items()
            }
        )
    assert pages[0] == pages[1]
    assert len(pages[0]) > 30


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
@pytest.mark.parametrize("turned", [False, True], ids=["prediction first", "truth first"])
def test_a_restart_between_both_halves(serve: Serve, end: signal.Signals, turned: bool) -> None:
    """What was answered is in the file, also after kill -9: its counterpart finds it, and a repeat of the first is
    known."""
    at = ago(2 * DAY)
    server = serve()
    shop = Deployment(server)
    predicted = shop.headers(RESPONSE, "r", at), {"data": {"ndarray": ["cat", "dog"]}}
    labelled = shop.headers(FEEDBACK, "r", at + HOUR), {"truth": {"data": {"ndarray": ["cat", "owl"]}}}
    first, second = (labelled, predicted) if turned else (predicted, labelled)
    assert server.post(first[1], first[0]).status == 200
    server.process.send_signal(end)
    assert server.process.wait(25) == (0 if end is signal.SIGTERM else -signal.SIGKILL)

    again = serve()
    shop.server = again
    for headers, body in (first, second, first, second):
        assert again.post(body, headers).status == 200
    page = shop.page()
    assert page.cells() == {("cat", "cat"): 1, ("owl", "dog"): 1}
    assert page.statuses() == {"matched": 2}
    assert page("model_predictions_total") == 2
    assert page("model_label_delay_seconds_sum") == 2 * HOUR
    assert page.windows() == {"7d": 2, "30d": 2}
    kind = "feedback" if turned else "response"
    assert again.value("metrics_server_events_total", type=kind, outcome="duplicate") == 2


def test_halves_that_never_meet(serve: Serve) -> None:
    """They are counted as waiting, across a restart too, their age to a second and the horizon are told, and no pair is
    made of them."""
    began = time.time()
    server = serve()
    shop = Deployment(server)
    assert server.value("metrics_server_oldest_pending_seconds") == 0
    shop.predict("a", 1, 2, 3)
    shop.truth("b", 1, 2)
    for _ in range(2):
        # A flat list is one truth as long as nothing tells whether it has rows.
        until(lambda: pending(shop.server) == (3, 1), 20, "three predictions and a truth wait")
        oldest = server.value("metrics_server_oldest_pending_seconds")
        assert oldest is not None
        assert 0 < oldest < time.time() - began + 1
        assert server.value("metrics_server_pending_horizon_seconds") == RETENTION
        assert (shop.page()("model_predictions_total"), shop.page().cells(), shop.page().statuses()) == (3, {}, {})
        server.stop()
        server = shop.server = serve()
    shop.truth("a", 1, 2, 3)
    shop.predict("b", 1, 2)
    until(lambda: pending(server) == (0, 0), 20, "nothing waits any more")
    assert server.value("metrics_server_oldest_pending_seconds") == 0
    assert shop.page().statuses() == {"matched": 5}
    assert server.value("metrics_server_dropped_rows_total") == 0


# Coverage, delay, latency, freshness


def test_coverage_is_labelled_rows_by_logged_rows(shop: Deployment) -> None:
    """In each window by the time of the prediction; a correction does not add to it, a retraction takes out."""
    shop.predict("new", 1, 2, 3)
    shop.predict("old", 1, 2, at=ago(3 * DAY))
    assert shop.page().by("model_label_coverage_ratio", "window") == {}  # 0 in each
    assert shop.page()("model_label_coverage_ratio", window="30d") == 0
    shop.truth("new", 1, 2)
    shop.tell(request_id="old", row=1, truth=2)
    expected = {"1h": 2 / 3, "1d": 2 / 3, "7d": 3 / 5, "30d": 3 / 5}
    assert shop.page().windows("model_label_coverage_ratio") == expected
    shop.tell(request_id="old", row=1, truth=1)
    assert shop.page().windows("model_label_coverage_ratio") == expected
    shop.tell(request_id="old", row=1, truth=None)
    assert shop.page().windows("model_label_coverage_ratio") == {"1h": 2 / 3, "1d": 2 / 3, "7d": 2 / 5, "30d": 2 / 5}


def test_coverage_that_is_not_known_is_absent(shop: Deployment) -> None:
    """When nothing was logged, and when more was labelled than logged; it comes when the log has caught up."""
    shop.pair("a", 1, 1)
    assert shop.page()("model_label_coverage_ratio") is None
    shop.pair("b", 1, 1)
    shop.predict("c", 1)
    assert shop.page()("model_support", window="1h") == 2
    assert shop.page()("model_label_coverage_ratio") is None
    shop.predict("a", 1)
    assert shop.page()("model_label_coverage_ratio", window="1h") == 1
    shop.predict("b", 1)
    assert shop.page()("model_label_coverage_ratio", window="1h") == 2 / 3


DELAYS = (-HOUR, 0, 1, 1.5, 10, 61, HOUR, 2 * HOUR, 3 * DAY, 20 * DAY, 31 * DAY)
DELAY_BUCKETS = {
    "1.0": 3,
    "10.0": 5,
    "60.0": 5,
    "600.0": 6,
    "3600.0": 7,
    "21600.0": 8,
    "86400.0": 8,
    "259200.0": 9,
    "604800.0": 9,
    "1.2096e+06": 9,
    "2.592e+06": 10,
    "+Inf": 11,
}


@pytest.mark.parametrize("turned", [False, True], ids=["prediction first", "truth first"])
def test_the_delay_of_labels(shop: Deployment, turned: bool) -> None:
    """Each first truth of a logged row by the times of both events; one before its prediction counts 0; a bound holds
    its own."""
    base = ago(60 * DAY)
    for number, delay in enumerate(DELAYS):
        sends: list[Callable[[], None]] = [
            lambda: shop.predict(f"r{number}", "cat", at=base),  # noqa: B023
            lambda: shop.truth(f"r{number}", "cat", at=base + delay),  # noqa: B023
        ]
        for send in reversed(sends) if turned else sends:
            send()
    shop.truth("r0", "dog", at=base + 50 * DAY)  # a correction
    shop.pair("p", "cat", "cat", at=base)  # never logged
    page = shop.page()
    assert {float(bound): count for bound, count in page.by("model_label_delay_seconds_bucket", "le").items()} == {
        float(bound): count for bound, count in DELAY_BUCKETS.items()
    }
    assert page("model_label_delay_seconds_count") == len(DELAYS)
    assert page("model_label_delay_seconds_sum") == sum(DELAYS[1:])


def test_the_latency_of_predictions(shop: Deployment) -> None:
    """From request to response by the times of sending, whichever event arrives first; the request's overtaken response
    counts 0."""
    base = ago(10)
    for number, (seconds, turned) in enumerate([(0.25, False), (0.25, True), (2, False), (40, True), (-1, False)]):
        sends: list[Callable[[], object]] = [
            lambda: shop.send(REQUEST, {"data": {"ndarray": [[1]]}}, f"r{number}", base),  # noqa: B023
            lambda: shop.predict(f"r{number}", 1, at=base + seconds),  # noqa: B023
        ]
        for send in reversed(sends) if turned else sends:
            send()
    shop.predict("alone", 1, at=base)
    page = shop.page()
    buckets = {float(bound): count for bound, count in page.by("model_prediction_latency_seconds_bucket", "le").items()}
    assert {bound: buckets[bound] for bound in (0.001, 0.1, 0.25, 1, 2.5, 30, float("inf"))} == {
        0.001: 1,
        0.1: 1,
        0.25: 3,
        1: 3,
        2.5: 4,
        30: 4,
        float("inf"): 5,
    }
    assert page("model_prediction_latency_seconds_count") == 5
    assert page("model_prediction_latency_seconds_sum") == 42.5


def test_the_latency_of_kserve_predictions(shop: Deployment) -> None:
    """Request and response have one id there, and are told apart by their type."""
    base = ago(10)
    for number, turned in enumerate((False, True)):
        headers = shop.headers(KSERVE_REQUEST, at=base) | {"Ce-Id": shop.id(f"k{number}"), "Ce-Component": "predictor"}
        del headers["Ce-Modelid"]
        events = [
            (headers, {"instances": [[1]]}),
            (headers | {"Ce-Type": KSERVE_RESPONSE, "Ce-Time": stamp(base + 0.5)}, {"predictions": [1]}),
        ]
        for sent, body in reversed(events) if turned else events:
            assert shop.server.post(body, sent).status == 200
            assert shop.server.post(body, sent).status == 200  # a repeat adds nothing
    page = shop.page()
    assert page("model_prediction_latency_seconds_count", model_name="predictor") == 2
    assert page("model_prediction_latency_seconds_sum") == 1
    assert page("model_predictions_total") == 2


def test_when_the_last_prediction_and_label_came(serve: Serve) -> None:
    """By their arrival, whatever their event times; each is absent until the first, and survives kill -9."""
    server = serve()
    logged, paired = Deployment(server), Deployment(server)
    before = time.time()
    logged.predict("r", 1, at=ago(20 * DAY))
    paired.pair("p", 1, 1, at=ago(10 * DAY))
    paired.truth("never met", 1)
    names = "model_last_prediction_timestamp_seconds", "model_last_label_timestamp_seconds"
    told = [[one.page()(name) for name in names] for one in (logged, paired)]
    assert [[at is not None for at in both] for both in told] == [[True, False], [False, True]]
    for at in (told[0][0], told[1][1]):
        assert at is not None
        assert before <= at <= time.time()
    server.process.kill()
    server.process.wait(30)
    logged.server = paired.server = serve()
    assert [[one.page()(name) for name in names] for one in (logged, paired)] == told


def test_the_last_label_is_remembered_to_ten_seconds(serve: Serve) -> None:
    """After a restart the times of the last prediction and of the last label are each at most 10 s behind."""
    server = serve()
    shop = Deployment(server)
    shop.predict("r", 1)
    shop.truth("r", 1)
    told = shop.page()("model_last_label_timestamp_seconds")
    assert told is not None
    server.stop()
    shop.server = serve()
    again = shop.page()("model_last_label_timestamp_seconds")
    assert again is not None
    assert told - 10 <= again <= told


# What becomes of a truth


def test_the_statuses_of_truths(shop: Deployment) -> None:
    """Each row of truth that meets a prediction counts under one status; those of a series that do not fit move nothing
    else."""
    at = ago(DAY)
    shop.predict("r", "cat", at=at)
    shop.truth("r", "cat", at=at + 100)
    assert shop.page().statuses() == {"matched": 1}
    shop.truth("r", "cat", at=at + 200)
    assert shop.page().statuses() == {"matched": 1, "duplicate": 1}
    shop.truth("r", "dog", at=at + 300)
    assert shop.page().statuses() == {"matched": 1, "duplicate": 1, "corrected": 1}
    shop.truth("r", "owl", at=at + 250)
    assert shop.page().statuses() == {"matched": 1, "duplicate": 1, "corrected": 1, "superseded": 1}
    shop.truth("r", None, at=at + 400)
    before = {"matched": 1, "duplicate": 1, "corrected": 1, "superseded": 1, "retracted": 1}
    assert shop.page().statuses() == before
    assert shop.page().cells() == {}
    assert shop.page()("model_support") is None
    shop.predict("ancient", "cat", at=ago(420 * DAY))
    shop.truth("ancient", "cat")
    assert shop.page().statuses() == before | {"too_old": 1}
    assert shop.page().cells() == {("cat", "cat"): 1}
    assert shop.page()("model_support") is None
    moved = shop.page()("model_confusion_total")
    shop.predict("other kind", "cat")
    shop.truth("other kind", 12.5)
    assert shop.page().statuses() == before | {"too_old": 1, "task_mismatch": 1}
    shop.predict("opaque", {"an": "object", "of": 2})
    shop.truth("opaque", "cat")
    assert shop.page().statuses() == before | {"too_old": 1, "task_mismatch": 1, "unscorable": 1}
    assert shop.page()("model_confusion_total") == moved


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=lambda order: "".join(map(str, order)))
def test_the_latest_truth_stands_in_any_order(shop: Deployment, order: tuple[int, ...]) -> None:
    """A prediction and three truths, one of which takes all back and one of which comes after: the net is the same."""
    at = ago(HOUR)
    sends: list[Callable[[], None]] = [
        lambda: shop.predict("r", "cat", at=at),
        lambda: shop.truth("r", "cat", at=at + 1),
        lambda: shop.truth("r", None, at=at + 2),
        lambda: shop.truth("r", "dog", at=at + 3),
    ]
    for index in order:
        sends[index]()
    page = shop.page()
    assert page.cells() == {("dog", "cat"): 1}
    assert page("model_support", window="1d") == 1
    assert page("model_accuracy_ratio", window="1d") == 0
    retracted = page("model_labels_retracted_total", status="matched") or 0
    assert page.statuses()["matched"] - retracted == 1
    assert page("model_label_delay_seconds_count") == 1


def test_a_correction_moves_the_net_and_only_the_net(shop: Deployment) -> None:
    """Applied and retracted both grow; window gauges hold what stands; the ancestor's counters keep the first truth."""
    shop.predict("r", [0.1, 0.2, 0.7], [0.8, 0.1, 0.1])
    shop.truth("r", 2, 0, at=ago(100))
    assert shop.page()("model_accuracy_ratio", window="1h") == 1
    shop.truth("r", 2, 1, at=ago(50))
    page = shop.page()
    assert page.by("model_confusion_total", "truth", "prediction") == {("2", "2"): 1, ("0", "0"): 1, ("1", "0"): 1}
    assert page.by("model_confusion_retracted_total", "truth", "prediction") == {("0", "0"): 1}
    assert page.statuses() == {"matched": 2, "duplicate": 1, "corrected": 1}
    assert page("model_accuracy_ratio", window="1h") == 0.5
    assert page("model_precision_ratio", window="1h", **{"class": "0"}) == 0
    assert page("model_recall_ratio", window="1h", **{"class": "1"}) == 0
    assert page("model_recall_ratio", window="1h", **{"class": "0"}) is None
    assert page.by("seldon_metric_true_positive_total", "class") == {"CLASS_2": 1, "CLASS_0": 1}
    assert page("seldon_metric_false_positive_total", **{"class": "CLASS_0"}) in (None, 0)


# Rows


def test_a_truth_of_some_rows(shop: Deployment) -> None:
    """Rows go by their place: a truth of two labels the first two of three, and the third when it is told."""
    shop.predict("r", "a", "b", "c")
    shop.truth("r", "a", "x")
    page = shop.page()
    assert page.cells() == {("a", "a"): 1, ("x", "b"): 1}
    assert page("model_label_coverage_ratio", window="1h") == 2 / 3
    assert page("model_predictions_total") == 3
    shop.tell(request_id="r", row=2, truth="c")
    assert shop.page().cells() == {("a", "a"): 1, ("x", "b"): 1, ("c", "c"): 1}


def test_truths_beyond_the_rows_of_the_response_wait(serve: Serve) -> None:
    """They are pending, and met by a later response to the same request that has these rows."""
    server = serve("--store", "memory://")
    shop = Deployment(server)
    shop.predict("r", "a", "b", at=ago(100))
    shop.truth("r", "a", "b", "c", "d")
    assert shop.page().statuses() == {"matched": 2}
    until(lambda: pending(server) == (0, 2), 20, "two truths wait")
    shop.predict("r", "a", "x", "c", at=ago(50))
    page = shop.page()
    assert page.cells() == {("a", "a"): 1, ("b", "x"): 1, ("c", "c"): 1}
    assert page("model_predictions_total") == 3
    assert page("model_support", window="1h") == 3
    until(lambda: pending(server) == (0, 1), 20, "one truth waits")


# One request, several models


def test_the_nodes_of_a_graph_each_have_a_series(shop: Deployment) -> None:
    """One truth labels what every node said, in the node's own series; an output that is no answer to it is
    unscorable."""
    shop.predict("r", [5.1, 3.5, 1.4, 0.2], modelid="scaler")
    shop.predict("r", [0.1, 0.2, 0.7], modelid="tree")
    shop.predict("r", [0.6, 0.3, 0.1], modelid="net")
    for node in ("scaler", "tree", "net"):  # feedback is logged by every node that it visits
        shop.send(FEEDBACK, {"truth": {"data": {"ndarray": [[0, 0, 1]]}}}, "r", ago(0), modelid=node)
    page = shop.page()
    assert page.cells(model_name="tree") == {("2", "2"): 1}
    assert page.cells(model_name="net") == {("2", "0"): 1}
    assert page.cells(model_name="scaler") == {}
    assert page.by("model_predictions_total", "model_name") == {"scaler": 1, "tree": 1, "net": 1}
    assert page.statuses(model_name="tree")["matched"] == 1
    assert "matched" not in page.statuses(model_name="scaler")
    assert page.statuses(model_name="scaler")["unscorable"] >= 1
    assert page.by("model_support", "model_name", window="1h") == {"tree": 1, "net": 1}


@pytest.mark.parametrize("truth_at", [0, 1, 2, 3, 4])
def test_a_combiner_logs_twice(shop: Deployment, truth_at: int) -> None:
    """Two request and two response events with equal request id and model are one prediction, wherever the truth comes
    between."""
    at = ago(10)
    body = {"data": {"ndarray": ["cat"]}}
    sends = [(REQUEST, at), (REQUEST, at), (RESPONSE, at + 0.5), (RESPONSE, at + 0.5)]
    for number in range(5):
        if number == truth_at:
            shop.truth("r", "cat", modelid="combiner")
        if number < 4:
            shop.send(sends[number][0], body, "r", sends[number][1], modelid="combiner")
    page = shop.page()
    assert page("model_predictions_total") == 1
    assert page.by("model_predicted_class_total", "class") == {"cat": 1}
    assert page.cells() == {("cat", "cat"): 1}
    assert page.statuses() == {"matched": 1}
    assert page("model_label_coverage_ratio", window="1h") == 1
    assert page("model_prediction_latency_seconds_count") == 1
    assert page("model_prediction_latency_seconds_sum") == 0.5


@pytest.mark.parametrize("turned", [False, True], ids=["own output first", "children's result first"])
def test_an_output_transformer_logs_two_different_outputs(shop: Deployment, turned: bool) -> None:
    """Of two responses of one node the later by its time stands, in whichever order they arrive, with a truth between
    them."""
    at = ago(10)
    sends = [lambda: shop.predict("r", "cat", at=at), lambda: shop.predict("r", "dog", at=at + 1)]
    first, second = reversed(sends) if turned else sends
    first()
    shop.truth("r", "dog")
    second()
    page = shop.page()
    assert page.cells() == {("dog", "dog"): 1}
    assert page("model_predictions_total") == 1
    assert page("model_support", window="1h") == 1


def test_a_shadow_is_labelled_by_the_same_truth(shop: Deployment) -> None:
    """Main and shadow predictor logged the request under one id; the feedback is told once, under one of them."""
    shop.predict("r", "cat", endpoint="main")
    shop.truth("r", "cat", endpoint="main")
    shop.predict("r", "dog", endpoint="shadow")
    page = shop.page()
    assert page.cells(predictor_name="main") == {("cat", "cat"): 1}
    assert page.cells(predictor_name="shadow") == {("cat", "dog"): 1}
    assert page.statuses() == {"matched": 2}


@pytest.mark.parametrize("carried", [False, True], ids=["truth alone", "with its response"])
@pytest.mark.parametrize("turned", [False, True], ids=["prediction first", "feedback first"])
def test_feedback_balanced_to_the_other_predictor(shop: Deployment, turned: bool, carried: bool) -> None:
    """A canary's feedback call may go through the main predictor: the pair has the labels of the prediction."""

    def feedback() -> None:
        if carried:
            shop.pair("r", "cat", "cat", endpoint="main")
        else:
            shop.truth("r", "cat", endpoint="main")

    if turned:
        feedback()
    shop.predict("r", "dog", endpoint="canary")
    if not turned:
        feedback()
    page = shop.page()
    assert page.cells(predictor_name="canary") == {("cat", "dog"): 1}
    assert page.cells(predictor_name="main") == {}
    assert page("model_support", window="1h", predictor_name="main") is None
    assert page("model_accuracy_ratio", window="1h", predictor_name="canary") == 0


def test_feedback_of_nodes_that_took_no_part(shop: Deployment) -> None:
    """An A/B graph logs feedback under every arm; the response's requestPath says which ones it went through."""
    response = {"data": {"ndarray": ["cat"]}, "meta": {"requestPath": {"router": "img:1", "a": "img:1"}}}
    for node in ("router", "a", "b"):
        body = {"response": response, "truth": {"data": {"ndarray": ["cat"]}}}
        shop.send(FEEDBACK, body, "r", ago(0), modelid=node)
    page = shop.page()
    assert page.by("model_support", "model_name", window="1h") == {"router": 1, "a": 1}
    assert page.cells(model_name="b") == {}


def test_a_truth_that_names_its_deployment(shared: RunningServer) -> None:
    """Two deployments were asked under one request id; a truth for one of them labels that one, and waits for it if
    need be."""
    shop, other = Deployment(shared), Deployment(shared)
    other.id = shop.id  # type: ignore[method-assign]
    shop.predict("r", "cat")
    assert shop.tell(request_id="r", truth="dog", deployment=other.name) == "pending"
    assert shop.page().cells() == {}
    other.predict("r", "cat")
    assert other.page().cells() == {("dog", "cat"): 1}
    assert shop.page().cells() == {}
    assert shop.tell(request_id="r", truth="cat", deployment=shop.name) == "accepted"
    assert shop.page().cells() == {("cat", "cat"): 1}
    assert other.page().cells() == {("dog", "cat"): 1}


# Ids


@pytest.mark.parametrize("part", ["response", "request", "truth"])
@pytest.mark.parametrize("turned", [False, True], ids=["prediction first", "feedback first"])
def test_a_feedback_is_known_by_the_puid_in_its_body(shop: Deployment, part: str, turned: bool) -> None:
    """The request id of a feedback is of the feedback's own call; meta.puid of any of its parts joins it to the
    prediction."""
    meta = {"meta": {"puid": shop.id("r")}}
    body: dict[str, Any] = {"truth": {"data": {"ndarray": ["cat"]}}}
    body[part] = body.get(part, {}) | meta
    if turned:
        shop.send(FEEDBACK, body, "a call of its own")
    shop.predict("r", "dog")
    if not turned:
        shop.send(FEEDBACK, body, "a call of its own")
    assert shop.page().cells() == {("cat", "dog"): 1}
    assert shop.page().statuses() == {"matched": 1}


@pytest.mark.parametrize("kind", [REQUEST, RESPONSE])
def test_a_prediction_is_known_by_the_puid_in_its_body(shop: Deployment, kind: str) -> None:
    """The client's own id in the request or the response joins as well as the executor's."""
    meta = {"puid": shop.id("mine")}
    if kind == REQUEST:
        shop.send(REQUEST, {"data": {"ndarray": [[1]]}, "meta": meta}, "r")
    shop.predict("r", "dog", meta=meta if kind == RESPONSE else None)
    shop.truth("mine", "cat")
    assert shop.page().cells() == {("cat", "dog"): 1}
    shop.truth("r", "cow")
    assert shop.page().cells() == {("cow", "dog"): 1}
    assert shop.page().statuses() == {"matched": 1, "corrected": 1}


@pytest.mark.parametrize("turned", [False, True], ids=["predictions first", "truths first"])
def test_the_items_of_a_batch(shop: Deployment, turned: bool) -> None:
    """<id>-item-<n> names row n, by CloudEvent and by plain JSON, until a prediction was logged under exactly that
    id."""

    def truths() -> None:
        shop.truth("r-item-0", "a")
        shop.tell(request_id="r-item-1", truth="x")
        shop.tell(request_id="r-item-2", truth="exact")

    if turned:
        truths()
    shop.predict("r", "a", "b", "c")
    shop.predict("r-item-2", "exact")
    if not turned:
        truths()
    page = shop.page()
    assert page.cells() == {("a", "a"): 1, ("x", "b"): 1, ("exact", "exact"): 1}
    assert page("model_label_coverage_ratio", window="1h") == 3 / 4


def test_seldons_ingress_header(shop: Deployment) -> None:
    """Seldon-Puid on the feedback route is the id of the prediction."""
    shop.predict("r", [0.1, 0.9])
    path = f"/seldon/shop/{shop.name}/api/v1.0/feedback"
    answer = shop.server.post({"truth": {"data": {"ndarray": [[0, 1]]}}}, {"Seldon-Puid": shop.id("r")}, path)
    assert (answer.status, answer.headers["Seldon-Puid"]) == (200, shop.id("r"))
    assert shop.page().cells() == {("1", "1"): 1}


# Feedback that carries its response


@pytest.mark.parametrize("turned", [False, True], ids=["logged before", "logged after"])
def test_a_carried_response_gives_way_to_the_logged_one(shop: Deployment, turned: bool) -> None:
    """The pair has the value, labels and time of the logged prediction, and counts once."""
    at = ago(2 * DAY)
    sends: list[Callable[[], None]] = [
        lambda: shop.predict("r", "dog", at=at),
        lambda: shop.pair("r", "cat", "cat", at=at + HOUR, endpoint="other"),
    ]
    for send in reversed(sends) if turned else sends:
        send()
    page = shop.page()
    assert page.cells() == {("cat", "dog"): 1}
    assert page.cells(predictor_name="other") == {}
    assert page.windows() == {"7d": 1, "30d": 1}
    assert page("model_predictions_total", predictor_name="main") == 1
    assert page("model_support", window="7d", predictor_name="other") is None
    assert page.by("model_label_coverage_ratio", "predictor_name", window="7d") == {"main": 1}


def test_a_pair_that_is_never_logged(shop: Deployment) -> None:
    """It counts once for its request, however many nodes log it, and a later truth corrects it."""
    for event in range(3):
        shop.pair("r", "cat", "cat", at=ago(100 - event))
    page = shop.page()
    assert page.cells() == {("cat", "cat"): 1}
    assert page.statuses() == {"matched": 1, "duplicate": 2}
    assert page("model_predictions_total") in (None, 0)
    shop.truth("r", "dog")
    assert shop.page().cells() == {("dog", "cat"): 1}


# Windows


@pytest.mark.parametrize(
    ("age", "windows"),
    [
        (30 * MINUTE, {"1h", "1d", "7d", "30d"}),
        (2 * HOUR, {"1d", "7d", "30d"}),
        (2 * DAY, {"7d", "30d"}),
        (10 * DAY, {"30d"}),
        (100 * DAY, set()),
    ],
    ids=lambda value: "+".join(sorted(value)) if isinstance(value, set) else str(value),
)
def test_a_pair_lands_in_the_windows_of_its_prediction(shop: Deployment, age: int, windows: set[str]) -> None:
    """Whether its label came at once, later, or now: support, accuracy, coverage and output statistics go by the
    prediction's time."""
    for number, delay in enumerate((-60, 0, age // 2, age)):
        shop.predict(f"r{number}", 3, at=ago(age))
        shop.truth(f"r{number}", 3 if number else 4, at=ago(age - delay))
    page = shop.page()
    assert page.windows() == dict.fromkeys(windows, 4)
    assert page.windows("model_accuracy_ratio") == dict.fromkeys(windows, 0.75)
    assert page.windows("model_label_coverage_ratio") == dict.fromkeys(windows, 1)
    assert page.windows("model_output_mean") == dict.fromkeys(windows, 3)
    assert page("model_confusion_total") == 4


# The page


def test_a_page_with_everything_on_it_is_well_formed(serve: Serve) -> None:
    """Histograms, slices, corrections, names to be escaped: promtool and the strict parsers of both formats take it."""
    server = serve("--store", "memory://", "--slices", "build=tag:build")
    shop = Deployment(server)
    at = ago(50)
    for number, build in enumerate(("r17", 'a"b\\c{}é 😀')):
        shop.send(REQUEST, {}, f"r{number}", at)
        shop.predict(f"r{number}", "cat", at=at + 1, meta={"tags": {"build": build}})
        shop.truth(f"r{number}", "cat", at=at + 2)
        shop.truth(f"r{number}", 'do"g\\{}', at=at + 3)
    shop.predict("p", 12.5, modelid="price")
    shop.truth("p", 14.5, modelid="price")
    shop.send(FEEDBACK, {"reward": 0.5}, "p", modelid="price")
    assert shop.page()("model_prediction_latency_seconds_count") == 2
    assert shop.page().by("model_support", "slice", window="1h", model_name="classifier") == {
        "": 2,
        "build=r17": 1,
        'build=a"b\\c{}é 😀': 1,
    }
    text = server.get("/metrics").body
    families = list(strict_text(text.decode()))
    assert len({family.name for family in families}) == len(families)
    openmetrics = server.get("/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"})
    assert openmetrics.headers["Content-Type"].startswith("application/openmetrics-text")
    kinds = {family.name: family.type for family in strict_openmetrics(openmetrics.body.decode())}
    assert kinds["model_label_delay_seconds"] == kinds["model_prediction_latency_seconds"] == "histogram"
    checked = subprocess.run([peer("promtool"), "check", "metrics"], input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


# A storm


def _stream(shop: Deployment, at: float) -> list[tuple[Mapping[str, str], bytes]]:
    """40 requests of two rows: request, response, truth, a correction of every fourth; and 20 pairs with rewards."""
    events: list[tuple[Mapping[str, str], Any]] = []
    for number in range(40):
        events += [
            (shop.headers(REQUEST, f"r{number}", at), {"data": {"ndarray": [[1], [2]]}}),
            (shop.headers(RESPONSE, f"r{number}", at + 0.5), {"data": {"ndarray": ["cat", "dog"]}}),
            (shop.headers(FEEDBACK, f"r{number}", at + 60), {"truth": {"data": {"ndarray": ["cat", "cat"]}}}),
        ]
        if number % 4 == 0:
            events.append(
                (shop.headers(FEEDBACK, f"r{number}", at + 90), {"truth": {"data": {"ndarray": ["cat", "dog"]}}})
            )
    for number in range(20):
        body = {"response": {"data": {"ndarray": ["owl"]}}, "truth": {"data": {"ndarray": ["owl"]}}, "reward": 0.5}
        events.append((shop.headers(FEEDBACK, f"p{number}" if number % 2 else "", at), body))
    return [(headers, json.dumps(body).encode()) for headers, body in events]


def _post_all(port: int, events: list[tuple[Mapping[str, str], bytes]], refused: list[int]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for headers, body in events:
        connection.request("POST", "/", body, dict(headers))
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            refused.append(answer.status)
    connection.close()


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.long) for seed in (2, 3))])
def test_a_storm_of_duplicates(serve: Serve, seed: int) -> None:
    """Every event five times, shuffled, over four connections at once: the numbers are those of every event once."""
    server = serve()
    shop = Deployment(server)
    events = _stream(shop, ago(2 * HOUR))
    sent = events * 5
    random.Random(seed).shuffle(sent)
    refused: list[int] = []
    threads = [threading.Thread(target=_post_all, args=(server.port, sent[part::4], refused)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert refused == []
    page = shop.page()
    assert page("model_predictions_total") == 80
    assert page.by("model_predicted_class_total", "class") == {"cat": 40, "dog": 40}
    assert page.cells() == {("cat", "cat"): 40, ("cat", "dog"): 30, ("dog", "dog"): 10, ("owl", "owl"): 20}
    assert page.statuses()["matched"] == 100
    assert page("model_accuracy_ratio", window="1d") == 70 / 100
    assert page("model_support", window="1d") == 100
    assert page("model_label_coverage_ratio", window="1d") is None  # 100 labelled, 80 logged
    assert page("model_label_delay_seconds_count") == 80
    assert page("model_prediction_latency_seconds_count") == 40
    assert page("model_prediction_latency_seconds_sum") == 20
    assert page("model_rewards_total") == 20
    assert page.windows("model_reward_mean") == {"1d": 0.5, "7d": 0.5, "30d": 0.5}
    assert server.value("metrics_server_events_total", outcome="accepted") == len(events)
    assert server.value("metrics_server_events_total", outcome="duplicate") == 4 * len(events)
    assert server.value("metrics_server_received_total") == 5 * len(events)
