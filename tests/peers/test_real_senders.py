"""Real senders: Seldon's Python wrapper and client, KServe's Python server, old and new SDKs of CloudEvents. Whatever
form they send, and in whatever order it arrives, every pair, reward and coverage is that of plain counting."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

from tests.conftest import Serve
from tests.support.deployments import KSERVE_REQUEST, KSERVE_RESPONSE, Page, starter
from tests.support.live_server import ce_time
from tests.support.peers.environments import SELDON, programs_of
from tests.support.peers.executor import NAMESPACE, Event, Executor, Node, executing
from tests.support.peers.flowers import CLASSES, Flower, classes_of, one_hot, pick, truth_forms
from tests.support.peers.ledger import Ledger, by_api, by_page, net
from tests.support.peers.programs import SENDERS, Program, Sender, sender
from tests.support.running import FEEDBACK, RESPONSE, RunningServer, free_port
from tests.support.waiting import until

pytestmark = pytest.mark.long

KSERVE = ("kserve==0.21.0",)
OLD_SDK = ("cloudevents==1.2.0",)
NEW_SDK = ("cloudevents>=2.2",)

JSON_TYPE = {"Content-Type": "application/json"}
EMPTY_ANSWER = {"data": {"tensor": {"shape": [0]}}, "meta": {}}
REWARDS = (0.0, 1.0, 0.25, 0.0)  # sums of these are exact

_numbers = itertools.count()


class Arrival(NamedTuple):
    """An order in which the executor's workers may send what waits."""

    name: str
    arrange: Callable[[list[Event]], list[Event]]


def shuffled(events: list[Event]) -> list[Event]:
    return random.Random(len(events)).sample(events, len(events))


ARRIVALS = [
    Arrival("as-it-happened", lambda events: events),
    Arrival("backwards", lambda events: events[::-1]),
    Arrival("shuffled", shuffled),
]
ONE_HOT = ["flat", *(f"rows-{arrival.name}" for arrival in ARRIVALS)]  # deployments whose metric model takes rows
CONFIG = [{"deployment": name, "storage_uri": "cm_models.multiclass_one_hot.MulticlassOneHot"} for name in ONE_HOT]
any_arrival = pytest.mark.parametrize("arrival", ARRIVALS, ids=lambda arrival: arrival.name)


@pytest.fixture(scope="module")
def seldon() -> Path:
    return programs_of(*SELDON)


class Microservices:
    """Running nodes by their names."""

    def __init__(self) -> None:
        self.urls: dict[str, str] = {}

    def node(self, name: str, *children: Node, route: str = "predict", logs: bool = True) -> Node:
        return Node(name, self.urls[name], route, children, logs)


NODES: dict[str, tuple[str, dict[str, str]]] = {
    "classifier": ("MODEL", {}),
    "challenger": ("MODEL", {"bias": "1.5"}),
    "index": ("MODEL", {"answer": "index"}),
    "flat": ("MODEL", {"answer": "flat"}),
    "router": ("ROUTER", {}),
    "scaler": ("TRANSFORMER", {}),
}


def start_node(seldon: Path, log: Path, name: str) -> tuple[Program, str]:
    kind, parameters = NODES[name]
    types = {"bias": "FLOAT", "answer": "STRING"}
    listed = [{"name": key, "value": value, "type": types[key]} for key, value in parameters.items()]
    port = free_port()
    places = [f"--{what}-port={number}" for what, number in (("http", port), ("grpc", free_port()))]
    words = [seldon / "seldon-core-microservice", "seldon_node", "--service-type", kind, *places]
    program = Program(
        log,
        [*words, f"--metrics-port={free_port()}", "--parameters", json.dumps(listed)],
        PREDICTIVE_UNIT_ID=name,
        PREDICTIVE_UNIT_IMAGE=f"registry.example/{name}:1.0",
    )
    return program, f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def services(seldon: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Microservices]:
    found, directory = Microservices(), tmp_path_factory.mktemp("nodes")
    with ExitStack() as stack:
        started = []
        for name in NODES:
            program, found.urls[name] = start_node(seldon, directory / f"{name}.log", name)
            stack.callback(program.stop)
            started.append((program, found.urls[name]))
        for program, url in started:
            program.await_answer(f"{url}/health/ping")
        yield found


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with executing() as running:
        yield running


