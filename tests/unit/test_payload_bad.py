"""Bad payloads: each gets its reason, none costs memory or another exception, and the extra for protobuf is asked
for."""

from __future__ import annotations

import importlib.util
import json
import struct
import subprocess
import sys
import tracemalloc
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from metrics_server.errors import Reason, Rejected
from metrics_server.ingest.kafka.record import strip_registry_frame
from metrics_server.ingest.payload import read
from metrics_server.ingest.payload.parsed import ParsedPayload
from metrics_server.ingest.payload.pb import inference_pb2, seldon_pb2, tensorflow_pb2
from metrics_server.metrics.labels import EventKind

ROOT = Path(__file__).resolve().parent.parent.parent
PB = ROOT / "metrics_server" / "ingest" / "payload" / "pb"
JSON, PROTOBUF = "application/json", "application/protobuf"
HUGE = 2**40


def v2(datatype: str = "FP32", shape: Any = (2,), tail: bytes = b"", **members: Any) -> bytes:
    return json.dumps({"outputs": [{"name": "p", "datatype": datatype, "shape": shape, **members}]}).encode() + tail


def sized(datatype: str, shape: Any, size: Any, tail: bytes) -> bytes:
    return v2(datatype, shape, tail, parameters={"binary_data_size": size})


def infer(datatype: str, shape: list[int], raw: list[bytes] | None = None, **contents: Any) -> bytes:
    tensor = inference_pb2.InferOutputTensor(name="p", datatype=datatype, shape=shape)
    if contents:
        tensor.contents.MergeFrom(inference_pb2.InferTensorContents(**contents))
    return inference_pb2.ModelInferResponse(
        model_name="m", outputs=[tensor], raw_output_contents=raw
    ).SerializeToString()


def predict(**members: Any) -> bytes:
    return tensorflow_pb2.PredictResponse(outputs={"p": tensorflow_pb2.TensorProto(**members)}).SerializeToString()


def dims(*sizes: int) -> tensorflow_pb2.TensorShapeProto:
    return tensorflow_pb2.TensorShapeProto(dim=[tensorflow_pb2.TensorShapeProto.Dim(size=size) for size in sizes])


def seldon(shape: list[int], values: list[float]) -> bytes:
    tensor = seldon_pb2.Tensor(shape=shape, values=values)
    return seldon_pb2.SeldonMessage(data=seldon_pb2.DefaultData(tensor=tensor)).SerializeToString()


FLOATS = struct.pack("<2f", 0.5, 0.25)
TEXTS = struct.pack("<I3sI3s", 3, b"cat", 3, b"dog")
BOTH = inference_pb2.ModelInferResponse.FromString(
    infer("FP32", [1], [FLOATS[:4]], fp32_contents=[0.5])
).SerializeToString()
DEEP = b'{"predictions":' + b"[" * 50_000 + b"]" * 50_000 + b"}"

