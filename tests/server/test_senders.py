"""Events exactly as each sender sends them, and a truth in plain JSON under the id that its client knows: the accuracy
is right."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.conftest import Serve
from tests.support.deployments import (
    KSERVE_REQUEST,
    KSERVE_RESPONSE,
    Deployment,
    ago,
    pending,
    stamp,
    starter,
)
from tests.support.raw_http import Client
from tests.support.running import FEEDBACK, REQUEST, RESPONSE, RunningServer
from tests.support.waiting import until

_offsets = itertools.count(8812)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    yield from starter(tmp_path_factory.mktemp("senders"), "--store", "memory://")


@pytest.fixture
def shop(shared: RunningServer) -> Deployment:
    return Deployment(shared)


def post(shop: Deployment, body: Any, headers: dict[str, str], status: int = 200) -> None:
    answer = shop.server.post(body, headers)
    assert answer.status == status, answer.body
    if status == 200:
        assert answer.body == b""  # what a broker takes for delivered


def assert_right(shop: Deployment) -> None:
    """Two truths have met their predictions, and one of them is right."""
    page, rows = shop.page(), 2
    assert page.statuses() == {"matched": rows}
    assert page("model_predictions_total") == rows
    assert page("model_support", window="1h") == rows
    assert page("model_accuracy_ratio", window="1h") == 0.5
    assert page("model_label_coverage_ratio", window="1h") == 1


# Seldon's executor over HTTP


def executor(shop: Deployment, kind: str, puid: str, protocol: str, **more: str) -> dict[str, str]:
    """Headers of Seldon's executor."""
    return {
        "User-Agent": "Go-http-client/1.1",
        "Ce-Endpoint": "main",
        "Ce-Id": str(uuid4()),
        "Ce-Inferenceservicename": shop.name,
        "Ce-Modelid": "classifier",
        "Ce-Namespace": "shop",
        "Ce-Protocol": protocol,
        "Ce-Requestid": puid,
        "Ce-Source": "http://:8000/",
        "Ce-Specversion": "1.0",
        "Ce-Time": stamp(ago(60)),
        "Ce-Traceparent": "00-4b1c9d0e7a6f4c0f9d2b3a5e6f708192-1a2b3c4d5e6f7081-00",
        "Ce-Type": kind,
        "Content-Type": "application/json",
        "Traceparent": "00-4b1c9d0e7a6f4c0f9d2b3a5e6f708192-1a2b3c4d5e6f7081-00",
        "Accept-Encoding": "gzip",
    } | more


ROWS = [[0.1, 0.2, 0.7], [0.8, 0.1, 0.1]]
FLAT = [value for row in ROWS for value in row]
FEATURES = [[5.1, 3.5], [4.9, 3.0]]
REST = [
    pytest.param(
        "seldon",
        {"data": {"ndarray": FEATURES}},
        {"data": {"names": ["c0", "c1", "c2"], "ndarray": ROWS}},
        id="ndarray",
    ),
    pytest.param(
        "seldon",
        {"data": {"tensor": {"shape": [2, 2], "values": [5.1, 3.5, 4.9, 3.0]}}, "meta": {}},
        {
            "data": {"names": [], "tensor": {"shape": [2, 3], "values": FLAT}},
            "meta": {"tags": {"build": "r17"}, "requestPath": {"c": "i:1"}},
        },
        id="tensor",
    ),
    pytest.param(
        "seldon",
        {"data": {"ndarray": FEATURES}},
        {
            "data": {
                "tftensor": {
                    "dtype": "DT_DOUBLE",
                    "tensorShape": {"dim": [{"size": "2"}, {"size": "3"}]},
                    "doubleVal": FLAT,
                }
            }
        },
        id="tftensor",
    ),
    pytest.param("seldon", {"jsonData": FEATURES}, {"jsonData": ROWS, "meta": {}}, id="jsonData"),
    pytest.param("tensorflow", {"instances": FEATURES}, {"predictions": ROWS}, id="tensorflow rows"),
    pytest.param("tensorflow", {"inputs": FEATURES}, {"outputs": ROWS}, id="tensorflow columns"),
    pytest.param(
        "tensorflow",
        {"instances": FEATURES},
        {"predictions": [{"scores": row} for row in ROWS]},
        id="tensorflow with a named output",
    ),
    pytest.param(
        "v2",
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 2], "data": FEATURES}]},
        {"model_name": "c", "id": "a1", "outputs": [{"name": "p", "datatype": "FP32", "shape": [2, 3], "data": FLAT}]},
        id="v2 flat",
    ),
    pytest.param(
        "kfserving",
        {"inputs": [{"name": "x", "datatype": "FP64", "shape": [2, 2], "data": [5.1, 3.5, 4.9, 3.0]}]},
        {
            "model_name": "c",
            "model_version": "1",
            "outputs": [{"name": "p", "datatype": "FP64", "shape": [2, 3], "data": ROWS}],
        },
        id="v2 nested, by its old name",
    ),
]


