"""Whose pair, whose reward, which response and how many rows: each rule for what real senders send, and each case that
looks like it and is not, in every order of arrival."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.support.arrivals import (
    ANSWERED,
    LABELLED,
    NOW,
    PREDICTED,
    Arrival,
    asked,
    assert_comes_to,
    feedback,
    in_every_order,
    logged,
    message,
    net_statuses,
)
from tests.support.deployments import Deployment, Page, pending, starter
from tests.support.peers.ledger import Ledger, net, standings_on
from tests.support.running import FEEDBACK, RunningServer
from tests.support.waiting import until

ONE_HOT, MULTI_LABEL, RANKING = "one-hot", "multi-label", "ranking"  # predictors whose metric models take rows
METRIC_MODELS = {
    ONE_HOT: "cm_models.multiclass_one_hot.MulticlassOneHot",
    MULTI_LABEL: "cm_models.multilabel.MultiLabel",
    RANKING: "cm_models.ranking.Ranking",
}
ZERO = "leaves-zeros-out"  # a deployment whose senders do
CONFIG = {
    "deployments": [
        *({"predictor": name, "storage_uri": path} for name, path in METRIC_MODELS.items()),
        {"deployment": ZERO, "absent_reward": "zero"},
    ]
}

RIGHT, WRONG = [0.1, 0.2, 0.7], [0.8, 0.1, 0.1]  # rows of a model where the truth is class 2
TRUTH = [[0, 0, 1]]


def start(directory: Path) -> Iterator[RunningServer]:
    (directory / "config.yaml").write_text(json.dumps(CONFIG))  # JSON is YAML
    options = "--store", "memory://", "--windows", "1h", "--max_series", "100000"
    yield from starter(directory, *options, "--config", str(directory / "config.yaml"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    yield from start(tmp_path_factory.mktemp("rules"))


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RunningServer]:
    """One that no other test sends anything."""
    yield from start(tmp_path)


def carried(*path: str, row: list[float] = RIGHT, **more: Any) -> dict[str, Any]:
    """A Feedback with the response of a model, and the true class; `truth=None` is none, as `reward=None` is."""
    body = {"response": message([row], *path), "truth": message(TRUTH), **more}
    return {member: value for member, value in body.items() if value is not None}


def rewarded(*path: str, reward: float = 1.0) -> dict[str, Any]:
    """A Feedback with a response and a reward alone."""
    return carried(*path, truth=None, reward=reward)


def by_id(rows: list[Any], **more: Any) -> dict[str, Any]:
    """A Feedback with a truth alone, which joins its prediction by the id."""
    return {"truth": message(rows), **more}


class Expected(Ledger):
    """What all orders must come to, of the truth of class 2."""

    def right(self, model: str, *, logged: bool = True, predictor: str = "main") -> Expected:
        return self._row(model, 2, logged, predictor)

    def wrong(self, model: str, *, logged: bool = True, predictor: str = "main") -> Expected:
        return self._row(model, 0, logged, predictor)

    def with_rewards(self, model: str, *rewards: float, predictor: str = "main") -> Expected:
        for reward in rewards:
            self.reward(model, reward, predictor)
        return self

    def unlabelled(self, model: str, rows: int = 1, predictor: str = "main") -> Expected:
        self.log(model, rows, predictor)
        return self

    def _row(self, model: str, prediction: int, logged: bool, predictor: str) -> Expected:
        if logged:
            self.log(model, 1, predictor)
        self.pair(model, [2], [prediction], predictor)
        return self


def by_model(page: Page, family: str) -> dict[str, int]:
    """A counter less what was taken back, by model."""
    names = {sample.labels["model_name"] for sample in page.samples if "model_name" in sample.labels}
    found = {name: net(page, family, model_name=name) for name in names}
    return {name: count for name, count in found.items() if count}


# Rule 1: feedback that names no model belongs to the model on its path


def test_the_path_of_the_ingress_names_no_model(server: RunningServer) -> None:
    """What `SeldonClient.feedback` posts, a response with a `requestPath`, is a pair and a reward of the path's only
    name: 20 of 20."""
    shop = Deployment(server)
    body = {"request": message([[5.1, 3.5]]), **carried("classifier", reward=0.5)}
    for _ in range(20):
        answer = server.post(body, {"Content-Type": "application/json"}, f"/seldon/shop/{shop.name}/api/v1.0/feedback")
        assert answer.status == 200, answer.body
    ledger = Expected().with_rewards("classifier", *[0.5] * 20, predictor="")
    ledger.pair("classifier", [2] * 20, [2] * 20, "")
    assert standings_on(shop.page()) == ledger.standings()


def test_an_event_without_a_model(server: RunningServer) -> None:
    """`POST /` without Ce-Modelid: the same."""
    ledger = Expected().right("classifier", logged=False).with_rewards("classifier", 1.0)
    assert_comes_to(server, ledger, feedback("", carried("classifier", reward=1.0)))


def test_a_path_of_several_names_names_no_model(server: RunningServer) -> None:
    """Feedback that names no model, with two models on its path, is one pair of model `""`."""
    ledger = Expected().right("", logged=False)
    assert_comes_to(server, ledger, feedback("", carried("scaler", "classifier")))


def test_the_pod_s_own_model_comes_after_the_path(serve: Serve) -> None:
    """PREDICTIVE_UNIT_ID names the model of feedback that names none and has no path; a path goes before it."""
    server = serve("--store", "memory://", environment={"PREDICTIVE_UNIT_ID": "unit"})
    assert_comes_to(server, Expected().right("unit", logged=False), feedback("", carried()))
    assert_comes_to(server, Expected().right("classifier", logged=False), feedback("", carried("classifier")))


# Rule 2: whose pair


def test_a_router_s_feedback_belongs_to_the_model_on_the_path(server: RunningServer) -> None:
    """A router never stands on the path: pair and reward belong to the path's only name, and the router has no
    series."""
    for _, page in in_every_order(server, feedback("router", carried("a", reward=1.0))):
        assert standings_on(page) == Expected().right("a", logged=False).with_rewards("a", 1.0).standings()
        assert {sample.labels.get("model_name", "a") for sample in page.samples} == {"a"}


def test_a_router_without_a_path(server: RunningServer) -> None:
    """Without a path what the router's feedback carries belongs to the stated model."""
    assert_comes_to(server, Expected().right("router", logged=False), feedback("router", carried()))