SHAPE, PAYLOAD, PROTOCOL = Reason.SHAPE_MISMATCH, Reason.MALFORMED_PAYLOAD, Reason.UNKNOWN_PROTOCOL
RESPONSES = [
    # no protocol
    ("an empty object", JSON, "", b"{}", PROTOCOL),
    ("a list", JSON, "", b"[1]", PROTOCOL),
    ("a number", JSON, "", b"1", PROTOCOL),
    ("the models of a server", JSON, "", b'{"object":"list","data":[{"id":"llama"}]}', PROTOCOL),
    ("the state of a V1 model", JSON, "", b'{"model_version_status":[{"state":"AVAILABLE"}]}', PROTOCOL),
    ("the description of a V2 model", JSON, "", v2(shape=(-1, 2)), PROTOCOL),
    ("an empty body", "", "", b"", PROTOCOL),
    ("plain text", "", "", b"hello", PROTOCOL),
    ("bytes of no message", "application/octet-stream", "", b"\xff\xfe\xfd", PROTOCOL),
    ("a list as data", JSON, "seldon", b'{"data":[1]}', PROTOCOL),
    # JSON
    ("text under JSON", JSON, "", b"hello", Reason.MALFORMED_JSON),
    (
        "bytes after an answer that says nothing of them",
        JSON,
        "",
        b'{"predictions":[1]}\x00\x01',
        Reason.MALFORMED_JSON,
    ),
    ("a second answer", JSON, "", b'{"predictions":[1]} {"predictions":[2]}', Reason.MALFORMED_JSON),
    ("an answer cut short", JSON, "", b'{"predictions":[1', Reason.MALFORMED_JSON),
    ("JSON too deep", JSON, "", DEEP, Reason.TOO_DEEP),
    ("too deep JSON with bytes behind it", JSON, "", DEEP + b"\x01", Reason.TOO_DEEP),
    ("NaN", JSON, "", b'{"predictions":[NaN]}', Reason.NOT_A_NUMBER),
    # V1
    ("a prediction beyond 1e12", JSON, "", b'{"predictions":[2e12]}', Reason.OUT_OF_RANGE),
    ("an empty row", JSON, "", b'{"predictions":[[]]}', SHAPE),
    (
        "more rows than an event may have",
        JSON,
        "",
        json.dumps({"predictions": [1] * 20_001}).encode(),
        Reason.TOO_MANY_ROWS,
    ),
    (
        "more columns than a row may have",
        JSON,
        "",
        json.dumps({"predictions": [[0.5] * 7_282]}).encode(),
        Reason.ROW_TOO_LARGE,
    ),
    (
        "more objects than rows",
        JSON,
        "",
        json.dumps({"outputs": {"a": [0] * 20_001, "b": []}}).encode(),
        Reason.TOO_MANY_ROWS,
    ),
    # V2 in JSON
    ("a shape larger than the values", JSON, "", v2(data=[1.0]), SHAPE),
    ("a shape smaller than the values", JSON, "", v2(data=[1.0, 2.0, 3.0]), SHAPE),
    ("a negative shape", JSON, "", v2(shape=(-1, -2), data=[1.0, 2.0]), SHAPE),
    ("a shape beyond all values", JSON, "", v2(shape=(HUGE, HUGE), data=[1.0]), SHAPE),
    ("a shape of too many dimensions", JSON, "", v2(shape=(1,) * 33, data=[1.0]), SHAPE),
    ("a shape of texts", JSON, "", v2(shape=("a",), data=[1.0]), PAYLOAD),
    ("no shape for two values", JSON, "", b'{"outputs":[{"datatype":"FP32","data":[1,2]}]}', SHAPE),
    ("an unknown datatype", JSON, "", v2("FP128", data=[1.0, 2.0]), PAYLOAD),
    ("a datatype that is a number", JSON, "", b'{"outputs":[{"datatype":1,"shape":[1],"data":[1]}]}', PAYLOAD),
    ("text among numbers", JSON, "", v2(data=[1.0, "cat"]), PAYLOAD),
    ("an object among numbers", JSON, "", v2(data=[1.0, {}]), PAYLOAD),
    ("null as data", JSON, "", v2(shape=[1], data=None), PAYLOAD),
    ("numbers among texts", JSON, "", v2("BYTES", data=["cat", 1]), PAYLOAD),
    (
        "no base64 where it is said",
        JSON,
        "",
        v2("BYTES", [1], data=["§"], parameters={"content_type": "base64"}),
        PAYLOAD,
    ),
    ("a value beyond 1e12", JSON, "", v2(data=[1.0, -2e12]), Reason.OUT_OF_RANGE),
    ("a NaN as text", JSON, "", v2(data=[1.0, "NaN"]), Reason.NOT_A_NUMBER),
    ("too many rows of a tensor", JSON, "", v2(shape=[20_001], data=[1.0] * 20_001), Reason.TOO_MANY_ROWS),
    ("too many columns of a tensor", JSON, "", v2(shape=[1, 7_282], data=[1.0] * 7_282), Reason.ROW_TOO_LARGE),
    # V2 with binary tensors
    ("a size larger than the bytes", JSON, "", sized("FP32", [2], 9, FLOATS), SHAPE),
    ("a size smaller than the bytes", JSON, "", sized("FP32", [1], 4, FLOATS), SHAPE),
    ("a huge size", JSON, "", sized("FP32", [HUGE], 4 * HUGE, FLOATS), SHAPE),
    ("a negative size", JSON, "", sized("FP32", [2], -8, FLOATS), SHAPE),
    ("a size that is text", JSON, "", sized("FP32", [2], "8", FLOATS), SHAPE),
    ("a size that is true", JSON, "", sized("UINT8", [1], True, b"\1"), SHAPE),  # noqa: FBT003
    ("bytes that end within a value", JSON, "", sized("FP32", [2], 7, FLOATS[:7]), SHAPE),
    ("a shape that is not the bytes'", JSON, "", sized("FP32", [3], 8, FLOATS), SHAPE),
    ("the bytes left out", JSON, "", sized("FP32", [2], 8, b""), SHAPE),
    ("an unknown datatype of bytes", JSON, "", sized("FP128", [1], 8, FLOATS), PAYLOAD),
    ("a NaN in bytes", JSON, "", sized("FP32", [1], 4, struct.pack("<f", float("nan"))), Reason.NOT_A_NUMBER),
    ("an infinite half", JSON, "", sized("FP16", [1], 2, b"\x00\x7c"), Reason.NOT_A_NUMBER),
    ("a large integer in bytes", JSON, "", sized("UINT64", [1], 8, b"\xff" * 8), Reason.OUT_OF_RANGE),
    ("a length beyond the texts", JSON, "", sized("BYTES", [2], 14, TEXTS[:7] + b"\xff\xff\xff\xff" + b"dog"), SHAPE),
    ("more texts than the shape", JSON, "", sized("BYTES", [1], 14, TEXTS), SHAPE),
    ("fewer texts than the shape", JSON, "", sized("BYTES", [3], 14, TEXTS), SHAPE),
    ("huge claims of texts", JSON, "", sized("BYTES", [HUGE], 14, TEXTS), SHAPE),
    ("claims of texts that multiply", JSON, "", sized("BYTES", [2] * 32, 14, TEXTS), SHAPE),
    ("a length cut short", JSON, "", sized("BYTES", [1], 2, b"\0\0"), SHAPE),
    ("too many rows of bytes", JSON, "", sized("UINT8", [20_001], 20_001, b"\1" * 20_001), Reason.TOO_MANY_ROWS),
    ("too many columns of bytes", JSON, "", sized("UINT8", [1, 9_000], 9_000, b"\1" * 9_000), Reason.ROW_TOO_LARGE),
    # V2 in protobuf
    ("undecodable protobuf", PROTOBUF, "v2", b"\xff\xff\xff", PAYLOAD),
    ("protobuf cut short", PROTOBUF, "v2", infer("FP32", [2], fp32_contents=[1, 2])[:-3], PAYLOAD),
    ("no outputs", PROTOBUF, "v2", b"\x0a\x01m", PROTOCOL),
    ("contents and raw contents", PROTOBUF, "v2", BOTH, PAYLOAD),
    ("contents of another type", PROTOBUF, "v2", infer("INT64", [2], fp32_contents=[1, 2]), SHAPE),
    ("contents of halves", PROTOBUF, "v2", infer("FP16", [1], bytes_contents=[b"\0\0"]), PAYLOAD),
    ("an unknown datatype in protobuf", PROTOBUF, "v2", infer("FP128", [2], fp32_contents=[1, 2]), PAYLOAD),
    ("a lying shape", PROTOBUF, "v2", infer("FP32", [3], fp32_contents=[1, 2]), SHAPE),
    ("a huge shape", PROTOBUF, "v2", infer("FP32", [HUGE, HUGE], [FLOATS]), SHAPE),
    ("more raw contents than tensors", PROTOBUF, "v2", infer("FP32", [2], [FLOATS, FLOATS]), SHAPE),
    ("raw contents of another size", PROTOBUF, "v2", infer("FP64", [2], [FLOATS]), SHAPE),
    ("raw texts that do not add up", PROTOBUF, "v2", infer("BYTES", [2], [TEXTS[:-1]]), SHAPE),
    ("a NaN in contents", PROTOBUF, "v2", infer("FP64", [1], fp64_contents=[float("nan")]), Reason.NOT_A_NUMBER),
    ("contents beyond 1e12", PROTOBUF, "v2", infer("FP64", [1], fp64_contents=[2e12]), Reason.OUT_OF_RANGE),
    (
        "too many rows in contents",
        PROTOBUF,
        "v2",
        infer("BOOL", [20_001], bool_contents=[True] * 20_001),
        Reason.TOO_MANY_ROWS,
    ),
    # TensorFlow in protobuf
    ("a tensor of complex numbers", PROTOBUF, "tensorflow", predict(dtype=8, tensor_shape=dims(1)), PAYLOAD),
    ("a tensor without dtype", PROTOBUF, "tensorflow", predict(tensor_shape=dims(1)), PROTOCOL),
    (
        "a huge tensor shape",
        PROTOBUF,
        "tensorflow",
        predict(dtype=2, tensor_shape=dims(HUGE, HUGE), double_val=[1]),
        SHAPE,
    ),
    (
        "content of half a value",
        PROTOBUF,
        "tensorflow",
        predict(dtype=2, tensor_shape=dims(1), tensor_content=b"\0\0"),
        PAYLOAD,
    ),
    ("undecodable protobuf of TensorFlow", PROTOBUF, "tensorflow", b"\xff\xff\xff", PROTOCOL),
    # Seldon in protobuf
    ("an undecodable message", PROTOBUF, "seldon", b"\xff\xff\xff", PAYLOAD),
    ("a message cut short", PROTOBUF, "seldon", seldon([1, 2], [1, 2])[:-1], PAYLOAD),
    ("a lying tensor", PROTOBUF, "seldon", seldon([3], [1, 2]), SHAPE),
    ("a NaN in a tensor", PROTOBUF, "seldon", seldon([1], [float("nan")]), Reason.NOT_A_NUMBER),
    ("a tensor beyond 1e12", PROTOBUF, "seldon", seldon([1], [1e13]), Reason.OUT_OF_RANGE),
    ("too many rows of a message", PROTOBUF, "seldon", seldon([20_001], [1] * 20_001), Reason.TOO_MANY_ROWS),
]


