"""What is kept is bounded, and what is bad is refused: the oldest leave, all of it is counted, and numbers already made
never change."""

from __future__ import annotations

import base64
import gzip
import json
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict_openmetrics

from metrics_server.ingest.payload.pb import inference_pb2, seldon_pb2
from tests.conftest import Serve
from tests.support.deployments import RETENTION, Deployment, ago, pending, stamp, starter
from tests.support.running import FEEDBACK, RESPONSE, Answer, RunningServer
from tests.support.waiting import until

BATCH = {"Content-Type": "application/cloudevents-batch+json"}
JSON = {"Content-Type": "application/json"}
STRUCTURED = {"Content-Type": "application/cloudevents+json"}

# What is kept is decided above the stores, whose own promises are those of the contract.
stores = pytest.mark.parametrize(
    "store", ["sqlite:///metrics-server.db", pytest.param("memory://", marks=pytest.mark.long)]
)


def envelope(shop: Deployment, kind: str, name: str, data: Any, *, joins: bool = True) -> dict[str, Any]:
    names = {"namespace": "shop", "inferenceservicename": shop.name, "endpoint": "main", "modelid": "classifier"}
    ids = {"requestid": shop.id(name)} if joins else {}
    event = {
        "specversion": "1.0",
        "id": f"{kind}-{name}",
        "source": f"/{shop.name}",
        "type": kind,
        "time": stamp(ago(60)),
    }
    return {**event, **names, **ids, "data": data}


def send_all(shop: Deployment, events: Sequence[Any], at_once: int = 500) -> None:
    for start in range(0, len(events), at_once):
        answer = shop.server.post(events[start : start + at_once], BATCH)
        assert (answer.status, answer.body) == (200, b""), answer.body


def log_all(shop: Deployment, names: Sequence[str], label: Any = "cat") -> None:
    send_all(shop, [envelope(shop, RESPONSE, name, {"data": {"ndarray": [label]}}) for name in names])


def tell_all(shop: Deployment, names: Sequence[str], truth: Any = "cat") -> list[str]:
    statements = [
        {"request_id": shop.id(name), "truth": truth, "namespace": "shop", "deployment": shop.name} for name in names
    ]
    answer = shop.server.post(
        [{**one, "predictor": "main", "model": "classifier"} for one in statements], JSON, "/v1/feedback"
    )
    assert answer.status == 200, answer.body
    return [str(row["status"]) for row in json.loads(answer.body)]


def await_the_next_second() -> None:
    """Age is kept in whole seconds: what comes after this is younger."""
    now = int(time.time())
    until(lambda: int(time.time()) > now, 20, "the clock stands still")


def dropped_rows(server: RunningServer, kind: str, cause: str) -> float | None:
    return server.value("metrics_server_dropped_rows_total", kind=kind, cause=cause)


# Too much


@stores
def test_beyond_max_pending_the_oldest_predictions_leave(serve: Serve, store: str) -> None:
    """Of 1000 the youngest 100 stay, as many as are allowed; the others are counted, find no truth any more, and change
    nothing made."""
    server = serve("--store", store, "--max_pending", "100")
    shop = Deployment(server)
    old, young = [f"old{n}" for n in range(900)], [f"young{n}" for n in range(100)]
    assert server.value("metrics_server_pending_horizon_seconds") in (0, RETENTION)  # looked at now and then
    log_all(shop, old)
    await_the_next_second()
    log_all(shop, young)
    until(lambda: dropped_rows(server, "prediction", "evicted") == 900, 20, "all but 100 predictions leave")
    assert pending(server) == (100, 0)
    horizon = server.value("metrics_server_pending_horizon_seconds")
    assert horizon is not None
    assert 0 <= horizon < 60
    assert shop.page()("model_predictions_total") == 1000

    assert tell_all(shop, young) == ["accepted"] * 100
    made = shop.page().numbers()
    assert shop.page().statuses() == {"matched": 100}
    assert shop.page()("model_label_coverage_ratio", window="1h") == 0.1
    await_the_next_second()
    assert tell_all(shop, old[:10]) == ["pending"] * 10  # ten of the pairs have to leave for them
    until(lambda: pending(server) == (0, 10), 20, "ten truths wait")
    await_the_next_second()
    log_all(shop, [f"last{n}" for n in range(100)])
    until(lambda: dropped_rows(server, "truth", "evicted") == 10, 20, "truths and pairs leave for the youngest")
    assert pending(server) == (100, 0)
    assert dropped_rows(server, "prediction", "evicted") == 900
    assert shop.page().statuses() == {"matched": 100, "evicted": 10}
    after = shop.page().numbers()
    changed = {name for (name, labels), value in made.items() if after[name, labels] != value}
    assert changed <= {
        "model_predictions_total",
        "model_predicted_class_total",
        "model_label_coverage_ratio",
        "model_labels_total",
    }
    assert shop.page().cells() == {("cat", "cat"): 100}
    assert shop.page()("model_support", window="1h") == 100