@pytest.fixture(scope="module")
def client(seldon: Path) -> Iterator[Sender]:
    with sender(seldon / "python", "seldon_client.py") as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    directory = tmp_path_factory.mktemp("server")
    (directory / "config.yaml").write_text(json.dumps({"deployments": CONFIG}))  # JSON is YAML
    yield from starter(directory, "--store", "memory://", "--config", str(directory / "config.yaml"))


class Made(NamedTuple):
    """A prediction that the client has got."""

    key: str
    puid: str
    flowers: list[Flower]
    response: dict[str, Any]

    @property
    def classes(self) -> list[int]:
        return classes_of(self.response)

    @property
    def truths(self) -> list[int]:
        return [flower.truth for flower in self.flowers]

    @property
    def model(self) -> str:
        """The model that served, as it says itself."""
        (name,) = set(self.response["meta"]["requestPath"]) - {"scaler"}
        return name


class Shop:
    """One deployment behind the executor: a client that predicts and posts feedback, and what it must come to."""

    def __init__(self, executor: Executor, client: Sender, server: RunningServer) -> None:
        self.executor, self.client, self.server = executor, client, server
        self.name = f"d{next(_numbers)}"
        self.ledger = Ledger()

    def deploy(self, graph: Node, name: str = "") -> None:
        self.name = name or self.name
        self.executor.graphs[self.name] = graph
        self.executor.take()

    def predict(self, *flowers: Flower, puid: str = "", **how: Any) -> Made:
        """A prediction by `SeldonClient`, which the executor names."""
        key, puid = str(uuid4()), puid or str(uuid4())
        more = how if "raw" in how else {**how, "rows": [flower.features for flower in flowers]}
        answer = self._ask("predict", self.executor.endpoint, key=key, headers={"Seldon-Puid": puid}, **more)
        return Made(key, puid, list(flowers), answer["response"])

    def feedback(self, made: Made, truth: Any = None, reward: float = 0, *, direct: bool = False) -> None:
        """`SeldonClient.feedback`, through the executor or straight to the server's path of the ingress."""
        to = f"127.0.0.1:{self.server.port}" if direct else self.executor.endpoint
        answer = self._ask("feedback", to, key=made.key, truth=truth, reward=reward)
        assert answer["success"]

    def encoded(self, made: Made, truth: Any = None, reward: float = 0) -> bytes:
        """The protobuf of the same message."""
        answer = self._ask("encode", "", key=made.key, truth=truth, reward=reward)
        return base64.b64decode(answer["body"])

    def encoded_response(self, made: Made) -> bytes:
        """The protobuf of an answer, as the gRPC server of the model sends it."""
        return base64.b64decode(self._ask("encode_response", "", key=made.key)["body"])

    def joined(self, made: Made, body: dict[str, Any], puid: str = "") -> None:
        """Feedback by `curl` with the id of the prediction, which `SeldonClient` cannot send. That a model refuses it
        does not keep the executor from logging."""
        headers = {**JSON_TYPE, "Seldon-Puid": puid or made.puid}
        url = f"http://{self.executor.endpoint}/seldon/{NAMESPACE}/{self.name}/api/v1.0/feedback"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        try:
            urllib.request.urlopen(request, timeout=20).close()
        except urllib.error.HTTPError as refused:
            refused.close()

    def deliver(self, arrange: Callable[[list[Event]], list[Event]] = list) -> None:
        """The executor's workers send what waits."""
        for event in arrange(self.executor.take()):
            self.post(event)

    def post(self, event: Event) -> None:
        answer = self.server.post(event.body, event.headers())
        assert (answer.status, answer.body) == (200, b"")

    def log(self, made: Made, *models: str) -> None:
        for model in models or (made.model,):
            self.ledger.log(model, len(made.flowers))

    def pair(self, made: Made, model: str = "", predictor: str = "main") -> None:
        self.ledger.pair(model or made.model, made.truths, made.classes, predictor)

    def page(self) -> Page:
        return Page(self.server.get("/v1/metrics").body.decode(), self.name)

    def verify(self) -> None:
        """API and page agree with plain counting."""
        wanted = self.ledger.standings()
        assert by_api(self.server, self.name) == wanted
        assert by_page(self.server, self.name) == wanted

    def _ask(self, do: str, endpoint: str, **job: Any) -> dict[str, Any]:
        return self.client.ask(do=do, endpoint=endpoint, namespace=NAMESPACE, deployment=self.name, **job)