@pytest.mark.parametrize(
    ("sentence", "content_type", "protocol", "body", "reason"), RESPONSES, ids=[row[0] for row in RESPONSES]
)
def test_a_bad_response_is_refused_with_its_reason(
    sentence: str, content_type: str, protocol: str, body: bytes, reason: Reason
) -> None:
    """Whatever is wrong with a response has one reason, and the same bytes as a request are nothing."""
    with pytest.raises(Rejected) as refused:
        read(EventKind.RESPONSE, protocol, content_type, body)
    assert refused.value.reason is reason, refused.value
    assert len(refused.value.detail) < 500
    assert isinstance(read(EventKind.REQUEST, protocol, content_type, body), ParsedPayload)


CAT = {"strData": "cat"}
FEEDBACKS = [
    ("a row of several members", {"predictions": [{"a": 1, "b": 2}]}, PAYLOAD),
    ("several columns", {"outputs": {"a": [1], "b": [2]}}, PAYLOAD),
    ("bytes that are no text", {"predictions": [{"b64": "/9j/"}]}, PAYLOAD),
    ("a tensor of several texts a row", json.loads(v2("BYTES", [1, 2], data=["a", "b"])), PAYLOAD),
    ("a lying tensor", json.loads(v2("BYTES", [2], data=["a"])), SHAPE),
    ("a description of a model", json.loads(v2("BYTES", [1])), PROTOCOL),
    ("a long text", {"predictions": ["x" * 300]}, Reason.LABEL_TOO_LONG),
    ("custom data", {"customData": {}}, PAYLOAD),
]