@pytest.mark.parametrize(("protocol", "request_body", "response_body"), REST)
def test_seldon_rest(shop: Deployment, protocol: str, request_body: Any, response_body: Any) -> None:
    """Request and response of each protocol in JSON, and a truth by the Seldon-Puid."""
    puid = str(uuid4())
    charset = {"Content-Type": "application/json; charset=utf-8"}  # as the client sent it
    post(shop, request_body, executor(shop, REQUEST, puid, protocol, **charset))
    post(shop, response_body, executor(shop, RESPONSE, puid, protocol))
    truths = [{"request_id": puid, "truth": 2}, {"request_id": puid, "row": 1, "truth": 1}]
    answer = shop.server.post(truths, {"Content-Type": "application/json"}, "/v1/feedback")
    assert (answer.status, json.loads(answer.body)) == (200, [{"status": "accepted"}] * 2)
    assert_right(shop)
    page = shop.page()
    assert page.cells() == {("2", "2"): 1, ("1", "0"): 1}
    assert page("model_prediction_latency_seconds_count") == 1
    labels = {"deployment_namespace": "shop", "predictor_name": "main", "model_name": "classifier"}
    assert page("model_support", window="1h", **labels) == 2


@pytest.mark.parametrize("protocol", ["seldon", "tensorflow"])
def test_seldons_own_feedback_event(shop: Deployment, protocol: str) -> None:
    """The client sent Seldon-Puid again; truth and reward in a Feedback, whatever the protocol of the predictions."""
    puid = str(uuid4())
    post(
        shop,
        {"predictions": ROWS} if protocol == "tensorflow" else {"data": {"ndarray": ROWS}},
        executor(shop, RESPONSE, puid, protocol),
    )
    body = {
        "reward": 0.5,
        "truth": {"data": {"ndarray": [[0, 0, 1], [0, 1, 0]]}, "meta": {"tags": {"labeller": "ops-3"}}},
    }
    post(shop, body, executor(shop, FEEDBACK, puid, protocol))
    assert_right(shop)
    assert shop.page()("model_reward_mean", window="1h") == 0.5


def test_a_request_that_seldon_logged_compressed(shop: Deployment) -> None:
    """gzip requests are logged as they came, with no hint; the id in them is read."""
    puid = str(uuid4())
    body = {"data": {"ndarray": FEATURES}, "meta": {"puid": shop.id("mine")}}
    post(shop, gzip.compress(json.dumps(body).encode()), executor(shop, REQUEST, puid, "seldon"))
    post(shop, {"data": {"ndarray": ROWS}}, executor(shop, RESPONSE, puid, "seldon"))
    assert shop.tell(request_id="mine", truth=2) == shop.tell(request_id="mine", row=1, truth=1) == "accepted"
    assert_right(shop)


def test_the_time_of_an_executor_has_nanoseconds(shop: Deployment) -> None:
    """As Go writes it; the prediction is that old."""
    post(
        shop,
        {"data": {"ndarray": [1]}},
        executor(shop, RESPONSE, shop.id("r"), "seldon", **{"Ce-Time": "2026-03-02T09:15:04.120934511Z"}),
    )
    shop.tell(request_id="r", truth=1, labelled_at="2026-03-02T09:16:04.120934Z")
    assert shop.page()("model_label_delay_seconds_sum") == pytest.approx(60, abs=1e-5)


# Seldon's executor over gRPC

SELDON_MESSAGE = "EgAaLAoCYzAKAmMxCgJjMhIeCgIBAxIYmpmZmZmZuT+amZmZmZnJP2ZmZmZmZuY/"  # one row, .1 .2 .7
MODEL_INFER_RESPONSE = "CgRpcmlzGgRyLTQyKhkKB3ByZWRpY3QSBUlOVDY0GgECKgQaAgAC"  # INT64 [0, 2]