@pytest.fixture
def shop(executor: Executor, client: Sender, server: RunningServer) -> Shop:
    return Shop(executor, client, server)


def truth_of(made: Made, number: int = 0) -> dict[str, Any]:
    """Of one row, in one form after the other; of several as they are usually sent."""
    if len(made.truths) > 1:
        return {"ndarray": [one_hot(truth) for truth in made.truths]}
    return truth_forms(made.truths[0])[number % 4]


# One model


@any_arrival
def test_truths_by_the_id_of_the_request(shop: Shop, services: Microservices, arrival: Arrival) -> None:
    """Truths in every form, under the Seldon-Puid of predictions of one and of many rows, are joined row by row."""
    shop.deploy(services.node("classifier"))
    flowers = pick(48, seed=1)
    requests = [flowers[start : start + size] for start, size in zip(range(0, 48, 4), itertools.cycle([1, 4, 3]))]
    for number, some in enumerate(requests):
        made = shop.predict(*some, payload_type=("ndarray", "tensor")[number % 2])
        shop.joined(made, {"truth": {"data": truth_of(made, number)}, "reward": REWARDS[number % 4]})
        shop.log(made)
        shop.pair(made)
        shop.ledger.reward("classifier", REWARDS[number % 4])
    shop.deliver(arrival.arrange)
    shop.verify()


@any_arrival
def test_predictions_over_grpc(shop: Shop, services: Microservices, arrival: Arrival) -> None:
    """Answers that the executor logs as protobuf are the same predictions as those in JSON."""
    shop.deploy(services.node("classifier", logs=False))
    events = []
    for number, flower in enumerate(pick(24, seed=26)):
        made = shop.predict(flower, payload_type=("ndarray", "tensor")[number % 2])
        body = json.dumps({"truth": {"data": truth_of(made, number)}}).encode()
        about = (shop.name, "classifier", made.puid)
        events += [
            Event(RESPONSE, *about, shop.encoded_response(made), "application/protobuf"),
            Event(FEEDBACK, *about, body),
        ]
        shop.log(made)
        shop.pair(made)
    for event in arrival.arrange(events):
        shop.post(event)
    shop.verify()


def test_the_client_posts_to_the_path_of_the_ingress(shop: Shop, services: Microservices) -> None:
    """`SeldonClient.feedback` on the server's own path of the ingress names no model: the pair and the reward belong to
    the only model that its response names."""
    shop.deploy(services.node("classifier", logs=False))
    for number, flower in enumerate(pick(24, seed=2)):
        made = shop.predict(flower)
        shop.feedback(made, truth_of(made, number), reward=0.5, direct=True)
        shop.pair(made, predictor="")
        shop.ledger.reward("classifier", 0.5, predictor="")
    shop.verify()


def test_feedback_events_without_a_model(shop: Shop, services: Microservices) -> None:
    """What the client sends, forwarded to `POST /` as an event without Ce-Modelid, belongs to the model on its path."""
    shop.deploy(services.node("classifier"))
    for number, flower in enumerate(pick(24, seed=3)):
        made = shop.predict(flower)
        shop.executor.take()
        shop.feedback(made, truth_of(made, number), reward=1)
        (event,) = shop.executor.take()
        headers = event.headers()
        del headers["Ce-Modelid"]
        assert shop.server.post(event.body, headers).status == 200
        shop.pair(made)
        shop.ledger.reward("classifier", 1)
    shop.verify()


def test_bare_feedback_without_any_name(shop: Shop, services: Microservices) -> None:
    """The same body on `POST /` without any header of an event belongs to the model on its path, of no deployment."""
    shop.deploy(services.node("classifier", logs=False))
    for number, flower in enumerate(pick(24, seed=25)):
        made = shop.predict(flower)
        shop.feedback(made, truth_of(made, number), reward=1)
        assert shop.server.post(shop.executor.last_feedback, JSON_TYPE).status == 200
        shop.pair(made, predictor="")
        shop.ledger.reward("classifier", 1, predictor="")
    shop.name = ""
    shop.verify()