def test_router_and_arm_both_log_the_feedback(server: RunningServer) -> None:
    """One pair and one reward of the arm, once."""
    body = carried("a", reward=1.0)
    ledger = Expected().right("a", logged=False).with_rewards("a", 1.0)
    assert_comes_to(server, ledger, feedback("router", body), feedback("a", body))


def test_router_and_arms_log_the_feedback_and_one_arm_its_response(server: RunningServer) -> None:
    """What they carry gives way to the logged prediction of the arm that served, whenever it comes."""
    body = carried("a", row=WRONG, reward=1.0)
    ledger = Expected().right("a").with_rewards("a", 1.0)
    events = [feedback(model, body) for model in ("router", "a", "b")]
    assert_comes_to(server, ledger, *events, logged("a", [RIGHT], "a"))


def test_an_arm_that_did_not_serve_is_not_scored(server: RunningServer) -> None:
    """A logger on arm b alone, with an answer of a: the path says whose it is."""
    ledger = Expected().right("a", logged=False).with_rewards("a", 1.0)
    assert_comes_to(server, ledger, feedback("b", carried("a", reward=1.0)))


@pytest.mark.parametrize("path", [(), ("classifier",)], ids=["without a path", "with its path"])
def test_feedback_without_a_model_gives_way_to_the_log(server: RunningServer, path: tuple[str, ...]) -> None:
    """One pair, the logged one, where there were two."""
    events = feedback("", carried(*path, row=WRONG)), logged("classifier", [RIGHT], *path)
    assert_comes_to(server, Expected().right("classifier"), *events)


def test_feedback_without_a_model_gives_way_to_any_log(server: RunningServer) -> None:
    """Nothing was stated, so each logged prediction of the request is meant, and model `""` has nothing."""
    events = feedback("", carried()), logged("a", [RIGHT]), logged("b", [WRONG])
    assert_comes_to(server, Expected().right("a").wrong("b"), *events)


