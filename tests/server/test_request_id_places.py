"""`--request_id_from`: truths find predictions by an id that clients know, in a header or in the body."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from metrics_server.commands.replay.engine import replay
from tests.conftest import Serve
from tests.support.deployments import KSERVE_REQUEST, KSERVE_RESPONSE, Page
from tests.support.running import FEEDBACK, RESPONSE, RunningServer, ce
from tests.support.waiting import until

PLACES = "header:X-Request-Id,body:id"
JSON = {"Content-Type": "application/json"}

_numbers = itertools.count()


class Client:
    """Whoever predicts and learns the truth for one deployment, which no other test knows."""

    def __init__(self, server: RunningServer, name: str = "") -> None:
        self.server, self.name = server, name or f"d{next(_numbers)}"

    def post(self, kind: str, body: Any, event_id: str = "", **attributes: str) -> None:
        headers = ce(kind, event_id or f"e{next(_numbers)}", inferenceservicename=self.name, **attributes)
        answer = self.server.post(body, headers)
        assert answer.status == 200, answer.body

    def log(self, body: Any, header: str = "", event_id: str = "", kind: str = KSERVE_RESPONSE) -> None:
        """What KServe's agent logs, with the header that `metadataHeaders` names."""
        metadata = json.dumps({"X-Request-Id": [header]} if header else {})
        self.post(kind, body, event_id, metadata=metadata, component="predictor")

    def tell(self, request_id: str, truth: Any, **names: str) -> str:
        item = {"request_id": request_id, "truth": truth, "namespace": "shop", "deployment": self.name} | names
        answer = self.server.post({name: value for name, value in item.items() if value}, JSON, "/v1/feedback")
        assert answer.status == 200, answer.body
        return str(json.loads(answer.body)["status"])

    @property
    def page(self) -> Page:
        return Page(self.server.get("/v1/metrics").body.decode(), self.name)

    @property
    def cells(self) -> dict[tuple[str, str], float]:
        return self.page.cells()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    running = RunningServer(tmp_path_factory.mktemp("ids"), "--store", "memory://", "--request_id_from", PLACES)
    yield running
    running.stop()


def v1(*predictions: Any) -> dict[str, Any]:
    return {"predictions": list(predictions)}


def v2(request_id: str, prediction: str) -> dict[str, Any]:
    output = {"name": "label", "datatype": "BYTES", "shape": [1], "data": [prediction]}
    return {"model_name": "m", "id": request_id, "outputs": [output]}


def test_a_truth_joins_by_the_header_of_the_proxy(server: RunningServer) -> None:
    """The truth comes by the id that the proxy gave the request, before the prediction or after it; each row of a batch
    has its own, and the id that the agent made up joins nothing."""
    client = Client(server)
    assert client.tell("p-1", "cat") == "pending"
    client.log(v1("cat"), "p-1")
    client.log(v1("cat", "dog"), "p-2", event_id="made-up")
    assert client.tell("p-2-item-1", "cat") == "accepted"
    assert client.tell("made-up", "cat") == "pending"
    assert client.cells == {("cat", "cat"): 1, ("cat", "dog"): 1}


def test_a_truth_has_to_name_the_deployment(server: RunningServer) -> None:
    """Predictions of two deployments under one id do not meet: a truth labels that of the deployment that it names, and
    a truth that names none waits."""
    one, other = Client(server), Client(server)
    for client in (one, other):
        client.log(v1("cat"), "same")
    assert one.tell("same", "cat", deployment="") == "pending"
    assert one.tell("same", "cat", namespace="elsewhere") == "pending"
    assert one.tell("same", "dog") == "accepted"
    assert (one.cells, other.cells) == ({("dog", "cat"): 1}, {})


def _chunks(request_id: str) -> bytes:
    chunk = {"id": request_id, "object": "chat.completion.chunk", "choices": [{"delta": {"content": "hi"}}]}
    return f"data: {json.dumps(chunk)}\n\n".encode() * 2 + b"data: [DONE]\n\n"