@pytest.mark.parametrize("protocol", ["seldon", ""], ids=["stated", "not stated"])
def test_seldon_grpc(shop: Deployment, protocol: str) -> None:
    """A SeldonMessage in protobuf; executors before 1.14 do not name the protocol."""
    for puid in ("a", "b"):
        headers = executor(shop, RESPONSE, shop.id(puid), protocol, **{"Content-Type": "application/protobuf"})
        if not protocol:
            del headers["Ce-Protocol"]
        post(shop, base64.b64decode(SELDON_MESSAGE), headers)
    assert shop.tell(request_id="a", truth=2) == shop.tell(request_id="b", truth=0) == "accepted"
    assert_right(shop)
    assert shop.page().cells() == {("2", "2"): 1, ("0", "2"): 1}


@pytest.mark.parametrize("protocol", ["v2", "kfserving", ""])
def test_v2_grpc(shop: Deployment, protocol: str) -> None:
    """A ModelInferResponse in protobuf."""
    headers = executor(shop, RESPONSE, shop.id("r"), protocol, **{"Content-Type": "application/protobuf"})
    if not protocol:
        del headers["Ce-Protocol"]
    post(shop, base64.b64decode(MODEL_INFER_RESPONSE), headers)
    assert shop.tell(request_id="r", truth=0) == shop.tell(request_id="r", row=1, truth=1) == "accepted"
    assert_right(shop)
    assert shop.page().cells() == {("0", "0"): 1, ("1", "2"): 1}


# KServe's agent


def agent(shop: Deployment, kind: str, event_id: str, **more: str) -> dict[str, str]:
    """Headers of KServe's agent: one id for request and response, an empty endpoint, raw JSON for the client's
    headers."""
    return {
        "Ce-Specversion": "1.0",
        "Ce-Id": event_id,
        "Ce-Type": kind,
        "Ce-Source": "churn-predictor-00003-deployment-6d9f7c-x2x7z",
        "Ce-Time": stamp(ago(60)),
        "Ce-Recordedtime": stamp(ago(59)),
        "Ce-Inferenceservicename": shop.name,
        "Ce-Namespace": "crm",
        "Ce-Component": "predictor",
        "Ce-Endpoint": "",
        "Ce-Metadata": '{"X-Tenant":["b 7"],"Accept":["*/*, \\"q\\"=50%"]}',
        "Ce-Annotations": '{"team":"risk"}',
        "Content-Type": "application/json",
    } | more


V2_ANSWER = {
    "model_name": "churn",
    "id": "a1",
    "outputs": [{"name": "p", "datatype": "FP32", "shape": [2, 2], "data": [0.9, 0.1, 0.3, 0.7]}],
}
BINARY_JSON = (
    b'{"model_name":"sent","id":"r-7",'
    b'"outputs":[{"name":"label","datatype":"BYTES","shape":[2],"parameters":{"binary_data_size":18}}]}'
)
BINARY_BYTES = bytes.fromhex("03 00 00 00 6e 65 67 07 00 00 00 70 6f 73 69 74 69 76")


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/octet-stream", "text/plain", "", "application/x-www-form-urlencoded"],
)
@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
def test_kserve_v1(shop: Deployment, content_type: str, zipped: bool) -> None:
    """The request's content type stands on the response too, and gzip is not declared; the body tells."""
    more = {"Content-Type": content_type}
    for kind, body in ((KSERVE_REQUEST, {"instances": FEATURES}), (KSERVE_RESPONSE, {"predictions": [1, 0]})):
        data = json.dumps(body).encode()
        post(shop, gzip.compress(data) if zipped else data, agent(shop, kind, shop.id("r"), **more))
    assert shop.tell(request_id="r", truth=1) == shop.tell(request_id="r", row=1, truth=1) == "accepted"
    assert_right(shop)
    page = shop.page()
    assert (
        page("model_support", window="1h", deployment_namespace="crm", predictor_name="", model_name="predictor") == 2
    )
    assert page("model_prediction_latency_seconds_count") == 1