def test_another_model_s_log_does_not_take_the_pair(server: RunningServer) -> None:
    """A logged prediction of a model that is no candidate is labelled besides; the carried pair stays where it is."""
    events = feedback("a", carried("a")), logged("b", [WRONG], "b")
    assert_comes_to(server, Expected().right("a", logged=False).wrong("b"), *events)


def test_another_deployment_s_log_does_not_take_the_pair(server: RunningServer) -> None:
    """The same id in another namespace or deployment is another request."""

    def elsewhere(shop: Deployment) -> None:
        other = Deployment(server, f"{shop.name}-other")
        other.id = shop.id  # type: ignore[method-assign]
        logged("classifier", [WRONG])(other)

    other_namespace = logged("classifier", [WRONG], namespace="bank")
    for order, page in in_every_order(server, feedback("classifier", carried()), elsewhere, other_namespace):
        assert page.by("model_support", "deployment_namespace", window="1h") == {"shop": 1}, order
        assert page.cells() == {("2", "2"): 1}, order


def test_transformer_and_model_both_on_the_path(server: RunningServer) -> None:
    """Feedback of no model is one pair of model `""` until either of them logs, and then of that one."""
    body = carried("scaler", "classifier", row=WRONG)
    assert_comes_to(server, Expected().wrong("", logged=False), feedback("", body))
    assert_comes_to(server, Expected().right("classifier"), feedback("", body), logged("classifier", [RIGHT]))


def test_a_transformer_s_feedback_gives_way_to_its_model_s_log(server: RunningServer) -> None:
    """The stated model stands on the path, so the pair is its own, until the model behind it logs."""
    body = carried("scaler", "classifier", row=WRONG)
    assert_comes_to(server, Expected().wrong("scaler", logged=False), feedback("scaler", body))
    events = feedback("scaler", body), feedback("classifier", body), logged("classifier", [RIGHT])
    assert_comes_to(server, Expected().right("classifier"), *events)


def test_transformer_and_model_both_log(server: RunningServer) -> None:
    """The truth labels each logged prediction once, and nothing besides."""
    body = carried("scaler", "classifier", row=WRONG)
    events = feedback("router", body), logged("scaler", [RIGHT]), logged("classifier", [WRONG])
    assert_comes_to(server, Expected().right("scaler").wrong("classifier"), *events)


# Rule 3: rewards of 0


def test_a_reward_of_zero_that_was_left_out(server: RunningServer) -> None:
    """`{"request", "response"}` alone is a reward of 0: the mean of a bandit reads 0.25, not 1.0."""
    shop = Deployment(server)
    for number, body in enumerate([rewarded(), *[carried(truth=None)] * 3]):
        feedback("a", {"request": message([[1, 2]]), **body}, f"r{number}")(shop)
    page = shop.page()
    assert standings_on(page) == Expected().with_rewards("a", 1.0, 0.0, 0.0, 0.0).standings()
    assert page("model_reward_mean", window="1h") == 0.25


def test_a_reward_of_zero_in_protobuf(server: RunningServer) -> None:
    """The protobuf of the same message says the same."""
    shop = Deployment(server)
    response = base64.b64decode("EgAaLAoCYzAKAmMxCgJjMhIeCgIBAxIYmpmZmZmZuT+amZmZmZnJP2ZmZmZmZuY/")
    headers = shop.headers(FEEDBACK, "r", NOW - LABELLED, modelid="a") | {"Content-Type": "application/protobuf"}
    answer = server.post(b"\x12" + bytes([len(response)]) + response, headers)
    assert answer.status == 200, answer.body
    assert standings_on(shop.page()) == Expected().with_rewards("a", 0.0).standings()


@pytest.mark.parametrize("truth", [{"truth": None}, {"truth": None, "response": message([RIGHT])}], ids=str)
def test_a_truth_of_null_is_a_retraction_and_no_reward(server: RunningServer, truth: dict[str, Any]) -> None:
    """It takes the truth back, in any order, and says nothing of a reward."""
    events = logged("a", [RIGHT]), feedback("a", by_id(TRUTH)), feedback("a", truth, at=LABELLED - 10)
    for order, page in in_every_order(server, *events):
        assert standings_on(page) == Expected().unlabelled("a").standings(), order
        assert page("model_rewards_total") in (None, 0), order


