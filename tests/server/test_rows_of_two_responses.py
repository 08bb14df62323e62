"""A node with children logs two responses under one id. Of these one stands, with its rows and no others, however many
the other one has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.arrivals import ANSWERED, Arrival, feedback, in_every_order, logged, message, net_statuses
from tests.support.deployments import Page, starter
from tests.support.peers.ledger import net
from tests.support.running import RunningServer

NODE = "scaler"
ONE, THREE = [[0.1, 0.2, 0.7]], [[0.1, 0.2, 0.7], [0.8, 0.1, 0.1], [0.2, 0.6, 0.2]]  # classes 2, 0, 1
BELOW = NODE, "classifier"  # the path of the answer of the graph
LATER = ANSWERED - 5


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    options = (
        "--store",
        "memory://",
        "--windows",
        "1h",
        "--storage_uri",
        "cm_models.multiclass_one_hot.MulticlassOneHot",
    )
    yield from starter(tmp_path_factory.mktemp("responses"), *options)


def assert_rows(page: Page, order: str, labelled: list[int], predicted: list[int]) -> None:
    """These truths met these predictions, all of them right, and nothing else stands."""
    counts = Counter(map(str, predicted))
    assert page.cells() == Counter((str(one), str(one)) for one in labelled), order
    assert net_statuses(page) == {"matched": len(labelled)}, order
    assert net(page, "model_decisions", correct="true") == page("model_support", window="1h") == len(labelled), order
    assert page("model_label_coverage_ratio", window="1h") == len(labelled) / len(predicted), order
    assert {one: net(page, "model_predicted_class", **{"class": one}) for one in counts} == counts, order
    shares = {one: count / len(predicted) for one, count in counts.items()}
    assert page.by("model_predicted_class_ratio", "class", window="1h") == shares, order


def truth(rows: list[Any]) -> Arrival:
    return feedback(NODE, {"truth": message(rows)})


@pytest.mark.parametrize(
    ("own", "answer"),
    [
        pytest.param(logged(NODE, THREE, NODE), logged(NODE, ONE, *BELOW), id="sent after it"),
        pytest.param(logged(NODE, THREE, NODE, at=LATER), logged(NODE, ONE, *BELOW), id="sent before it"),
    ],
)
def test_the_answer_of_the_graph_has_fewer_rows(server: RunningServer, own: Arrival, answer: Arrival) -> None:
    """The further rows of the other response are in no window, and no truth labels them, in any order: those seen in
    the log are counted as seen."""
    for rows in ([[2]], [[2], [0], [1]]):
        for order, page in in_every_order(server, own, answer, truth(rows)):
            assert_rows(page, order, [2], [2])
            assert page("model_predictions_total") == 3, order


def test_the_answer_of_the_graph_has_more_rows(server: RunningServer) -> None:
    """All of them count, in any order."""
    events = logged(NODE, ONE, NODE), logged(NODE, THREE, *BELOW), truth([2, 0, 1])
    for order, page in in_every_order(server, *events):
        assert_rows(page, order, [2, 0, 1], [2, 0, 1])


def test_a_flat_truth_is_read_by_the_answer_that_stands(server: RunningServer) -> None:
    """A transformer's own output is a flat list of features, which are rows; the answer is one row, and so is the
    one-hot truth."""
    events = logged(NODE, [5.1, 3.5, 1.4, 0.2], NODE), logged(NODE, ONE, *BELOW), truth([0, 0, 1])
    for order, page in in_every_order(server, *events):
        assert_rows(page, order, [2], [2])


def test_rows_that_come_back_are_counted_once(server: RunningServer) -> None:
    """Of three responses the last to stand has again the rows of the first: no counter of first pairs counts twice."""
    events = [logged(NODE, THREE), logged(NODE, ONE, NODE), logged(NODE, THREE, *BELOW), truth([2, 0, 1])]
    for order, page in in_every_order(server, *events):
        assert_rows(page, order, [2, 0, 1], [2, 0, 1])
        assert page("model_predictions_total") == 3, order
        assert sum(page.by("seldon_metric_true_positive_total", "class").values()) == 3, order
        assert page("model_label_delay_seconds_count") == 3, order


def test_responses_with_equal_paths_may_be_of_some_rows(server: RunningServer) -> None:
    """Nothing says that the one with fewer rows is the whole answer: of each row the later stands."""
    events = logged(NODE, THREE), logged(NODE, [[0.8, 0.1, 0.1]], at=LATER), truth([0, 0, 1])
    for order, page in in_every_order(server, *events):
        assert_rows(page, order, [0, 0, 1], [0, 0, 1])


def test_another_node_keeps_its_rows(server: RunningServer) -> None:
    """The rows of another node under the same truth stay as they are."""
    own, answer = logged(NODE, THREE, NODE), logged(NODE, ONE, *BELOW)
    for order, page in in_every_order(server, own, answer, logged("classifier", THREE, "classifier"), truth([2, 0, 1])):
        assert page.by("model_support", "model_name", window="1h") == {NODE: 1, "classifier": 3}, order