@pytest.mark.parametrize("is_stream", [False, True])
def test_clients_of_language_models_know_the_id_in_the_body(server: RunningServer, is_stream: bool) -> None:
    """The id of a chat completion is where its client has it: in the answer, whole or streamed."""
    client = Client(server)
    client.log(_chunks("chatcmpl-7") if is_stream else {"id": "chatcmpl-7", "choices": [{"message": {}}]})
    assert client.tell("chatcmpl-7", "up") == "accepted"
    assert client.page.statuses() == {"unscorable": 1}


def test_the_first_place_wins_and_without_any_the_id_of_the_event_stays(server: RunningServer) -> None:
    """With a header the id in the body joins nothing; without both the truth comes by `Ce-Id`, as ever, for the named
    deployment."""
    client = Client(server)
    client.log(v2("inner", "cat"), "outer")
    assert client.tell("inner", "cat") == "pending"
    assert client.tell("outer", "cat") == "accepted"
    client.log(v1("dog"), event_id="order-1")
    assert client.tell("order-1", "dog", deployment="") == "pending"
    assert client.tell("order-1", "dog") == "accepted"


def test_bytes_behind_the_json_do_not_hide_its_id(server: RunningServer) -> None:
    """The id of a V2 answer is found though raw tensors follow the JSON."""
    client = Client(server)
    output = {"name": "label", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 7}}
    head = json.dumps({"model_name": "m", "id": "raw-1", "outputs": [output]}).encode()
    client.log(head + b"\x03\0\0\0cat")
    assert client.tell("raw-1", "cat") == "accepted"
    assert client.cells == {("cat", "cat"): 1}


FEEDBACKS = {
    "requestid": ({"truth": {"strData": "cat"}}, {"requestid": "c-1"}),
    "meta.puid": ({"request": {"meta": {"puid": "c-1"}}, "truth": {"strData": "cat"}}, {}),
    "header": ({"truth": {"strData": "cat"}}, {"metadata": '{"x-request-id":["c-1"]}'}),
    "response": ({"response": v2("c-1", "dog"), "truth": {"strData": "cat"}}, {"requestid": "of the feedback call"}),
    "requestid beside": ({"response": v2("c-9", "dog"), "truth": {"strData": "cat"}}, {"requestid": "c-1"}),
    "request": ({"request": {"id": "c-1"}, "truth": {"strData": "cat"}}, {}),
}


@pytest.mark.parametrize("place", FEEDBACKS)
def test_feedback_has_the_id_in_the_same_places_or_where_people_put_it(server: RunningServer, place: str) -> None:
    """A feedback event joins by requestid, meta.puid, the header, or the id in the response or request it carries."""
    client = Client(server)
    client.log(v2("c-1", "bird"))
    body, attributes = FEEDBACKS[place]
    client.post(FEEDBACK, body, **attributes)
    assert client.cells == {("cat", "bird"): 1}  # the pair that a feedback carries is told by its "dog"
    assert client.page("model_predictions_total") == 1


def test_seldons_route_names_the_deployment_in_its_path(server: RunningServer) -> None:
    """Feedback posted to the ingress' path finds the prediction by the id in the response that it carries."""
    client = Client(server)
    client.log(v2("c-2", "dog"))
    body = {"response": v2("c-2", "dog"), "truth": {"strData": "cat"}}
    assert server.post(body, JSON, f"/seldon/shop/{client.name}/api/v1.0/feedback").status == 200
    assert client.cells == {("cat", "dog"): 1}


def test_an_id_that_only_the_request_has_joins_too(server: RunningServer) -> None:
    """An id in the body of the request joins though the response does not repeat it, in any order."""
    client = Client(server)
    for number, kinds in enumerate(itertools.permutations(("request", "response", "truth"))):
        request_id = f"q-{number}"
        for kind in kinds:
            if kind == "request":
                client.log({"id": request_id, "instances": [[1]]}, event_id=f"ce-{number}", kind=KSERVE_REQUEST)
            elif kind == "response":
                client.log(v1("cat"), event_id=f"ce-{number}")
            else:
                client.tell(request_id, "cat")
    assert client.cells == {("cat", "cat"): 6}