@pytest.mark.parametrize(("sentence", "part", "reason"), FEEDBACKS, ids=[row[0] for row in FEEDBACKS])
def test_what_cannot_be_read_is_refused_in_a_feedback(sentence: str, part: Any, reason: Reason) -> None:
    """An opaque truth would retract a label, so none is made of what cannot be read; nor a response beside a truth."""
    for feedback in (
        {"truth": part},
        {"truth": part, "reward": 1},
        {"truth": part, "response": CAT},
        {"truth": CAT, "response": part},
    ):
        with pytest.raises(Rejected) as refused:
            read(EventKind.FEEDBACK, "", JSON, json.dumps(feedback).encode())
        assert refused.value.reason is reason


def test_a_reward_for_an_answer_that_is_not_read_counts() -> None:
    """A thumb up for a long text or an image is a reward."""
    for response in ({"strData": "a\nb"}, {"customData": {}}, {"binData": "/9j/"}):
        body = json.dumps({"response": response, "reward": 1}).encode()
        assert read(EventKind.FEEDBACK, "", JSON, body) == ParsedPayload(response=[None], reward=1.0)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", Reason.MALFORMED_FEEDBACK),
        (b"\xff\xff", PAYLOAD),
        (seldon_pb2.Feedback(reward=float("nan")).SerializeToString(), Reason.NOT_A_NUMBER),
        (seldon_pb2.Feedback(reward=2e12).SerializeToString(), Reason.OUT_OF_RANGE),
        (seldon_pb2.Feedback(truth=seldon_pb2.SeldonMessage(customData=b"")).SerializeToString(), PAYLOAD),
        (seldon_pb2.Feedback(truth=seldon_pb2.SeldonMessage(binData=b"\xff")).SerializeToString(), PAYLOAD),
    ],
    ids=str,
)
def test_a_bad_feedback_in_protobuf_is_refused_with_its_reason(body: bytes, reason: Reason) -> None:
    """A feedback in protobuf is held to what one in JSON is held to."""
    with pytest.raises(Rejected) as refused:
        read(EventKind.FEEDBACK, "", PROTOBUF, body)
    assert refused.value.reason is reason