@pytest.mark.parametrize(
    ("body", "truths"),
    [
        pytest.param(json.dumps(V2_ANSWER).encode(), [0, 0], id="json"),
        pytest.param(BINARY_JSON + BINARY_BYTES, ["neg", "neg"], id="binary"),
        pytest.param(gzip.compress(BINARY_JSON + BINARY_BYTES), ["neg", "neg"], id="binary in gzip"),
    ],
)
@pytest.mark.parametrize("content_type", ["application/json", "application/octet-stream"])
def test_kserve_v2(shop: Deployment, body: bytes, truths: list[Any], content_type: str) -> None:
    """Tensors in JSON, and BYTES behind it without the header that says where the JSON ends."""
    post(shop, b'{"inputs":[]}', agent(shop, KSERVE_REQUEST, shop.id("r"), **{"Content-Type": content_type}))
    post(shop, body, agent(shop, KSERVE_RESPONSE, shop.id("r"), **{"Content-Type": content_type}))
    for row, truth in enumerate(truths):
        assert shop.tell(request_id="r", row=row, truth=truth) == "accepted"
    assert_right(shop)


def test_kserve_transformer_and_predictor(shop: Deployment) -> None:
    """Both log under one id; they are told apart by their component, and the truth labels both."""
    for component, predictions in (("predictor", [1, 0]), ("transformer", [1, 1])):
        for kind, body in ((KSERVE_REQUEST, {"instances": FEATURES}), (KSERVE_RESPONSE, {"predictions": predictions})):
            more = {"Ce-Component": component, "Ce-Source": f"churn-{component}-00003"}
            post(shop, body, agent(shop, kind, shop.id("r"), **more))
    assert shop.tell(request_id="r", truth=1) == shop.tell(request_id="r", row=1, truth=1) == "accepted"
    page = shop.page()
    assert page.by("model_accuracy_ratio", "model_name", window="1h") == {"predictor": 0.5, "transformer": 1}
    assert page.by("model_prediction_latency_seconds_count", "model_name") == {"predictor": 1, "transformer": 1}


def test_feedback_of_kserves_family(shop: Deployment) -> None:
    """An event of its own type joins on its own id, as request and response do; a stated request id goes before."""
    headers = agent(shop, "org.kubeflow.serving.feedback", shop.id("r")) | {"Ce-Source": "/labelling"}
    post(shop, {"predictions": [1, 0]}, agent(shop, KSERVE_RESPONSE, shop.id("r")))
    for _ in range(2):
        post(shop, {"truth": {"data": {"ndarray": [1, 1]}}}, headers)
    assert_right(shop)
    correction = headers | {"Ce-Id": shop.id("c"), "Ce-Requestid": shop.id("r"), "Ce-Time": stamp(ago(10))}
    post(shop, {"truth": {"data": {"ndarray": [1, 0]}}}, correction)
    assert shop.page().cells() == {("1", "1"): 1, ("0", "0"): 1}


@pytest.mark.parametrize(
    "metadata", ["null", "{}", "{", "[]", '{"X-Tenant":[]}', '{"X-Tenant":"b"}', '{"X-Tenant":["%zz \\u0000"]}']
)
def test_whatever_kserve_says_of_the_clients_headers(shop: Deployment, metadata: str) -> None:
    """An extension never refuses an event."""
    post(
        shop,
        {"predictions": [1]},
        agent(shop, KSERVE_RESPONSE, shop.id("r"), **{"Ce-Metadata": metadata, "Ce-Annotations": metadata}),
    )
    assert shop.page()("model_predictions_total") == 1


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
def test_kserve_streams_a_language_model(shop: Deployment, zipped: bool) -> None:
    """Server-sent events under application/json are one prediction that no metric reads; a truth of it is
    unscorable."""
    request = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    chunks = [
        {"id": "c", "object": "chat.completion.chunk", "choices": [{"delta": {"content": text}}]}
        for text in ("Hel", "lo")
    ]
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks).encode() + b"data: [DONE]\n\n"
    post(shop, request, agent(shop, KSERVE_REQUEST, shop.id("r")))
    post(shop, gzip.compress(body) if zipped else body, agent(shop, KSERVE_RESPONSE, shop.id("r")))
    assert shop.tell(request_id="r", truth="good") == "accepted"
    page = shop.page()
    assert page("model_predictions_total") == 1
    assert page.statuses() == {"unscorable": 1}
    assert page("model_support") is None