def test_a_reward_of_null_is_none(server: RunningServer) -> None:
    """Where `reward` stands as a key, nothing was left out."""
    shop = Deployment(server)
    body = {"response": message([RIGHT]), "reward": None}
    assert server.post(body, shop.headers(FEEDBACK, "r")).status == 422
    assert shop.page()("model_rewards_total") in (None, 0)


def seventeen_of_twenty(shop: Deployment) -> None:
    """Feedback with truths by a sender that leaves out rewards of 0: 17 rewards of 1, and 3 of 0."""
    for number in range(20):
        feedback("a", carried(reward=1.0 if number < 17 else None), f"r{number}")(shop)


def test_a_truth_without_a_reward_says_nothing_of_one(server: RunningServer) -> None:
    """By default: the mean reads 1.0."""
    shop = Deployment(server)
    seventeen_of_twenty(shop)
    page = shop.page()
    assert page("model_reward_mean", window="1h") == 1.0
    assert page("model_rewards_total") == 17


def test_absent_reward_zero(server: RunningServer) -> None:
    """Where the deployment's senders leave zeros out, the mean reads 0.85."""
    shop = Deployment(server, ZERO)
    seventeen_of_twenty(shop)
    page = shop.page()
    assert page("model_reward_mean", window="1h") == 0.85
    assert page("model_rewards_total") == 20
    assert page("model_support", window="1h") == 20


def test_the_pod_s_own_deployment_has_its_rules_too(tmp_path: Path, serve: Serve) -> None:
    """Feedback that names no deployment is of the pod's own, and is read by the rules of that."""
    (tmp_path / "config.yaml").write_text(json.dumps(CONFIG))
    environment = {"SELDON_DEPLOYMENT_ID": ZERO, "PREDICTOR_ID": "main"}
    server = serve("--store", "memory://", "--config", str(tmp_path / "config.yaml"), environment=environment)
    answer = server.post(carried("a"), {"Content-Type": "application/json"})
    assert answer.status == 200, answer.body
    assert server.value("model_rewards_total", deployment_name=ZERO, model_name="a") == 1


# Rule 4: flat lists


FLAT = [
    pytest.param({"data": {"ndarray": [0, 0, 1]}}, id="ndarray"),
    pytest.param({"data": {"tensor": {"shape": [3], "values": [0, 0, 1]}}}, id="tensor"),
]
any_predictor = pytest.mark.parametrize("predictor", ["main", ONE_HOT])
THREE = [[0.1, 0.2, 0.7], [0.8, 0.1, 0.1], [0.2, 0.6, 0.2]]  # classes 2, 0, 1


def expect_rows(truths: list[int], predictions: list[int], predictor: str, model: str = "a") -> Ledger:
    ledger = Ledger()
    ledger.log(model, len(predictions), predictor)
    ledger.pair(model, truths, predictions, predictor)
    return ledger


@any_predictor
@pytest.mark.parametrize("truth", FLAT)
def test_a_flat_one_hot_truth_of_one_logged_row(server: RunningServer, truth: Any, predictor: str) -> None:
    """A row `[[.1,.2,.7]]` in the log, and by id the truth `[0,0,1]`, are one pair, and right."""
    events = logged("a", [RIGHT], endpoint=predictor), feedback("a", {"truth": truth}, endpoint=predictor)
    assert_comes_to(server, expect_rows([2], [2], predictor), *events)


@any_predictor
def test_a_flat_truth_is_corrected_as_a_whole(own_server: RunningServer, predictor: str) -> None:
    """A later list replaces all of the earlier one, and leaves no rows waiting."""
    row = logged("a", [RIGHT], endpoint=predictor)
    first, second = by_id([0, 0, 1]), by_id([1, 0, 0])
    events = row, feedback("a", first, endpoint=predictor), feedback("a", second, at=200, endpoint=predictor)
    for order, page in in_every_order(own_server, *events):
        assert standings_on(page) == expect_rows([0], [2], predictor).standings(), order
    until(lambda: pending(own_server) == (0, 0), 30, "rows wait that are none")