def test_claims_do_not_allocate() -> None:
    """What a body of a hundred bytes claims to hold costs no memory."""
    bodies = [row for row in RESPONSES if len(row[3]) < 300]
    assert len(bodies) > 50
    tracemalloc.start()
    for _, content_type, protocol, body, _ in bodies:
        with pytest.raises(Rejected):
            read(EventKind.RESPONSE, protocol, content_type, body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


kinds = st.sampled_from([EventKind.REQUEST, EventKind.RESPONSE, EventKind.FEEDBACK])
protocols = st.sampled_from(["", "seldon", "tensorflow", "v2", "kfserving", "other"])
types = st.sampled_from(["", JSON, PROTOBUF, "application/octet-stream", "text/plain", "\x00;"])
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**13), 10**13)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["FP32", "BYTES"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["b64", "shape", "size", "dim", "x"]), inner, max_size=3)
    ),
    max_leaves=10,
)
tensors = st.dictionaries(st.sampled_from(["name", "shape", "datatype", "data", "parameters"]), values, max_size=5)
members = st.sampled_from(
    ["data", "jsonData", "strData", "binData", "customData", "meta", "predictions", "outputs", "inputs", "choices"]
)
seldon_data = st.fixed_dictionaries({}, optional=dict.fromkeys(("tensor", "ndarray", "tftensor"), values))
messages = st.dictionaries(members, values | st.lists(tensors, max_size=2) | seldon_data, max_size=3)
feedbacks = st.fixed_dictionaries(
    {}, optional={"truth": messages, "response": messages, "request": messages, "reward": values}
)
texts = (messages | feedbacks).map(lambda value: json.dumps(value).encode())
VALID = [row[3] for row in RESPONSES if len(row[3]) < 300]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A body with a piece of it replaced."""
    body = draw(st.sampled_from(VALID))
    start = draw(st.integers(0, len(body)))
    return body[:start] + draw(st.binary(max_size=6)) + body[start + draw(st.integers(0, 6)) :]


@pytest.mark.long
@settings(max_examples=1500, deadline=None, derandomize=True, database=None)
@given(kinds, protocols, types, st.binary(max_size=60) | damaged() | texts)
@example(EventKind.RESPONSE, "", JSON, b'{"outputs":[{"datatype":"BYTES","data":[[]],"shape":[0]}]}')
def test_any_bytes_become_a_reading_or_are_refused(kind: str, protocol: str, content_type: str, body: bytes) -> None:
    """Nothing but a reading or one of our own refusals comes of any body, and a request never is refused."""
    try:
        reading = read(kind, protocol, content_type, strip_registry_frame(body))
    except Rejected as error:
        assert kind != EventKind.REQUEST
        error.detail.encode()
        return
    assert isinstance(reading, ParsedPayload)
    for row in [*(reading.response or []), *(reading.truth or [])]:
        assert row is None or isinstance(row, (bool, int, float, str, list))
        assert not isinstance(row, list) or (len(row) > 1 and all(type(column) is float for column in row))


def test_without_the_extra_protobuf_is_refused_and_json_is_read() -> None:
    """The server runs without the protobuf package and says which extra to install."""
    program = """