METADATA = [
    pytest.param(
        {"name": "m", "versions": ["1"], "platform": "xgb", "inputs": [], "outputs": []},
        id="v2 model, nothing declared",  # as MLServer describes most models
    ),
    pytest.param(
        {
            "name": "m",
            "platform": "xgb",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
            "outputs": [{"name": "p", "datatype": "INT64", "shape": [-1, 1]}],
        },
        id="v2 model",
    ),
    pytest.param({"name": "mlserver", "version": "1.7.0", "extensions": []}, id="v2 server"),
    pytest.param({"name": "m", "ready": True}, id="v1 model"),
    pytest.param({"models": ["m"]}, id="v1 models"),
    pytest.param({"live": True}, id="v2 live"),
    pytest.param({"object": "list", "data": [{"id": "m", "object": "model"}]}, id="openai models"),
    pytest.param(b"", id="empty"),
    pytest.param(b"# HELP x y\n# TYPE x gauge\nx 1\n", id="metrics page"),
    pytest.param(b"<html>", id="html"),
]


@pytest.mark.parametrize("body", METADATA)
@pytest.mark.parametrize("content_type", ["application/json", ""])
def test_what_kserve_logs_beside_inference(shop: Deployment, body: Any, content_type: str) -> None:
    """The agent logs every call, metadata too. It is no prediction: refused for good or ignored, and no number of a
    model moves."""
    more = {"Content-Type": content_type}
    post(shop, b"", agent(shop, KSERVE_REQUEST, shop.id("r"), **more))
    answer = shop.server.post(body, agent(shop, KSERVE_RESPONSE, shop.id("r"), **more))
    assert answer.status in (200, 400, 415, 422)
    assert shop.page().numbers() == {}
    if answer.status != 200:
        assert answer.reason in ("unknown_protocol", "malformed_payload", "malformed_json")


# Knative


def test_knatives_kafka_source(shop: Deployment) -> None:
    """Records of Seldon's Kafka logger, wrapped: what they are stands in their headers, their identity in partition and
    offset."""

    def wrapped(kind: str, content_type: str = "application/json") -> dict[str, str]:
        offset = next(_offsets)
        return {
            "Ce-Specversion": "1.0",
            "Ce-Id": f"partition:3/offset:{offset}",
            "Ce-Type": "dev.knative.kafka.event",
            "Ce-Source": "/apis/v1/namespaces/shop/kafkasources/seldon-log#seldon",
            "Ce-Subject": f"partition:3#{offset}",
            "Ce-Time": stamp(ago(60)),
            "Ce-Kafkaheadertype": kind,
            "Ce-Kafkaheaderrequestid": shop.id("r"),
            "Ce-Kafkaheadermodelid": "classifier",
            "Ce-Kafkaheaderinferenceservicename": shop.name,
            "Ce-Kafkaheadernamespace": "shop",
            "Ce-Kafkaheaderendpoint": "main",
            "Ce-Kafkaheaderprotocol": "seldon",
            "Content-Type": content_type,
            "Prefer": "reply",
            "Kn-Namespace": "shop",
            "Ce-Knativearrivaltime": stamp(ago(1)),
        }

    sent = [
        (wrapped(REQUEST), {"data": {"ndarray": FEATURES}}),
        (wrapped(RESPONSE), {"data": {"ndarray": ROWS}}),
        (wrapped(FEEDBACK), {"truth": {"data": {"ndarray": [2]}}}),
    ]
    for headers, body in sent * 2:
        post(shop, body, headers)
    assert shop.tell(request_id="r", row=1, truth=1) == "accepted"
    assert_right(shop)
    labels = {"deployment_namespace": "shop", "predictor_name": "main", "model_name": "classifier"}
    assert shop.page()("model_support", window="1h", **labels) == 2
    other = Deployment(shop.server)
    post(
        other,
        base64.b64decode(SELDON_MESSAGE),
        wrapped(RESPONSE, "application/protobuf") | {"Ce-Kafkaheaderinferenceservicename": other.name},
    )
    assert other.page()("model_predictions_total") == 1


def envelope(shop: Deployment, kind: str, request_id: str, **members: Any) -> dict[str, Any]:
    names = {"inferenceservicename": shop.name, "namespace": "shop", "endpoint": "main", "modelid": "classifier"}
    event_id = str(uuid4())
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": "/l",
        "type": kind,
        "requestid": shop.id(request_id),
        **names,
        **members,
    }