def test_an_id_of_an_item_takes_a_flat_truth_as_a_row(server: RunningServer) -> None:
    """`<id>-item-1` names one row, whatever the number of rows in the log."""
    events = logged("a", [RIGHT, WRONG]), feedback("a", by_id([0, 0, 1]), "r-item-1")
    ledger = Ledger()
    ledger.log("a", 2)
    ledger.pair("a", [2], [0])
    assert_comes_to(server, ledger, *events)


@any_predictor
def test_a_flat_truth_of_as_many_logged_rows(server: RunningServer, predictor: str) -> None:
    """`[0,0,1]` by id for three logged rows is three classes, though each row is three wide."""
    events = logged("a", THREE, endpoint=predictor), feedback("a", by_id([0, 0, 1]), endpoint=predictor)
    assert_comes_to(server, expect_rows([0, 0, 1], [2, 0, 1], predictor), *events)


@any_predictor
def test_a_flat_list_of_classes_stays_rows(server: RunningServer, predictor: str) -> None:
    """`[2,0,1]` by id for three logged rows of width 3 is three pairs."""
    events = logged("a", THREE, endpoint=predictor), feedback("a", by_id([2, 0, 1]), endpoint=predictor)
    assert_comes_to(server, expect_rows([2, 0, 1], [2, 0, 1], predictor), *events)


@pytest.mark.parametrize(
    "truth",
    [{"data": {"ndarray": [[0], [0], [1]]}}, {"data": {"tensor": {"shape": [3, 1], "values": [0, 0, 1]}}}],
    ids=["nested", "shape [3,1]"],
)
def test_a_list_that_says_its_rows_is_rows(server: RunningServer, truth: Any) -> None:
    """Shape [n,1] and nested lists are never one row: the first of them labels the only logged row."""
    events = logged("a", [RIGHT]), feedback("a", {"truth": truth})
    assert_comes_to(server, expect_rows([0], [2], "main"), *events)


def test_all_logged_responses_have_one_row(server: RunningServer) -> None:
    """A truth is one row if each response of the request has one row, and one of them is that wide."""
    events = logged("scaler", [[5.1, 3.5, 1.4, 0.2]]), logged("a", [RIGHT]), feedback("a", by_id([0, 0, 1]))
    for order, page in in_every_order(server, *events):
        assert page.cells(model_name="a") == {("2", "2"): 1}, order
        assert page("model_support", model_name="scaler", window="1h") in (None, 0), order
    events = logged("b", THREE), logged("a", [RIGHT]), feedback("a", by_id([0, 0, 1]))
    for order, page in in_every_order(server, *events):
        assert page.cells(model_name="b") == {("0", "2"): 1, ("0", "0"): 1, ("1", "1"): 1}, order
        assert page.cells(model_name="a") == {("0", "2"): 1}, order


@any_predictor
@pytest.mark.parametrize(
    ("row", "truth"),
    [(2, [0, 0, 1]), (2, [2, 0]), *((RIGHT, truth) for truth in ([0, 1, 1], [0, 0, 2], [0, 0, 0], [0, 0, 1, 0]))],
    ids=str,
)
def test_one_logged_row_against_several_truths(
    server: RunningServer, row: Any, truth: list[int], predictor: str
) -> None:
    """A scalar, or a row that the list is no one-hot of by its values or its width: nothing says which of the truths is
    meant, and they are unscorable."""
    for order, page in in_every_order(
        server, logged("a", [row], endpoint=predictor), feedback("a", by_id(truth), endpoint=predictor)
    ):
        assert page("model_support", window="1h") in (None, 0), order
        assert net_statuses(page) == {"unscorable": 1}, order


def test_grades_and_labels_of_one_row(server: RunningServer) -> None:
    """Where the metric model takes grades or many labels, a flat list of such is one row by id."""
    for predictor, truth in ((RANKING, [0, 2, 1]), (MULTI_LABEL, [0, 1, 1])):
        events = logged("a", [RIGHT], endpoint=predictor), feedback("a", by_id(truth), endpoint=predictor)
        for order, page in in_every_order(server, *events):
            assert page("model_support", window="1h") == 1, (predictor, order)
            assert net_statuses(page) == {"matched": 1}, (predictor, order)


def flat_pair(prediction: list[float], truth: list[float]) -> dict[str, Any]:
    return {"response": message(prediction), "truth": message(truth)}