def test_feedback_without_a_model_beside_its_log(shop: Shop, services: Microservices) -> None:
    """Feedback on the path of the ingress that carries its response and the `meta.puid` of a logged prediction is one
    pair with it, not a second one beside it."""
    shop.deploy(services.node("classifier"))
    for number, flower in enumerate(pick(24, seed=4)):
        meta = {"puid": f"order-{shop.name}-{number}"}
        made = shop.predict(flower, raw={"data": {"ndarray": [flower.features]}, "meta": meta})
        assert made.response["meta"]["puid"] == meta["puid"]
        if number % 2:
            shop.deliver()
        shop.feedback(made, truth_of(made, number), reward=1, direct=True)
        shop.log(made)
        shop.pair(made)
        shop.ledger.reward("classifier", 1)
    shop.deliver()
    shop.verify()


# Rewards of 0


@pytest.mark.parametrize("direct", [False, True], ids=["through the executor", "on the path of the ingress"])
def test_a_reward_of_0_in_json(shop: Shop, services: Microservices, direct: bool) -> None:
    """`SeldonClient` leaves out a reward of 0. Feedback that has neither truth nor reward is a reward of 0, so that the
    mean of a bandit is right."""
    shop.deploy(services.node("classifier", logs=not direct))
    for number, flower in enumerate(pick(24, seed=5)):
        made = shop.predict(flower)
        shop.executor.take()  # the prediction is not logged
        reward = float(number % 4 == 0)
        shop.feedback(made, reward=reward, direct=direct)
        shop.ledger.reward("classifier", reward, predictor="" if direct else "main")
        shop.deliver()
    shop.verify()


def test_a_reward_of_0_in_protobuf(shop: Shop, services: Microservices) -> None:
    """The protobuf of the same messages says the same."""
    shop.deploy(services.node("classifier", logs=False))
    path = f"/seldon/{NAMESPACE}/{shop.name}/api/v1.0/feedback"
    for number, flower in enumerate(pick(24, seed=6)):
        made = shop.predict(flower)
        reward = REWARDS[number % 4]
        answer = shop.server.post(shop.encoded(made, reward=reward), {"Content-Type": "application/x-protobuf"}, path)
        assert (answer.status, json.loads(answer.body)) == (200, EMPTY_ANSWER)
        shop.ledger.reward("classifier", reward, predictor="")
    shop.verify()


@pytest.mark.parametrize("absent", ["none", "zero"])
def test_a_truth_without_a_reward(
    absent: str, services: Microservices, executor: Executor, client: Sender, serve: Serve, tmp_path: Path
) -> None:
    """Feedback with a truth and no reward is a reward of 0 where `absent_reward` says so, and otherwise none."""
    config, name = tmp_path / "config.yaml", f"absent-{absent}"
    config.write_text(json.dumps({"deployments": [{"deployment": name, "absent_reward": absent}]}))
    shop = Shop(executor, client, serve("--store", "memory://", "--config", str(config)))
    shop.deploy(services.node("classifier", logs=False), name)
    for number, flower in enumerate(pick(20, seed=7)):
        made, reward = shop.predict(flower), float(number < 17)
        shop.feedback(made, truth_of(made), reward=reward, direct=True)
        shop.pair(made, predictor="")
        if reward or absent == "zero":
            shop.ledger.reward("classifier", reward, predictor="")
    shop.verify()


# Routers and arms


def arms(services: Microservices, *, router: bool, champion: bool, challenger: bool) -> Node:
    """An A/B test, and which of its nodes have a logger."""
    return services.node(
        "router",
        services.node("classifier", logs=champion),
        services.node("challenger", logs=challenger),
        route="route",
        logs=router,
    )


@any_arrival
def test_feedback_logged_by_the_router_alone(shop: Shop, services: Microservices, arrival: Arrival) -> None:
    """A router never stands on the path of a response. What its feedback carries belongs to the model that does; its
    own log has no truth, for nothing joins them."""
    shop.deploy(arms(services, router=True, champion=False, challenger=False))
    for number, flower in enumerate(pick(40, seed=8)):
        made = shop.predict(flower)
        shop.feedback(made, truth_of(made, number), reward=1)
        shop.log(made, "router")
        shop.pair(made)
        shop.ledger.reward(made.model, 1)
    shop.deliver(arrival.arrange)
    assert len(shop.ledger.pairs) == 2
    shop.verify()