def test_structured_and_batched_events(shop: Deployment) -> None:
    """A trigger that asks for structured mode, and a batch of everything at once, protobuf in base64 among it; sent
    twice, counted once."""
    structured, batched = (
        {"Content-Type": f"application/cloudevents{kind}+json; charset=UTF-8"} for kind in ("", "-batch")
    )
    protobuf = {"datacontenttype": "application/protobuf", "data_base64": SELDON_MESSAGE, "protocol": "seldon"}
    one = envelope(shop, RESPONSE, "a", **protobuf, time=stamp(ago(60)), subject=None)
    batch = [
        envelope(shop, FEEDBACK, "a", data={"truth": {"data": {"ndarray": [2]}}}),
        envelope(
            shop, FEEDBACK, "b", datacontenttype="application/json", data={"truth": {"data": {"ndarray": [[1, 0, 0]]}}}
        ),
        envelope(
            shop,
            RESPONSE,
            "b",
            data_base64=base64.b64encode(json.dumps({"data": {"ndarray": ROWS[:1]}}).encode()).decode(),
        ),
        envelope(shop, REQUEST, "b", data={"data": {"ndarray": FEATURES[:1]}}),
    ]
    for _ in range(2):
        post(shop, one, structured)
        post(shop, batch, batched)
    assert_right(shop)
    assert shop.page().cells() == {("2", "2"): 1, ("0", "2"): 1}
    post(shop, [], batched)


def test_the_web_hook_handshake(shop: Deployment) -> None:
    """A sender asks for consent, gets it for its own origin, and delivers."""
    asked = {"WebHook-Request-Origin": "events.example.net", "WebHook-Request-Rate": "600"}
    shake = shop.server.request("OPTIONS", "/", headers=asked)
    assert shake.status == 204
    assert shake.headers["WebHook-Allowed-Origin"] in ("events.example.net", "*")
    assert shake.headers["WebHook-Allowed-Rate"] in ("600", "*")
    assert "POST" in shake.headers["Allow"]
    structured = {"Content-Type": "application/cloudevents+json", "WebHook-Request-Origin": "events.example.net"}
    post(shop, envelope(shop, RESPONSE, "r", data={"data": {"ndarray": ROWS}}), structured)
    assert shop.tell(request_id="r", truth=2) == shop.tell(request_id="r", row=1, truth=1) == "accepted"
    assert_right(shop)


# Slices

SLICES = "tenant=header:X-Tenant,build=tag:build,ep=attribute:endpoint,team=annotation:team"


@pytest.fixture(scope="module")
def sliced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    yield from starter(tmp_path_factory.mktemp("sliced"), "--store", "memory://", "--slices", SLICES)


def tenant(name: str) -> dict[str, str]:
    return {"Ce-Metadata": json.dumps({"x-tenant": [name, "and another"]})}


@pytest.mark.parametrize("turned", [False, True], ids=["predictions first", "truths first"])
def test_slices_of_kserve(sliced: RunningServer, turned: bool) -> None:
    """By what the agent logs of the client's headers and the pod's annotations; an empty endpoint is a value of its own
    or none."""
    shop = Deployment(sliced)

    def predictions() -> None:
        for number, name in enumerate(["b 7", "b 7", "c"]):
            post(
                shop, {"predictions": [number % 2]}, agent(shop, KSERVE_RESPONSE, shop.id(f"r{number}"), **tenant(name))
            )

    def truths() -> None:
        for number in range(3):
            shop.tell(request_id=f"r{number}", truth=0)

    for step in (truths, predictions) if turned else (predictions, truths):
        step()
    page = shop.page()
    support = page.by("model_support", "slice", window="1h")
    assert {name: count for name, count in support.items() if name != "ep="} == {
        "": 3,
        "tenant=b 7": 2,
        "tenant=c": 1,
        "team=risk": 3,
    }
    assert page("model_accuracy_ratio", window="1h", slice="tenant=b 7") == 0.5
    assert page("model_accuracy_ratio", window="1h", slice="tenant=c") == 1
    predicted = page.by("model_predictions_total", "slice")
    assert (predicted["tenant=b 7"], predicted["team=risk"]) == (2, 3)
    assert page.cells(slice="tenant=b 7") == {("0", "0"): 1, ("0", "1"): 1}
    assert page.statuses(slice="tenant=b 7") == {"matched": 2}
    assert page("model_label_coverage_ratio", window="1h", slice="tenant=b 7") == 1
    whole = [sample for sample in page.samples if sample.name == "model_support" and "slice" not in sample.labels]
    assert sorted(sample.labels["window"] for sample in whole) == ["1d", "1h", "30d", "7d"]