@pytest.mark.parametrize(
    "body",
    [
        flat_pair([0, 0, 1, 0], [0, 0, 0, 1]),
        {
            side: {"data": {"tensor": {"shape": [4], "values": row}}}
            for side, row in (("response", [0, 0, 1, 0]), ("truth", [0, 0, 0, 1]))
        },
    ],
    ids=["ndarray", "tensor"],
)
def test_both_flat_in_one_feedback(server: RunningServer, body: dict[str, Any]) -> None:
    """A named metric model that takes rows makes one pair of them, the ancestor's first test case; others four."""
    ledger = Ledger()
    ledger.pair("a", [3], [2], ONE_HOT)
    assert_comes_to(server, ledger, feedback("a", body, endpoint=ONE_HOT))
    ledger = Ledger()
    ledger.pair("a", [0, 0, 0, 1], [0, 0, 1, 0])
    assert_comes_to(server, ledger, feedback("a", body))


@any_predictor
def test_both_flat_and_unlike_in_length(server: RunningServer, predictor: str) -> None:
    """They are rows, and not as many."""
    shop = Deployment(server)
    answer = server.post(flat_pair([0, 0, 1], [0, 0, 0, 1]), shop.headers(FEEDBACK, "r", endpoint=predictor))
    assert (answer.status, answer.reason) == (422, "row_mismatch")


@any_predictor
def test_rows_of_classes_in_one_feedback(server: RunningServer, predictor: str) -> None:
    """Nested rows of a response against a flat list of classes are rows, whatever the metric model."""
    ledger = Ledger()
    ledger.pair("a", [2, 0, 1], [2, 0, 1], predictor)
    body = {"response": message(THREE), "truth": message([2, 0, 1])}
    assert_comes_to(server, ledger, feedback("a", body, endpoint=predictor))


# Rule 5: whose reward


def test_a_reward_belongs_to_the_arm_that_served(server: RunningServer) -> None:
    """Without routing both arms log the feedback, and the one that served has a logged prediction: one reward."""
    events = [feedback(arm, rewarded()) for arm in ("a", "b")]
    assert_comes_to(server, Expected().unlabelled("a").with_rewards("a", 1.0), *events, logged("a", [RIGHT], "a"))


def test_each_arm_has_its_own_mean(server: RunningServer) -> None:
    """Of 40 requests each arm serves half, and both log all feedback: rewards are not mixed."""
    shop = Deployment(server)
    ledger = Expected()
    for number in range(40):
        arm, reward = ("a", 1.0) if number % 2 else ("b", 0.0)
        events = [feedback(one, rewarded(arm, reward=reward), f"r{number}") for one in ("a", "b")]
        events.insert(number % 3, logged(arm, [RIGHT], arm, request_id=f"r{number}"))
        for event in events:
            event(shop)
        ledger.unlabelled(arm).with_rewards(arm, reward)
    page = shop.page()
    assert standings_on(page) == ledger.standings()
    assert page.by("model_reward_mean", "model_name", window="1h") == {"a": 1.0}


def test_the_node_that_says_it_keeps_its_reward(server: RunningServer) -> None:
    """Where each node has a logged prediction of the request, each keeps what it said."""
    events = [feedback(arm, rewarded()) for arm in ("a", "b")]
    ledger = Expected().unlabelled("a").unlabelled("b").with_rewards("a", 1.0).with_rewards("b", 1.0)
    assert_comes_to(server, ledger, *events, logged("a", [RIGHT]), logged("b", [RIGHT]))


@pytest.mark.parametrize("path", [(), ("a",)], ids=["without a path", "with its path"])
def test_a_router_s_reward_belongs_to_the_logged_arm(server: RunningServer, path: tuple[str, ...]) -> None:
    """The router has no prediction: a node on the path has, or any node that is scored."""
    ledger = Expected().unlabelled("a").with_rewards("a", 1.0)
    assert_comes_to(server, ledger, feedback("router", rewarded(*path)), logged("a", [RIGHT], *path))