def test_attempts_of_one_request_share_its_id(server: RunningServer) -> None:
    """A request that the proxy tried twice is one prediction, the later answer; each attempt has its latency."""
    client = Client(server)
    for attempt, answer in enumerate(("cat", "dog")):
        client.log({"instances": [[1]]}, "tried", event_id=f"{client.name}-{attempt}", kind=KSERVE_REQUEST)
        client.log(v1(answer), "tried", event_id=f"{client.name}-{attempt}")
    assert client.tell("tried", "dog") == "accepted"
    assert client.cells == {("dog", "dog"): 1}
    assert client.page("model_predictions_total") == 1
    assert client.page("model_prediction_latency_seconds_count") == 2
    complete = {"namespace": "shop", "deployment": client.name, "answered": 2, "unanswered": 0}
    until(lambda: complete in json.loads(server.get("/v1/models").body)["requests"], 20, "no request is answered")


def test_ids_that_repeat_are_one_request(server: RunningServer) -> None:
    """Clients that number from 1 give many predictions one id: they count as one, of which the latest answer stands."""
    client = Client(server)
    client.log(v2("1", "cat"))
    assert client.tell("1", "cat") == "accepted"
    client.log(v2("1", "dog"))
    assert client.cells == {("cat", "dog"): 1}
    assert client.tell("1", "dog") == "accepted"
    assert client.cells == {("dog", "dog"): 1}
    assert client.page("model_predictions_total") == 1


def test_an_id_that_is_too_long_is_refused_by_its_reason(server: RunningServer) -> None:
    """An id of more than 1,024 characters is answered `label_too_long`, whatever place it is in."""
    answer = server.post(v2("x" * 1025, "cat"), ce(KSERVE_RESPONSE, "long"))
    assert (answer.status, answer.reason) == (422, "label_too_long")


@pytest.mark.parametrize("stated", [None, True, 1.5, {"id": "a"}, ["a"], ""])
def test_what_is_no_id_is_passed_over(server: RunningServer, stated: Any) -> None:
    """Only a text or a whole number is an id; anything else leaves the event its own."""
    client = Client(server)
    client.log({"id": stated, "predictions": ["cat"]}, event_id="own")
    assert client.tell("own", "cat") == "accepted"


def test_each_deployment_may_have_its_own_places(serve: Serve, tmp_path: Path) -> None:
    """The first entry for a whole deployment decides; what no entry is about joins by `Ce-Id`, with no names needed."""
    entries = [
        {"deployment": "chat", "model": "predictor", "threshold": 0.3},
        {"deployment": "chat", "request_id_from": ["body:meta.call"]},
        {"deployment": "seldon", "request_id_from": ["attribute:orderid"]},
    ]
    (tmp_path / "config.yaml").write_text(json.dumps({"deployments": entries}))
    server = serve("--store", "memory://", "--config", str(tmp_path / "config.yaml"))
    chat, seldon, other = (Client(server, name) for name in ("chat", "seldon", "other"))
    chat.log({"meta": {"call": 17}, **v1("cat")})
    seldon.post(RESPONSE, {"strData": "cat"}, requestid="internal", orderid="o-1")
    other.log({"id": "unread", **v1("cat")}, event_id="order-1")
    assert chat.tell("17", "cat") == "accepted"
    assert seldon.tell("internal", "cat") == "pending"
    assert seldon.tell("o-1", "cat") == "accepted"
    assert other.tell("order-1", "cat", namespace="", deployment="") == "accepted"


def test_replay_joins_as_a_server_does() -> None:
    """Recorded predictions and truths of two deployments with equal ids make the pairs that a server makes."""
    names = [{"namespace": "shop", "deployment": deployment} for deployment in ("a", "b")]
    logged = [{"request_id": "1", "prediction": "cat", **of} for of in names]
    truths = [{"request_id": "1", "truth": truth, **of} for truth, of in zip(("cat", "dog"), names, strict=True)]
    for settings in ({}, {"request_id_from": "body:id"}):
        found = {one["deployment"]: one["support"] for one in replay([*logged, *truths], **settings)}
        assert found == {"a": 1, "b": 1}