@any_arrival
def test_feedback_of_the_router_with_the_id(shop: Shop, services: Microservices, arrival: Arrival) -> None:
    """With an id that joins, truth and reward belong to what the router has logged."""
    shop.deploy(arms(services, router=True, champion=False, challenger=False))
    for flower in pick(40, seed=9):
        made = shop.predict(flower)
        shop.joined(made, {"response": made.response, "truth": {"data": truth_of(made)}, "reward": 1})
        shop.log(made, "router")
        shop.pair(made, "router")
        shop.ledger.reward("router", 1)
    shop.deliver(arrival.arrange)
    shop.verify()


@any_arrival
def test_router_and_arms_all_log(shop: Shop, services: Microservices, arrival: Arrival) -> None:
    """Truth and reward count for the router and for the arm that served, and nothing for the other, though all three
    log the feedback."""
    shop.deploy(arms(services, router=True, champion=True, challenger=True))
    for flower in pick(40, seed=10):
        made = shop.predict(flower)
        shop.joined(made, {"response": made.response, "truth": {"data": truth_of(made)}, "reward": 1})
        shop.log(made, "router", made.model)
        for model in ("router", made.model):
            shop.pair(made, model)
            shop.ledger.reward(model, 1)
    shop.deliver(arrival.arrange)
    shop.verify()


@any_arrival
@pytest.mark.parametrize("known", [True, False], ids=["with the id", "without an id"])
def test_both_arms_log_the_feedback(shop: Shop, services: Microservices, arrival: Arrival, known: bool) -> None:
    """Both arms log each feedback, for no routing is injected. Pair and reward belong to the arm that served."""
    shop.deploy(arms(services, router=False, champion=True, challenger=True))
    for number, flower in enumerate(pick(40, seed=11)):
        made, reward = shop.predict(flower), REWARDS[1 + number % 2]
        if known:
            shop.joined(made, {"response": made.response, "truth": {"data": truth_of(made)}, "reward": reward})
        else:
            shop.feedback(made, truth_of(made, number), reward=reward)
        shop.log(made)
        shop.pair(made)
        shop.ledger.reward(made.model, reward)
    shop.deliver(arrival.arrange)
    shop.verify()


@any_arrival
def test_rewards_alone_go_to_the_arm_that_served(shop: Shop, services: Microservices, arrival: Arrival) -> None:
    """A reward by the id, without a response, is logged by both arms and belongs to the one with a logged
    prediction."""
    shop.deploy(arms(services, router=False, champion=True, challenger=True))
    for number, flower in enumerate(pick(40, seed=12)):
        made, reward = shop.predict(flower), REWARDS[number % 4]
        shop.joined(made, {"reward": reward})
        shop.log(made)
        shop.ledger.reward(made.model, reward)
    shop.deliver(arrival.arrange)
    shop.verify()


@any_arrival
def test_an_arm_that_did_not_serve_is_not_scored(shop: Shop, services: Microservices, arrival: Arrival) -> None:
    """With a logger on one arm alone, feedback about an answer of the other is logged by the arm that did not serve. It
    belongs to the one that did, whose name stands on the path."""
    shop.deploy(arms(services, router=False, champion=False, challenger=True))
    for number, flower in enumerate(pick(40, seed=13)):
        made = shop.predict(flower)
        shop.feedback(made, truth_of(made, number), reward=1)
        if made.model == "challenger":
            shop.log(made)
        shop.pair(made)
        shop.ledger.reward(made.model, 1)
    shop.deliver(arrival.arrange)
    shop.verify()


def test_a_reward_of_which_nothing_is_logged(shop: Shop, services: Microservices) -> None:
    """A reward without a response, about a request of which nothing is logged, stays with the arm that says it."""
    shop.deploy(arms(services, router=False, champion=False, challenger=True))
    for flower in pick(24, seed=14):
        made = shop.predict(flower)
        shop.joined(made, {"reward": 1})
        if made.model == "challenger":
            shop.log(made)
        shop.ledger.reward("challenger", 1)
    shop.deliver()
    shop.verify()


# Flat lists