def test_a_reward_of_a_router_is_one_reward(server: RunningServer) -> None:
    """Of several nodes on the path that log, one has it, the same in any order."""
    events = [
        feedback("router", rewarded("scaler", "a")),
        logged("scaler", [RIGHT], "scaler"),
        logged("a", [RIGHT], "scaler", "a"),
    ]
    outcomes = [by_model(page, "model_rewards") for _, page in in_every_order(server, *events)]
    assert sum(outcomes[0].values()) == 1
    assert all(outcome == outcomes[0] for outcome in outcomes)


def test_an_arm_that_logs_alone_keeps_the_reward(server: RunningServer) -> None:
    """A logger on arm b alone while a served: nothing of the request is logged, and nothing says more."""
    assert_comes_to(server, Expected().with_rewards("b", 1.0), feedback("b", rewarded()))


def test_a_reward_belongs_to_the_path_s_only_name(server: RunningServer) -> None:
    """Nothing is logged: whoever says it, it is the path's, once."""
    events = [feedback(node, rewarded("a")) for node in ("router", "a", "b")]
    assert_comes_to(server, Expected().with_rewards("a", 1.0), *events)


def test_moves_of_rewards_are_counted(server: RunningServer) -> None:
    """What was counted for the arm that did not serve is taken back in the twin, so that the net is right."""
    shop = Deployment(server)
    feedback("b", rewarded())(shop)
    assert by_model(shop.page(), "model_rewards") == {"b": 1}
    logged("a", [RIGHT], "a")(shop)
    page = shop.page()
    assert page.by("model_rewards_total", "model_name") == {"a": 1, "b": 1}
    assert page.by("model_rewards_retracted_total", "model_name") == {"b": 1}
    assert page.by("model_reward_values_retracted_total", "value", model_name="b") == {"1": 1}
    assert page("model_reward_mean", window="1h", model_name="b") is None


# Rule 6: nodes with children log two responses under one id


OWN = logged("scaler", [[5.1, 3.5, 1.4, 0.2]], "scaler", at=ANSWERED)
BELOW = logged("scaler", [RIGHT], "scaler", "classifier", at=ANSWERED + 5)  # sent earlier: workers know no order
TOLD = feedback("scaler", by_id(TRUTH))


def test_the_response_with_the_larger_path_stands(server: RunningServer) -> None:
    """Of a node's own output and that of the graph below the latter counts, whenever each was sent, once: in pairs,
    statuses, predictions, predicted classes and latencies."""
    for order, page in in_every_order(server, OWN, BELOW, TOLD, asked("scaler")):
        assert standings_on(page) == Expected().right("scaler").standings(), order
        assert net_statuses(page) == {"matched": 1}, order
        classes = [net(page, "model_predicted_class", **{"class": str(one)}) for one in range(4)]
        assert classes == [0, 0, 1, 0], order
        assert page("model_prediction_latency_seconds_count") == 1, order
        assert page("model_label_coverage_ratio", window="1h") == 1, order
        assert page("model_predicted_class_ratio", window="1h", **{"class": "2"}) == 1, order


def test_forty_pairs_of_a_node_with_children(server: RunningServer) -> None:
    """Where the truth comes between the two responses, nothing stays unscorable: matched is 40 of 40."""
    shop = Deployment(server)
    for number in range(40):
        own = logged("scaler", [[5.1, 3.5, 1.4, 0.2]], "scaler", request_id=f"r{number}")
        below = logged("scaler", [RIGHT], "scaler", "classifier", request_id=f"r{number}")
        for event in (own, feedback("scaler", by_id(TRUTH), f"r{number}"), below):
            event(shop)
    page = shop.page()
    assert net_statuses(page) == {"matched": 40}
    assert page("model_support", window="1h") == 40
    assert sum(page.by("seldon_metric_true_positive_total", "class").values()) == 40


@pytest.mark.parametrize("path", [(), ("scaler",)], ids=["without a path", "with equal paths"])
def test_of_equal_paths_the_later_response_stands(server: RunningServer, path: tuple[str, ...]) -> None:
    """By its time, in any order of arrival."""
    earlier, later = logged("scaler", [WRONG], *path, at=590), logged("scaler", [RIGHT], *path, at=580)
    assert_comes_to(server, Expected().right("scaler"), earlier, later, TOLD)