def test_beyond_max_pending_the_oldest_truths_leave(serve: Serve) -> None:
    """They are counted under the series that their event named, where there is one, and all of them for the server."""
    server = serve("--max_pending", "100")
    shop, nobody = Deployment(server), Deployment(server)
    shop.pair("r", "cat", "cat")
    await_the_next_second()
    tell_all(nobody, [f"t{n}" for n in range(50)])
    await_the_next_second()
    tell_all(shop, [f"t{n}" for n in range(300)])
    until(lambda: dropped_rows(server, "truth", "evicted") == 250, 20, "all but 100 truths leave")
    assert pending(server) == (0, 100)
    assert dropped_rows(server, "prediction", "evicted") == 0
    assert shop.page().statuses() == {"matched": 1, "evicted": 200}
    assert nobody.page().samples == []
    server.stop()
    shop.server = server = serve("--max_pending", "100")
    until(lambda: pending(server) == (0, 100), 20, "what is kept is counted after a restart")
    assert shop.page().statuses() == {"matched": 1, "evicted": 200}


def test_beyond_max_pending_bytes_the_oldest_leave(serve: Serve) -> None:
    """A limit of bytes does the same as one of rows, and leaves about as much as it allows."""
    server = serve("--max_pending_bytes", "100000")
    shop = Deployment(server)
    log_all(shop, [f"old{n}" for n in range(1000)])
    await_the_next_second()
    young = [f"young{n}" for n in range(100)]
    log_all(shop, young)
    until(lambda: (dropped_rows(server, "prediction", "evicted") or 0) > 0, 20, "some predictions leave")
    kept: list[float] = []

    def is_settled() -> bool:
        kept.append(pending(server)[0] or 0)
        return kept[-1] + (dropped_rows(server, "prediction", "evicted") or 0) == 1100 and kept[-4:] == [kept[-1]] * 4

    until(is_settled, 20, "no more predictions leave")
    assert 100000 / 400 < kept[-1] < 100000 / 84, kept[-1]
    assert tell_all(shop, young) == ["accepted"] * 100
    assert shop.page()("model_predictions_total") == 1100


def test_a_row_beside_the_limit_of_bytes_is_still_applied(serve: Serve) -> None:
    """A limit below a single row keeps nothing to join, but what comes as a pair counts."""
    server = serve("--store", "memory://", "--max_pending_bytes", "1")
    shop = Deployment(server)
    shop.pair("r", "cat", "cat")
    shop.predict("s", "cat")
    until(lambda: dropped_rows(server, "prediction", "evicted") == 1, 20, "the prediction leaves")
    assert shop.tell(request_id="s", truth="cat") == "pending"
    until(lambda: dropped_rows(server, "truth", "evicted") == 1, 20, "the truth leaves")
    assert shop.page().cells() == {("cat", "cat"): 1}
    assert shop.page()("model_predictions_total") == 1


@stores
def test_beyond_max_dedupe_keys_the_oldest_leave(serve: Serve, store: str) -> None:
    """Of events without a request id the youngest are known when they come again; the oldest would count again, and no
    pair is lost."""
    server = serve("--store", store, "--max_dedupe_keys", "50")
    shop = Deployment(server)
    pair = {"response": {"data": {"ndarray": ["cat"]}}, "truth": {"data": {"ndarray": ["cat"]}}}
    events = [envelope(shop, FEEDBACK, f"k{n}", pair, joins=False) for n in range(270)]
    oldest, young = events[:1], events[240:]
    for start, end in ((0, 180), (180, 240), (240, 270)):
        send_all(shop, events[start:end])
        await_the_next_second()
    assert shop.page()("model_support", window="1h") == 270

    def counts_again() -> bool:
        send_all(shop, oldest)
        return shop.page()("model_support", window="1h") == 271

    until(counts_again, 20, "the oldest key is forgotten")
    for _ in range(3):
        send_all(shop, young)
    assert shop.page()("model_support", window="1h") == 271
    assert shop.page().statuses() == {"matched": 271}
    assert dropped_rows(server, "prediction", "evicted") == dropped_rows(server, "truth", "evicted") == 0