@any_arrival
@pytest.mark.parametrize("form", ["ndarray", "tensor"])
def test_a_flat_one_hot_truth_by_the_id(shop: Shop, services: Microservices, arrival: Arrival, form: str) -> None:
    """An untyped flat list with one 1 is one row, where one row as wide was predicted. Nothing of it waits after."""
    waiting = shop.server.value("metrics_server_pending_truths")
    shop.deploy(services.node("classifier"))
    for flower in pick(24, seed=15):
        made, hot = shop.predict(flower), one_hot(flower.truth)
        data = {"ndarray": hot} if form == "ndarray" else {"tensor": {"shape": [CLASSES], "values": hot}}
        shop.joined(made, {"truth": {"data": data}})
        shop.log(made)
        shop.pair(made)
    shop.deliver(arrival.arrange)
    shop.verify()
    until(lambda: shop.server.value("metrics_server_pending_truths") == waiting, 10, "a truth waits")


@any_arrival
def test_a_flat_one_hot_truth_of_an_item(shop: Shop, services: Microservices, arrival: Arrival) -> None:
    """An id that names an item of a request is about one row, so that its flat list is one too."""
    shop.deploy(services.node("classifier"))
    flowers = pick(24, seed=16)
    for start in range(0, 24, 3):
        made = shop.predict(*flowers[start : start + 3])
        for row, flower in enumerate(made.flowers):
            shop.joined(made, {"truth": {"data": {"ndarray": one_hot(flower.truth)}}}, f"{made.puid}-item-{row}")
        shop.log(made)
        shop.pair(made)
    shop.deliver(arrival.arrange)
    shop.verify()


@any_arrival
def test_a_flat_list_of_several_rows(shop: Shop, services: Microservices, arrival: Arrival) -> None:
    """A flat list by the id of a request of three rows has a label for each, even where it looks like a one-hot row."""
    shop.deploy(services.node("classifier"), f"rows-{arrival.name}")
    flowers = [*pick(21, seed=17), *(Flower([9.0 * (i == 1), 9.0 * (i == 2)], i) for i in (0, 1, 0))]
    for start in range(0, 24, 3):
        made = shop.predict(*flowers[start : start + 3])
        shop.joined(made, {"truth": {"data": {"ndarray": made.truths}}})
        shop.log(made)
        shop.pair(made)
    assert made.truths == [0, 1, 0]
    shop.deliver(arrival.arrange)
    shop.verify()


def test_both_sides_flat_under_a_model_of_rows(shop: Shop, services: Microservices) -> None:
    """Response and truth that are both flat one-hot lists are one pair, where the metric model takes rows."""
    shop.deploy(services.node("flat", logs=False), "flat")
    for flower in pick(24, seed=18):
        made = shop.predict(flower)
        flat = made.response["data"]["ndarray"]
        shop.feedback(made, {"ndarray": one_hot(flower.truth)}, reward=1, direct=True)
        shop.ledger.pair("flat", [flower.truth], [flat.index(1)], predictor="")
        shop.ledger.reward("flat", 1, predictor="")
    shop.verify()


def test_one_scalar_against_several_truths(shop: Shop, services: Microservices) -> None:
    """One logged class and a truth of three values cannot be compared: nothing is scored."""
    shop.deploy(services.node("index"))
    for flower in pick(20, seed=19):
        made = shop.predict(flower)
        shop.joined(made, {"truth": {"data": {"ndarray": one_hot(flower.truth)}}})
        shop.log(made, "index")
    shop.deliver()
    shop.verify()
    assert net(shop.page(), "model_labels", status="matched") == 0
    assert net(shop.page(), "model_labels", status="unscorable") > 0


# Nodes with children