def test_slices_of_seldon(sliced: RunningServer) -> None:
    """By the tags of the response and by the endpoint; a carried response is sliced too; the ancestor's counters are
    not."""
    shop = Deployment(sliced)
    shop.predict("a", "cat", meta={"tags": {"build": "r17", "other": 1}})
    shop.predict("b", "cat", meta={"tags": {"build": 18}}, endpoint="canary")
    shop.predict("c", "cat", meta={"tags": {"build": True}})
    shop.truth("a", "cat")
    shop.truth("b", "dog")
    shop.truth("c", "cat")
    response = {"data": {"ndarray": ["owl"]}, "meta": {"tags": {"build": "r17"}}}
    shop.send(FEEDBACK, {"response": response, "truth": {"data": {"ndarray": ["dog"]}}}, "d")
    page = shop.page()
    assert page.by("model_support", "slice", window="1h", predictor_name="main") == {
        "": 3,
        "build=r17": 2,
        "build=true": 1,
        "ep=main": 3,
    }
    assert page.by("model_support", "slice", window="1h", predictor_name="canary") == {
        "": 1,
        "build=18": 1,
        "ep=canary": 1,
    }
    assert page("model_accuracy_ratio", window="1h", slice="build=r17") == 0.5
    assert page.by("model_predictions_total", "slice", predictor_name="main") == {
        "": 2,
        "build=r17": 1,
        "build=true": 1,
        "ep=main": 2,
    }
    assert page("model_label_coverage_ratio", window="1h", slice="build=r17") is None  # two labelled, one logged
    assert not [sample for sample in page.samples if sample.name.startswith("seldon_") and "slice" in sample.labels]
    assert page("seldon_metric_true_positive_total", **{"class": "CLASS_cat"}) == 2


def test_plain_feedback_is_in_no_slice(sliced: RunningServer) -> None:
    """A pair told without an event has nothing to slice by; once its prediction is logged it is in the slices of
    that."""
    shop = Deployment(sliced)
    pair = {
        "truth": "cat",
        "prediction": "cat",
        "deployment": shop.name,
        "namespace": "shop",
        "predictor": "main",
        "model": "classifier",
    }
    assert shop.tell(request_id="r", **pair) == "accepted"
    assert shop.page().by("model_support", "slice", window="1h") == {"": 1}
    shop.predict("r", "cat", meta={"tags": {"build": "r17"}})
    assert shop.page().by("model_support", "slice", window="1h") == {"": 1, "build=r17": 1, "ep=main": 1}


def test_corrections_move_slices(sliced: RunningServer) -> None:
    """A later truth moves the pair in every slice of its prediction; a later response moves the prediction to its own
    slices."""
    shop = Deployment(sliced)
    shop.predict("r", "cat", at=ago(100), meta={"tags": {"build": "old"}})
    shop.truth("r", "dog", at=ago(90))
    shop.truth("r", "cat", at=ago(80))
    page = shop.page()
    for part in ("build=old", "ep=main"):
        assert page.cells(slice=part) == {("cat", "cat"): 1}, part
        assert page("model_confusion_retracted_total", truth="dog", slice=part) == 1
        assert page("model_accuracy_ratio", window="1h", slice=part) == 1
        assert page.statuses(slice=part) == {"matched": 1, "corrected": 1}
    shop.predict("r", "cat", at=ago(70), meta={"tags": {"build": "new"}})
    page = shop.page()
    assert page.by("model_support", "slice", window="1h") == {"": 1, "build=new": 1, "ep=main": 1}
    assert page.cells(slice="build=old") == {}
    assert page.cells(slice="build=new") == {("cat", "cat"): 1}
    assert page("model_label_coverage_ratio", window="1h", slice="build=old") is None
    assert page("model_label_coverage_ratio", window="1h", slice="build=new") == 1
    shop.truth("r", None)
    assert shop.page()("model_support", window="1h") is None