import sys
sys.modules["google"] = sys.modules["google.protobuf"] = None
from metrics_server.errors import Rejected
from metrics_server.ingest.payload import read
assert read("response", "", "", b'{"predictions":[1]}').response == [1]
assert read("request", "seldon", "application/protobuf", b"\\x12\\x00").puids == []
try:
    read("response", "seldon", "application/protobuf", b"\\x12\\x00")
except Rejected as error:
    print(error.reason.label, error.detail)
"""
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60, cwd=ROOT
    )
    assert answer.stdout == "unsupported_format protobuf is not read; install feedback-metrics-server[protobuf]\n"


def test_protobuf_is_imported_only_when_it_comes() -> None:
    """JSON alone never loads the package."""
    program = """
import sys
from metrics_server.ingest.payload import read
read("response", "", "", b'{"predictions":[1]}')
assert "google.protobuf" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, cwd=ROOT)


@pytest.mark.skipif(importlib.util.find_spec("grpc_tools") is None, reason="grpcio-tools is not installed")
def test_generated_modules_are_those_of_the_proto_files(tmp_path: Path) -> None:
    """Generating again gives the committed files; asked only of the version of protoc that made them."""
    sources = sorted(str(path.relative_to(ROOT)) for path in PB.glob("*.proto"))
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        "-I",
        ".",
        f"--python_out={tmp_path}",
        f"--pyi_out={tmp_path}",
        *sources,
    ]
    subprocess.run(command, check=True, timeout=60, cwd=ROOT)
    made = {
        path.name: path.read_text() for path in (tmp_path / "metrics_server" / "ingest" / "payload" / "pb").iterdir()
    }
    committed = {path.name: path.read_text() for path in PB.glob("*_pb2.py*")}
    first = next(iter(sorted(made)))
    if _protoc_of(made[first]) != _protoc_of(committed[first]):
        pytest.skip(f"grpcio-tools {version('grpcio-tools')} has another protoc")
    assert made == committed


def _protoc_of(module: str) -> str:
    return next(line for line in module.splitlines() if "Protobuf Python Version" in line)