@any_arrival
def test_a_node_with_children_logs_twice(shop: Shop, services: Microservices, arrival: Arrival) -> None:
    """A transformer above a model logs its own output, then the answer of the graph: each request counts once for each
    of them, in any order, and the answer stands."""
    shop.deploy(services.node("scaler", services.node("classifier"), route="transform-input"))
    for number, flower in enumerate(pick(40, seed=20)):
        wide = Flower([10 * value for value in flower.features], flower.truth)
        made = shop.predict(wide)
        assert set(made.response["meta"]["requestPath"]) == {"scaler", "classifier"}
        shop.joined(made, {"truth": {"data": truth_of(made, number)}})
        shop.log(made, "scaler", "classifier")
        for model in ("scaler", "classifier"):
            shop.pair(made, model)
    shop.deliver(arrival.arrange)
    shop.verify()
    page = shop.page()
    for model in ("scaler", "classifier"):
        assert net(page, "model_predicted_class", model_name=model) == 40
        pairs = [page(f"seldon_metric_{kind}_positive_total", model_name=model) or 0 for kind in ("true", "false")]
        assert sum(pairs) == 40
    if arrival is ARRIVALS[0]:
        assert page("model_prediction_latency_seconds_count", model_name="classifier") == 40
        assert page("model_prediction_latency_seconds_count", model_name="scaler") == 40


@any_arrival
def test_transformer_and_model_both_on_the_path(shop: Shop, services: Microservices, arrival: Arrival) -> None:
    """Feedback that a transformer logs carries a path of two names. It joins nothing, and the transformer stands on the
    path itself: the pair is its own, and not the model's too."""
    shop.deploy(services.node("scaler", services.node("classifier", logs=False), route="transform-input"))
    for number, flower in enumerate(pick(24, seed=21)):
        made = shop.predict(Flower([10 * value for value in flower.features], flower.truth))
        shop.feedback(made, truth_of(made, number), reward=1)
        shop.log(made, "scaler")
        shop.pair(made, "scaler")
        shop.ledger.reward("scaler", 1)
    shop.deliver(arrival.arrange)
    shop.verify()


# SDKs of CloudEvents


@pytest.mark.parametrize("mode", ["binary", "structured"])
@pytest.mark.parametrize("sdk", [OLD_SDK, NEW_SDK], ids=["1.2.0", "the newest"])
def test_events_of_the_sdk(server: RunningServer, sdk: tuple[str, ...], mode: str) -> None:
    """Predictions and feedback that an application sends by the Python SDK are paired, in each content mode."""
    name, ledger = f"d{next(_numbers)}", Ledger()
    labels = {"namespace": NAMESPACE, "inferenceservicename": name, "endpoint": "main", "modelid": "classifier"}
    with sender(programs_of(*sdk) / "python", "cloudevents_sender.py") as application:

        def send(kind: str, request_id: str, data: Any) -> None:
            attributes = {"type": kind, "source": "/application", "id": str(uuid4()), "requestid": request_id}
            more = {"datacontenttype": "application/json", **labels}
            answer = application.ask(attributes=attributes | more, data=data, mode=mode, url=server.url)
            assert answer["status"] == 200

        for number, flower in enumerate(pick(30, seed=22)):
            row = [0.1, 0.2, 0.7] if number % 2 else [0.6, 0.3, 0.1]
            send(RESPONSE, f"{name}-{number}", {"data": {"ndarray": [row]}})
            send(FEEDBACK, f"{name}-{number}", {"truth": {"data": truth_forms(flower.truth)[number % 4]}})
            ledger.log("classifier")
            ledger.pair("classifier", [flower.truth], [row.index(max(row))])
    assert by_api(server, name) == by_page(server, name) == ledger.standings()


# KServe


class FlowerServer(NamedTuple):
    """A running model server of KServe."""

    url: str
    grpc: str


@pytest.fixture(scope="module")
def kserve() -> Path:
    return programs_of(*KSERVE)


@pytest.fixture(scope="module")
def flower_server(kserve: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlowerServer]:
    ports = [str(free_port()), str(free_port())]
    log = tmp_path_factory.mktemp("kserve") / "server.log"
    program = Program(log, [kserve / "python", SENDERS / "kserve_flower.py", *ports])
    try:
        program.await_answer(f"http://127.0.0.1:{ports[0]}/")
        yield FlowerServer(f"http://127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}")
    finally:
        program.stop()