def test_the_nodes_of_a_graph_are_labelled_each(server: RunningServer) -> None:
    """The model below is labelled by the same truth, and has nothing of the node above it."""
    below = logged("classifier", [WRONG], "classifier")
    assert_comes_to(server, Expected().right("scaler").wrong("classifier"), OWN, BELOW, below, TOLD)


def test_the_ancestor_s_counters_count_the_first_scorable_pair(server: RunningServer) -> None:
    """`seldon_metric_*` counts each prediction once, in any order, has no twin, and says so."""
    for order, page in in_every_order(server, OWN, BELOW, TOLD):
        assert page("seldon_metric_true_positive_total") == 1, order
        assert not page("seldon_metric_false_positive_total"), order
    text = server.get("/v1/metrics").body.decode()
    assert "seldon_metric_true_positive_retracted" not in text
    helps = [line for line in text.splitlines() if line.startswith("# HELP seldon_metric_true_positive_total")]
    assert "what is taken back moves only model_ series" in helps[0]


def test_what_is_taken_back_stands_in_the_twins(server: RunningServer) -> None:
    """A pair that another response replaced leaves its counters as they were, and stands in their twins."""
    shop = Deployment(server)
    first, second = logged("scaler", [WRONG], "scaler"), logged("scaler", [RIGHT], "scaler", "classifier")
    for event in (first, TOLD, second):
        event(shop)
    page = shop.page()
    assert page.by("model_confusion_total", "truth", "prediction") == {("2", "0"): 1, ("2", "2"): 1}
    assert page.by("model_confusion_retracted_total", "truth", "prediction") == {("2", "0"): 1}
    assert page.by("model_decisions_total", "correct") == {"false": 1, "true": 1}
    assert page.by("model_decisions_retracted_total", "correct") == {"false": 1}
    assert page.by("model_predicted_class_total", "class") == {"0": 1, "2": 1}
    assert page.by("model_predicted_class_retracted_total", "class") == {"0": 1}
    assert page("model_predictions_total") == 1


# Point 12: feedback that overtakes its logged response


@pytest.mark.parametrize("node", ["classifier", ""], ids=["named", "unnamed"])
def test_the_delay_is_known_when_the_halves_meet(server: RunningServer, node: str) -> None:
    """Feedback that carries its response counts a delay once, when the logged response has come, in any order."""
    events = feedback(node, carried(row=WRONG)), logged("classifier", [RIGHT]), asked("classifier")
    for order, page in in_every_order(server, *events):
        assert standings_on(page) == Expected().right("classifier").standings(), order
        assert page("model_label_delay_seconds_count") == 1, order
        assert page("model_label_delay_seconds_sum") == ANSWERED - LABELLED, order
        assert page("model_prediction_latency_seconds_sum") == PREDICTED - ANSWERED, order
        assert net_statuses(page) == {"matched": 1}, order


def test_feedback_that_nothing_is_logged_for_has_no_delay(server: RunningServer) -> None:
    """Its own time says nothing of the prediction's."""
    for _, page in in_every_order(server, feedback("classifier", carried())):
        assert page("model_label_delay_seconds_count") in (None, 0)


def test_a_correction_adds_no_delay(server: RunningServer) -> None:
    """A prediction is labelled once, whatever is said of it later."""
    later: Arrival = feedback("classifier", by_id([[1, 0, 0]]), at=LABELLED - 100)
    for order, page in in_every_order(server, feedback("classifier", carried()), logged("classifier", [RIGHT]), later):
        assert page("model_label_delay_seconds_count") == 1, order
        assert page.cells() == {("0", "2"): 1}, order
        assert net(page, "model_decisions", correct="false") == 1, order
        assert net(page, "model_decisions", correct="true") == 0, order


def test_decisions_of_more_classes_than_the_matrix_has(server: RunningServer) -> None:
    """Right and wrong pairs are counted beyond 30 classes too, and their net is the accuracy."""
    shop = Deployment(server)
    for number in range(40):
        feedback("a", flat_pair([f"class {number}"], [f"class {number if number % 4 else number + 1}"]), f"r{number}")(
            shop
        )
    page = shop.page()
    assert {right: net(page, "model_decisions", correct=right) for right in ("true", "false")} == {
        "true": 30,
        "false": 10,
    }
    assert page("model_accuracy_ratio", window="1h") == 0.75