# Too long


@stores
def test_what_waits_longer_than_the_retention_leaves(serve: Serve, store: str) -> None:
    """Predictions and truths expire, each counted; pairs stay in every number; a late truth waits and expires in its
    turn."""
    server = serve("--store", store, "--retention", "3s")
    shop = Deployment(server)
    shop.pair("p", "cat", "dog")
    log_all(shop, [f"r{n}" for n in range(30)])
    tell_all(shop, [f"t{n}" for n in range(20)])
    tell_all(shop, [f"r{n}" for n in range(10)])
    made = shop.page().numbers()
    assert shop.page().statuses() == {"matched": 11}
    until(lambda: dropped_rows(server, "prediction", "expired") == 20, 20, "twenty predictions expire")
    until(lambda: dropped_rows(server, "truth", "expired") == 20, 20, "twenty truths expire")
    until(lambda: pending(server) == (0, 0), 20, "nothing waits")
    assert shop.page().statuses() == {"matched": 11, "expired": 20}
    assert (
        tell_all(shop, ["r0", "r20"], "dog") == ["pending"] * 2
    )  # a correction that comes too late, and a truth that does
    until(lambda: dropped_rows(server, "truth", "expired") == 22, 20, "the late truths expire too")
    page = shop.page()
    assert page.statuses() == {"matched": 11, "expired": 22}
    assert {key: value for key, value in page.numbers().items() if key[0] != "model_labels_total"} == {
        key: value for key, value in made.items() if key[0] != "model_labels_total"
    }
    assert dropped_rows(server, "prediction", "evicted") == dropped_rows(server, "truth", "evicted") == 0
    assert server.value("metrics_server_pending_horizon_seconds") == 3


def test_a_request_id_that_comes_again_after_it_expired(serve: Serve) -> None:
    """It is another request then, and the numbers are of both."""
    server = serve("--store", "memory://", "--retention", "3s")
    shop = Deployment(server)
    shop.predict("r", "cat")
    shop.truth("r", "cat")
    shop.predict("after it", "cat", modelid="another")
    until(lambda: dropped_rows(server, "prediction", "expired") == 1, 20, "what came after the pair expires")
    shop.predict("r", "dog")
    assert shop.page().cells() == {("cat", "cat"): 1}
    shop.truth("r", "cat")
    assert shop.page().cells() == {("cat", "cat"): 1, ("cat", "dog"): 1}
    assert shop.page().statuses() == {"matched": 2}


# Too many series


def test_one_series_too_many_is_refused(serve: Serve) -> None:
    """The others go on; what was refused was not stored, and is taken once there is room in a larger limit."""
    server = serve("--max_series", "2")
    first, second, third = (Deployment(server) for _ in range(3))
    first.predict("r", "cat")
    second.predict("r", "cat")
    refused = third.headers(RESPONSE, "r"), {"data": {"ndarray": ["cat"]}}
    for _ in range(2):
        answer = server.post(refused[1], refused[0])
        assert (answer.status, answer.reason) == (422, "too_many_series")
    assert server.value("metrics_server_rejected_total", reason="too_many_series") == 2
    assert third.page().samples == []
    first.truth("r", "cat")
    assert first.page().cells() == {("cat", "cat"): 1}
    server.stop()
    third.server = server = serve("--max_series", "3")
    assert server.post(refused[1], refused[0]).status == 200
    assert third.page()("model_predictions_total") == 1