class Agent:
    """Logs as KServe's agent does: one id for both events, and the request's content type on both."""

    def __init__(self, server: RunningServer) -> None:
        self.server, self.name, self.ledger = server, f"d{next(_numbers)}", Ledger()

    def log(self, request: bytes, response: bytes, content_type: str = "application/json") -> str:
        event_id = str(uuid4())
        for kind, body in ((KSERVE_REQUEST, request), (KSERVE_RESPONSE, response)):
            answer = self.server.post(body, self._headers(kind, event_id, content_type))
            assert (answer.status, answer.body) == (200, b"")
        return event_id

    def tell(self, event_id: str, truths: list[int]) -> None:
        """The truths by the id that the caller has set."""
        told = [
            {"request_id": event_id, "row": row, "truth": truth, "namespace": NAMESPACE, "deployment": self.name}
            for row, truth in enumerate(truths)
        ]
        answer = self.server.post(told, JSON_TYPE, "/v1/feedback")
        assert {one["status"] for one in json.loads(answer.body)} == {"accepted"}

    def expect(self, flowers: list[Flower]) -> None:
        largest = [flower.features.index(max(flower.features)) for flower in flowers]
        self.ledger.log("predictor", len(flowers), predictor="")
        self.ledger.pair("predictor", [flower.truth for flower in flowers], largest, predictor="")

    def verify(self) -> None:
        assert by_api(self.server, self.name) == by_page(self.server, self.name) == self.ledger.standings()

    def _headers(self, kind: str, event_id: str, content_type: str) -> dict[str, str]:
        now = ce_time(time.time())
        return {
            "Ce-Specversion": "1.0",
            "Ce-Id": event_id,
            "Ce-Type": kind,
            "Ce-Source": "http://localhost:9081/",
            "Ce-Inferenceservicename": self.name,
            "Ce-Namespace": NAMESPACE,
            "Ce-Component": "predictor",
            "Ce-Endpoint": "",
            "Ce-Metadata": "{}",
            "Ce-Time": now,
            "Ce-Recordedtime": now,
            "Content-Type": content_type,
        }


def ask(url: str, content: Any) -> tuple[bytes, bytes]:
    """The bytes of a request in JSON, and of its answer."""
    sent = json.dumps(content).encode()
    with urllib.request.urlopen(urllib.request.Request(url, sent, JSON_TYPE), timeout=20) as answer:
        return sent, answer.read()


def three_features(number: int, seed: int) -> list[Flower]:
    """Flowers whose largest feature is mostly that of their class, as the model server takes it."""
    chance = random.Random(seed)
    truths = [chance.randrange(CLASSES) for _ in range(number)]
    return [Flower([chance.gauss(2.0 * (i == truth), 1.0) for i in range(CLASSES)], truth) for truth in truths]


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_answers_of_kserve_in_json(server: RunningServer, flower_server: FlowerServer, protocol: str) -> None:
    """Real answers of V1 and V2, logged by the agent, are joined row by row with truths in plain JSON."""
    agent, flowers = Agent(server), three_features(48, seed=23)
    for start in range(0, 48, 2):
        some = flowers[start : start + 2]
        rows = [flower.features for flower in some]
        if protocol == "v1":
            exchange = ask(f"{flower_server.url}/v1/models/flower:predict", {"instances": rows})
        else:
            tensor = {"name": "x", "datatype": "FP64", "shape": [2, CLASSES], "data": sum(rows, [])}
            exchange = ask(f"{flower_server.url}/v2/models/flower/infer", {"id": "1", "inputs": [tensor]})
        agent.tell(agent.log(*exchange), [flower.truth for flower in some])
        agent.expect(some)
    agent.verify()


def frame(message: bytes, *, compressed: bool = False) -> bytes:
    """A message as HTTP/2 carries it under gRPC: a flag, a length, the bytes."""
    content = gzip.compress(message) if compressed else message
    return bytes([compressed]) + len(content).to_bytes(4, "big") + content


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
def test_answers_of_kserve_over_grpc(
    server: RunningServer, kserve: Path, flower_server: FlowerServer, compressed: bool
) -> None:
    """gRPC through the agent is logged with its frames, which are read."""
    agent, flowers = Agent(server), three_features(24, seed=24)
    with sender(kserve / "python", "kserve_grpc.py") as client:
        for start in range(0, 24, 2):
            some = flowers[start : start + 2]
            rows = [flower.features for flower in some]
            answer = client.ask(endpoint=flower_server.grpc, id=str(start), rows=rows)
            exchange = [frame(base64.b64decode(answer[end]), compressed=compressed) for end in ("request", "response")]
            agent.tell(agent.log(*exchange, content_type="application/grpc"), [flower.truth for flower in some])
            agent.expect(some)
    agent.verify()
