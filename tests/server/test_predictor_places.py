"""`--predictor_from`: the predictor of a series is what an annotation, a header, an attribute or a tag says."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.support.deployments import KSERVE_REQUEST, KSERVE_RESPONSE
from tests.support.running import FEEDBACK, RESPONSE, RunningServer, ce
from tests.support.waiting import until

ANSWER = {"data": {"ndarray": ["cat"]}, "meta": {"tags": {"arm": "tag", "version": 2}}}
LOGGED = {"annotations": '{"arm": "annotation"}', "metadata": '{"X-Arm": ["header"]}', "arm": "attribute"}

_numbers = itertools.count()


def _log(server: RunningServer, kind: str = RESPONSE, body: Any = ANSWER, request: str = "", **attributes: str) -> None:
    event = f"e{next(_numbers)}"
    assert server.post(body, ce(kind, event, request or event, **attributes)).status == 200


def _predictors(server: RunningServer, name: str = "model_predictions_total") -> dict[str, float]:
    """The samples of this name by their predictor."""
    return {dict(labels)["predictor_name"]: value for (have, labels), value in server.samples().items() if have == name}


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ("annotation:arm", "annotation"),
        ("header:x-arm", "header"),
        ("attribute:arm", "attribute"),
        ("tag:arm", "tag"),
        ("tag:version", "2"),
        ("annotation:missing,header:X-Arm", "header"),
        ("annotation:missing,header:Missing,attribute:missing,tag:missing", "main"),
    ],
)
def test_the_first_place_that_is_there_names_the_predictor(serve: Serve, places: str, expected: str) -> None:
    """Places are asked in their order; where none has anything, the predictor is the one that the event states."""
    server = serve("--store", "memory://", "--predictor_from", places)
    _log(server, **LOGGED)
    assert _predictors(server) == {expected: 1}


@pytest.mark.parametrize("arm", ["", "x" * 257, "a\\nb"])
def test_what_cannot_be_a_label_names_no_predictor(serve: Serve, arm: str) -> None:
    """A name that is empty, too long or unprintable is passed over, and the prediction counts as the event states."""
    server = serve("--store", "memory://", "--predictor_from", "annotation:arm")
    _log(server, annotations=f'{{"arm": "{arm}"}}')
    assert _predictors(server) == {"main": 1}


def test_a_truth_finds_the_arm_that_answered(serve: Serve) -> None:
    """Feedback that names no arm, or the wrong one, labels the prediction of the arm that was logged."""
    server = serve("--store", "memory://", "--predictor_from", "annotation:arm")
    for arm, truth in (("main", "cat"), ("canary", "dog")):
        _log(server, request=arm, annotations=json.dumps({"arm": arm}))
        _log(server, FEEDBACK, {"response": ANSWER, "truth": {"data": {"ndarray": [truth]}}}, request=arm)
    accuracy = {
        dict(labels)["predictor_name"]: value
        for (name, labels), value in server.samples().items()
        if name == "model_accuracy_ratio" and ("window", "1h") in labels
    }
    assert accuracy == {"main": 1, "canary": 0}


def test_each_deployment_may_have_its_own_places(serve: Serve, tmp_path: Path) -> None:
    """An entry of `deployments` says where the predictor of its deployment stands, and an empty list that it stands
    where the event states it."""
    entries = [
        {"deployment": "wine", "predictor_from": ["attribute:arm"]},
        {"deployment": "beer", "predictor_from": []},
    ]
    (tmp_path / "config.yaml").write_text(json.dumps({"deployments": entries, "predictor_from": ["annotation:arm"]}))
    server = serve("--store", "memory://", "--config", str(tmp_path / "config.yaml"))
    for deployment in ("wine", "beer", "cider"):
        _log(server, inferenceservicename=deployment, **LOGGED)
    found = {
        dict(labels)["deployment_name"]: dict(labels)["predictor_name"]
        for name, labels in server.samples()
        if name == "model_predictions_total"
    }
    assert found == {"wine": "attribute", "beer": "main", "cider": "annotation"}


def _answered(server: RunningServer) -> list[tuple[int, int]]:
    told = json.loads(server.get("/v1/models").body)["requests"]
    return [(one["answered"], one["unanswered"]) for one in told]


@pytest.mark.parametrize("places", ["annotation:arm", "annotation:arm,tag:arm"])
def test_requests_meet_their_responses_or_are_left_out(serve: Serve, places: str) -> None:
    """The request of an arm gives its latency. With a tag, which only the response has, requests are not timed, and
    none of them is said to have no response."""
    server = serve("--store", "memory://", "--predictor_from", places)
    for kind in (KSERVE_REQUEST, KSERVE_RESPONSE):
        headers = ce(kind, "one", annotations='{"arm": "canary"}')
        assert server.post(ANSWER if kind == KSERVE_RESPONSE else {"instances": [[1]]}, headers).status == 200
    timed = places == "annotation:arm"
    assert _predictors(server, "model_prediction_latency_seconds_count") == ({"canary": 1} if timed else {})
    expected = [(1, 0)] if timed else []
    until(lambda: _answered(server) == expected, 20, "requests and their responses")


def test_attempts_that_two_arms_answered_are_a_prediction_of_each(serve: Serve) -> None:
    """A request that was tried again at the other arm, under one id of the proxy, is a prediction of both, and the
    truth labels both."""
    server = serve(
        "--store", "memory://", "--predictor_from", "annotation:arm", "--request_id_from", "header:X-Request-Id"
    )
    for arm in ("main", "canary"):
        logged = {"annotations": json.dumps({"arm": arm}), "metadata": '{"X-Request-Id": ["tried"]}'}
        _log(server, KSERVE_RESPONSE, **logged)
    truth = {"request_id": "tried", "truth": "cat", "namespace": "shop", "deployment": "wine"}
    assert server.post(truth, {"Content-Type": "application/json"}, "/v1/feedback").status == 200
    assert _predictors(server) == {"main": 1, "canary": 1}
    assert server.value("model_labels_total", status="matched") == 2