# Bad input


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a series of each task on it."""
    for server in starter(tmp_path_factory.mktemp("limits"), "--store", "memory://", "--max_body_bytes", "400000"):
        shop = Deployment(server, "steady")
        for model, truth, prediction in (
            ("onehot", [0, 0, 1], [0.1, 0.2, 0.7]),
            ("text", "cat", "cat"),
            ("score", 1, 0.75),
            ("price", 12.5, 14.5),
        ):
            shop.predict(model, prediction, modelid=model)
            shop.truth(model, truth, modelid=model)
        yield server


@pytest.fixture
def steady(shared: RunningServer) -> Deployment:
    return Deployment(shared, "steady")


def model_numbers(server: RunningServer) -> dict[Any, float]:
    return {key: value for key, value in server.samples().items() if key[0].startswith(("model_", "seldon_"))}


def rejections(server: RunningServer) -> dict[str, float]:
    found = {
        dict(labels)["reason"]: v
        for (name, labels), v in server.samples().items()
        if name == "metrics_server_rejected_total"
    }
    return {reason: count for reason, count in found.items() if count}


def response(data: Any) -> tuple[str, Any, dict[str, str]]:
    return RESPONSE, data, {}


def protobuf(data: bytes, protocol: str = "seldon", kind: str = RESPONSE) -> tuple[str, Any, dict[str, str]]:
    return kind, data, {"Content-Type": "application/protobuf", "Ce-Protocol": protocol}


def v2(shape: list[int], values: Any, datatype: str = "FP32", **more: Any) -> dict[str, Any]:
    return {"model_name": "m", "outputs": [{"name": "p", "datatype": datatype, "shape": shape, "data": values, **more}]}


def binary(shape: list[int], size: Any, raw: bytes, datatype: str = "FP32") -> tuple[str, Any, dict[str, str]]:
    tensor = {"name": "p", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}
    return RESPONSE, json.dumps({"model_name": "m", "outputs": [tensor]}).encode() + raw, {}


def raw_contents(shape: list[int], *contents: bytes) -> bytes:
    answer = inference_pb2.ModelInferResponse(raw_output_contents=contents)
    answer.outputs.add(name="p", datatype="FP32", shape=shape)
    return bytes(answer.SerializeToString())


LONG = "x" * 10_000
TENSOR = seldon_pb2.SeldonMessage(
    data=seldon_pb2.DefaultData(tensor=seldon_pb2.Tensor(shape=[2, 3], values=[0.1, 0.2, 0.7]))
).SerializeToString()
TF = {"dtype": "DT_FLOAT", "tensorShape": {"dim": [{"size": "2"}, {"size": "3"}]}}
TRUTH = {"data": {"ndarray": [1]}}

BAD = {
    "request id of 10 kB": (RESPONSE, {"data": {"ndarray": [1]}}, {"Ce-Requestid": LONG}, "label_too_long"),
    "request id of 1025 characters": (FEEDBACK, {"truth": TRUTH}, {"Ce-Requestid": LONG[:1025]}, "label_too_long"),
    "puid of 10 kB": (*response({"data": {"ndarray": [1]}, "meta": {"puid": LONG}}), "label_too_long"),
    "puid of a truth of 10 kB": (FEEDBACK, {"truth": {**TRUTH, "meta": {"puid": LONG}}}, {}, "label_too_long"),
    "deployment of 300 characters": (
        RESPONSE,
        {"data": {"ndarray": [1]}},
        {"Ce-Inferenceservicename": LONG[:300]},
        "label_too_long",
    ),
    "model with a line break": (RESPONSE, {"data": {"ndarray": [1]}}, {"Ce-Modelid": "a%0Ab"}, "label_too_long"),
    "no known members": (*response({"scores": [1]}), "unknown_protocol"),
    "no members": (*response({}), "unknown_protocol"),
    "an unknown protocol in protobuf": (*protobuf(b"\x08\x01", "mystery"), "unknown_protocol"),
    "undecodable seldon": (*protobuf(b"\xff\xff\xff"), "malformed_payload"),
    "undecodable v2": (*protobuf(b"\xff\xff\xff", "v2"), "malformed_payload"),
    "undecodable of no stated protocol": (*protobuf(b"\xff\xff\xff", ""), "unknown_protocol"),
    "undecodable feedback": (*protobuf(b"\xff\xff\xff", kind=FEEDBACK), "malformed_payload"),
    "protobuf cut short": (*protobuf(TENSOR[:-3]), "malformed_payload"),
    "tensor in protobuf lies": (*protobuf(TENSOR), "shape_mismatch"),
    "v2 in protobuf lies": (*protobuf(raw_contents([3], b"\0" * 8), "v2"), "shape_mismatch"),
    "v2 in protobuf has odd bytes": (*protobuf(raw_contents([2], b"\0" * 7), "v2"), "shape_mismatch"),
    "v2 in protobuf has more contents": (*protobuf(raw_contents([1], b"\0" * 4, b"\0" * 4), "v2"), "shape_mismatch"),
    "tensor lies": (*response({"data": {"tensor": {"shape": [2, 3], "values": [1, 2, 3]}}}), "shape_mismatch"),
    "tensor of a huge shape": (
        *response({"data": {"tensor": {"shape": [10**9, 10**9], "values": [1]}}}),
        "shape_mismatch",
    ),
    "tensor of a negative shape": (
        *response({"data": {"tensor": {"shape": [-1, -1], "values": [1]}}}),
        "shape_mismatch",
    ),
    "tftensor lies": (
        *response({"data": {"tftensor": {**TF, "tensorContent": base64.b64encode(b"\0" * 8).decode()}}}),
        "shape_mismatch",
    ),
    "v2 lies": (*response(v2([3, 2], [1, 2, 3])), "shape_mismatch"),
    "v2 of a huge shape": (*response(v2([2**40], [])), "shape_mismatch"),
    "v2 of an unknown type": (*response(v2([1], [1], "FP7")), "malformed_payload"),
    "binary longer than the body": (*binary([2], 80, b"\0" * 8), "shape_mismatch"),
    "binary shorter than the body": (*binary([2], 8, b"\0" * 9), "shape_mismatch"),
    "binary of a negative size": (*binary([2], -8, b"\0" * 8), "shape_mismatch"),
    "binary of a size that is no number": (*binary([2], "8", b"\0" * 8), "shape_mismatch"),
    "binary unlike its shape": (*binary([3], 8, b"\0" * 8), "shape_mismatch"),
    "binary texts beyond the end": (*binary([1], 8, b"\xff\xff\xff\x7fabcd", "BYTES"), "shape_mismatch"),
    "binary texts, fewer than said": (*binary([2], 7, b"\x03\0\0\0abc", "BYTES"), "shape_mismatch"),
    "binary of nothing": (*binary([2], 8, b""), "shape_mismatch"),
    "gzip cut short": (RESPONSE, gzip.compress(b'{"data":{"ndarray":[1]}}')[:-9], {}, "malformed_gzip"),
    "gzip of too much": (RESPONSE, gzip.compress(b" " * 10**6 + b'{"data":{"ndarray":[1]}}'), {}, "body_too_large"),
    "too many rows": (*response({"data": {"ndarray": [1] * 20_001}}), "too_many_rows"),
    "a row of too many columns": (*response({"data": {"ndarray": [[1.0] * 10_000]}}), "row_too_large"),
    "not a number": (RESPONSE, b'{"data":{"ndarray":[NaN]}}', {}, "not_a_number"),
    "a huge number": (RESPONSE, b'{"data":{"ndarray":[1e400]}}', {}, "out_of_range"),
    "a huge truth": (FEEDBACK, b'{"truth":{"data":{"ndarray":[2e12]}}}', {}, "out_of_range"),
    "a lone surrogate": (FEEDBACK, b'{"truth":{"strData":"\\ud800"}}', {}, "invalid_utf8"),
    "a truth with a control character": (FEEDBACK, {"truth": {"strData": "a\nb"}}, {}, "label_too_long"),
    "a truth of 300 characters": (FEEDBACK, {"truth": {"strData": LONG[:300]}}, {}, "label_too_long"),
    "a truth that is an object": (FEEDBACK, {"truth": {"jsonData": {"a": 1, "b": 2}}}, {}, "malformed_payload"),
    "unlike numbers of rows": (
        FEEDBACK,
        {"response": {"data": {"ndarray": [1, 2, 3]}}, "truth": {"data": {"ndarray": [1, 2]}}},
        {},
        "row_mismatch",
    ),
    "neither truth nor reward": (
        FEEDBACK,
        {"response": {"data": {"ndarray": [1]}}, "reward": None},
        {},
        "malformed_feedback",
    ),
    "a truth that joins nothing": (FEEDBACK, {"truth": TRUTH}, {"Ce-Requestid": ""}, "malformed_feedback"),
    "a reward that is a text": (FEEDBACK, {"reward": "good"}, {}, "malformed_payload"),
    "a time that is none": (RESPONSE, {"data": {"ndarray": [1]}}, {"Ce-Time": "yesterday"}, "bad_time"),
    "deep nesting": (RESPONSE, b'{"data":{"ndarray":' + b"[" * 5000 + b"]" * 5000 + b"}}", {}, "too_deep"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_bad_input_is_refused_and_moves_nothing(steady: Deployment, name: str) -> None:
    """4xx with its reason and never one that means "send again"; counted once under that reason; no number of a model
    moves."""
    kind, body, more, reason = BAD[name]
    server = steady.server
    before, refused = model_numbers(server), rejections(server)
    answer = server.post(body, steady.headers(kind, "bad", modelid="onehot") | more)
    assert (answer.reason, answer.status in (400, 413, 422)) == (reason, True), answer.body
    assert answer.status == {"body_too_large": 413}.get(reason, answer.status)
    assert model_numbers(server) == before
    assert rejections(server) == refused | {reason: refused.get(reason, 0) + 1}
    listed = json.loads(server.get("/v1/rejected").body)[0]
    assert listed["reason"] == reason
    assert len(json.dumps(listed)) < 20_000


@pytest.mark.parametrize(
    "statement",
    [
        {"request_id": LONG, "truth": 1},
        {"request_id": "", "truth": 1},
        {"request_id": "r", "truth": 1, "row": 20_000},
        {"request_id": "r", "truth": 1, "row": -1},
        {"request_id": "r", "truth": 1, "model": "m" * 300},
        {"request_id": "r", "truth": {"a": 1}},
        {"request_id": "r", "truth": 1e13},
        {"request_id": "r", "truth": 1, "misspelt": 1},
        {"truth": 1},
    ],
    ids=lambda statement: json.dumps(statement)[:60],
)
def test_bad_plain_feedback_is_refused_and_moves_nothing(steady: Deployment, statement: Any) -> None:
    """The same for plain JSON, alone and beside what is good."""
    server = steady.server
    before, refused = model_numbers(server), sum(rejections(server).values())
    alone = server.post(statement, JSON, "/v1/feedback")
    assert alone.status in (400, 413, 422)
    beside = server.post(
        [{"request_id": f"nowhere-{time.monotonic_ns()}", "truth": 1}, statement], JSON, "/v1/feedback"
    )
    assert [row["status"] for row in json.loads(beside.body)] == ["pending", "rejected"]
    assert json.loads(beside.body)[1]["reason"] == alone.reason
    assert model_numbers(server) == before
    assert sum(rejections(server).values()) == refused + 2


@pytest.mark.parametrize(
    "text", ["a\u0000b", "line\nbreak", "\u001b[31m", "\u007f", "\u2028", '"\\{}', "😀" * 256, " "], ids=ascii
)
def test_ids_of_any_characters(shared: RunningServer, text: str) -> None:
    """They join, or are refused; the page stays readable, and neither it nor the log has them."""
    shop = Deployment(shared)
    request_id = f"{shop.name}{text}"
    sent = [
        envelope(shop, RESPONSE, "x", {"data": {"ndarray": ["cat"]}}) | {"requestid": request_id},
        envelope(shop, FEEDBACK, "x", {"truth": {"data": {"ndarray": ["dog"]}}}) | {"requestid": request_id},
    ]
    answers = [shared.post(event, STRUCTURED) for event in sent]
    told = shared.post({"request_id": request_id, "truth": "dog"}, JSON, "/v1/feedback")
    for answer in (*answers, told):
        assert answer.status in (200, 400, 422), answer.body
    if {answer.status for answer in answers} == {200}:
        assert shop.page().cells() == {("dog", "cat"): 1}
    assert list(
        strict_openmetrics(
            shared.get("/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"}).body.decode()
        )
    )
    if text.strip():
        assert text.encode() not in shared.log.read_bytes()


@pytest.mark.parametrize(
    ("model", "truth", "prediction", "status"),
    [
        ("onehot", [0, 1], [0.1, 0.2, 0.7], "unscorable"),
        ("onehot", "cat", [0.1, 0.2, 0.7], "unscorable"),
        ("onehot", 2.5, [0.1, 0.2, 0.7], "task_mismatch"),
        ("text", 2.5, "cat", "task_mismatch"),
        ("text", "cat", 2.5, "task_mismatch"),
        ("score", 7, 0.5, "task_mismatch"),
        ("score", "cat", 0.5, "task_mismatch"),
        ("score", 1, 1.5, "task_mismatch"),
        ("score", 1, "cat", "task_mismatch"),
        ("price", "cheap", 12.5, "task_mismatch"),
        ("price", [1, 2], 12.5, "task_mismatch"),
        ("price", 12.5, "cheap", "task_mismatch"),
        ("price", 12.5, {"a": 1, "b": 2}, "unscorable"),
    ],
)
@pytest.mark.parametrize("turned", [False, True], ids=["prediction first", "truth first"])
def test_a_truth_of_the_wrong_kind(
    steady: Deployment, model: str, truth: Any, prediction: Any, status: str, turned: bool
) -> None:
    """200, counted by its status; support, accuracy and errors stay, and a truth that fits comes into its place."""
    request_id = f"wrong-{time.monotonic_ns()}"
    made = (
        "model_support",
        "model_accuracy_ratio",
        "model_mean_error",
        "model_confusion_total",
        "model_confusion_retracted_total",
    )

    def settled() -> dict[Any, float]:
        return {key: value for key, value in steady.page().numbers().items() if key[0] in made}

    before, statuses = settled(), steady.page().statuses(model_name=model)
    sends = [
        lambda: steady.predict(request_id, prediction, modelid=model),
        lambda: steady.truth(request_id, truth, modelid=model),
    ]
    for send in reversed(sends) if turned else sends:
        send()
    assert settled() == before
    assert steady.page().statuses(model_name=model) == statuses | {status: statuses.get(status, 0) + 1}


# Memory


def resident(server: RunningServer) -> int:
    """Megabytes."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{server.process.pid}/status").read_text())
    assert found is not None
    return int(found[1]) // 1024