@pytest.mark.parametrize("value", ["x" * 300, "a\u0000b", "tab\there", "line\nbreak", "\x7f"], ids=repr)
def test_what_cannot_be_a_label_is_in_no_slice(sliced: RunningServer, value: str) -> None:
    """The prediction counts all the same, in its series and in its other slices."""
    shop = Deployment(sliced)
    shop.predict("r", "cat", meta={"tags": {"build": value}})
    post(shop, {"predictions": ["cat"]}, agent(shop, KSERVE_RESPONSE, shop.id("k"), **tenant(value)))
    for request_id in ("r", "k"):
        shop.tell(request_id=request_id, truth="cat")
    support = shop.page().by("model_support", "slice", window="1h")
    support.pop("ep=", None)
    assert support == {"": 2, "ep=main": 1, "team=risk": 1}


def test_slices_beyond_the_limit_are_others(serve: Serve) -> None:
    """The first two have series of their own, all after them share one for each dimension; corrections move within it;
    a restart keeps it."""
    options = "--slices", "build=tag:build", "--max_slices", "2"
    server = serve(*options)
    shop = Deployment(server)
    for number, build in enumerate(["a", "b", "c", "d", "a"]):
        shop.predict(f"r{number}", "cat", at=ago(100), meta={"tags": {"build": build}})
        shop.truth(f"r{number}", "dog", at=ago(90))
    for _ in range(2):
        page = shop.page()
        assert page.by("model_support", "slice", window="1h") == {
            "": 5,
            "build=a": 2,
            "build=b": 1,
            "build=__other__": 2,
        }
        assert page.windows("model_accuracy_ratio", slice="build=__other__") == {}
        server.stop()
        server = shop.server = serve(*options)
    shop.truth("r2", "cat")
    page = shop.page()
    assert page("model_accuracy_ratio", window="1h", slice="build=__other__") == 0.5
    assert page.cells(slice="build=__other__") == {("cat", "cat"): 1, ("dog", "cat"): 1}
    shop.predict("r9", "cat", meta={"tags": {"build": "e"}})
    assert shop.page()("model_predictions_total", slice="build=__other__") == 3


# Nodes that count


def test_only_named_models_are_scored(serve: Serve) -> None:
    """With --score_models other nodes' predictions move no number, and their feedback still brings the truth."""
    server = serve("--store", "memory://", "--score_models", "tree,net")
    shop = Deployment(server)
    shop.predict("r", [5.1, 3.5, 1.4], modelid="scaler")
    shop.predict("r", [0.1, 0.2, 0.7], modelid="tree")
    shop.truth("r", [0, 0, 1], modelid="scaler")
    page = shop.page()
    assert page.by("model_predictions_total", "model_name") == {"tree": 1}
    assert page.cells() == {("2", "2"): 1}
    assert page.statuses() == {"matched": 1}
    assert {sample.labels["model_name"] for sample in page.samples if "model_name" in sample.labels} == {"tree"}
    shop.pair("p", [0, 0, 1], [0.1, 0.2, 0.7], modelid="scaler")  # the truth waits for a model that counts
    until(lambda: pending(server) == (0, 1), 20, "one truth waits")
    shop.predict("p", [0.7, 0.2, 0.1], modelid="net")
    page = shop.page()
    assert page.cells(model_name="net") == {("2", "0"): 1}
    assert page.by("model_support", "model_name", window="1h") == {"tree": 1, "net": 1}
    assert page("model_support", window="1h", model_name="scaler") is None


# Bytes


def test_an_event_byte_by_byte_as_kserve_writes_it(shop: Deployment) -> None:
    """The agent's request as it is on the wire: an empty header, raw JSON in a header, a body of no declared length in
    chunks."""
    body = b'{"predictions":[1,0]}'
    lines = [f"{name}: {value}".rstrip(" ") for name, value in agent(shop, KSERVE_RESPONSE, shop.id("r")).items()]
    head = "\r\n".join(
        ["POST / HTTP/1.1", "Host: metrics.crm.svc", *lines, "Transfer-Encoding: chunked", "", ""]
    ).encode()
    with Client(shop.server.port) as client:
        client.send(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        answer = client.answer()
    assert (answer.status, answer.body) == (200, b"")
    assert shop.tell(request_id="r", truth=1) == shop.tell(request_id="r", row=1, truth=1) == "accepted"
    assert_right(shop)