@pytest.mark.long
def test_memory_does_not_grow_with_what_waits(serve: Serve) -> None:
    """50,000 predictions that wait on disk take no more than 20 MB of the process, and none of them is lost."""
    server = serve()
    shop = Deployment(server)
    log_all(shop, [f"warm{n}" for n in range(3000)])
    before = resident(server)
    for part in range(10):
        log_all(shop, [f"r{part}-{n}" for n in range(5000)])
    assert resident(server) - before < 20
    until(lambda: pending(server) == (53_000, 0), 20, "all of them wait")
    assert tell_all(shop, [f"r{part}-0" for part in range(10)]) == ["accepted"] * 10
    assert shop.page()("model_support", window="1h") == 10
    assert shop.page()("model_predictions_total") == 53_000


def test_answers_to_bad_batches(shared: RunningServer) -> None:
    """What is valid in a batch counts, each refused element is named and counted, and the batch sent again changes
    nothing."""
    shop = Deployment(shared)
    good = envelope(shop, RESPONSE, "r", {"data": {"ndarray": ["cat"]}})
    bad = [
        {**good, "id": "no type", "type": ""},
        {**good, "id": "too long", "requestid": LONG},
        {**good, "id": "no rows", "data": {"scores": []}},
        7,
        {**good, "id": "lies", "data": {"data": {"tensor": {"shape": [3], "values": [1]}}}},
    ]
    reasons = ["malformed_event", "label_too_long", "unknown_protocol", "malformed_event", "shape_mismatch"]
    before = sum(rejections(shared).values())
    answers: list[Answer] = [shared.post([*bad, good], BATCH) for _ in range(2)]
    for answer in answers:
        assert answer.status == 200
        assert [(row["index"], row["reason"]) for row in json.loads(answer.body)] == list(enumerate(reasons))
    assert sum(rejections(shared).values()) == before + 10
    assert shop.page()("model_predictions_total") == 1


def test_a_batch_of_too_many_rows_is_taken_in_part(serve: Serve) -> None:
    """After 100,000 rows the rest of a batch is refused by index, to be sent in another; the events before it count."""
    server = serve("--store", "memory://")
    names = {
        "specversion": "1.0",
        "source": "/s",
        "type": RESPONSE,
        "inferenceservicename": "wine",
        "namespace": "shop",
        "modelid": "m",
    }
    batch = [
        {**names, "id": f"{n}", "requestid": f"r{n}", "data": {"data": {"ndarray": [1] * 20_000}}} for n in range(7)
    ]
    answer = server.post(batch, {"Content-Type": "application/cloudevents-batch+json"})
    assert (answer.status, [(one["index"], one["reason"]) for one in json.loads(answer.body)]) == (
        200,
        [(6, "too_many_rows")],
    )
    page = server.get("/v1/metrics").body.decode()
    assert re.findall(r"^model_predictions_total\{.*\} (\S+)$", page, re.MULTILINE) == ["120000.0"]
