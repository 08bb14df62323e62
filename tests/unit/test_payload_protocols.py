"""Protocols: each form of a message gives its rows, and its forms as JSON and as protobuf give the same."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from google.protobuf import struct_pb2
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from metrics_server.ingest.payload import read
from metrics_server.ingest.payload.parsed import ParsedPayload
from metrics_server.ingest.payload.pb import inference_pb2, seldon_pb2, tensorflow_pb2
from metrics_server.metrics.labels import EventKind

PROTOBUF = "application/protobuf"


def as_json(kind: str, message: Any) -> ParsedPayload:
    return read(kind, "", "application/json", json.dumps(message).encode())


def as_protobuf(kind: str, message: Message, protocol: str = "seldon") -> ParsedPayload:
    return read(kind, protocol, PROTOBUF, message.SerializeToString())


def dims(*sizes: int) -> dict[str, Any]:
    return {"dim": [{"size": str(size)} for size in sizes]}


MESSAGES = [
    ({"data": {"tensor": {"shape": [2, 2], "values": [0.5, 1.5, 2.5, 3.5]}}}, [[0.5, 1.5], [2.5, 3.5]]),
    ({"data": {"tensor": {"shape": [2, 1], "values": [2, 0]}}}, [2, 0]),
    ({"data": {"tensor": {"shape": [0]}}, "meta": {}}, [None]),
    ({"data": {"names": ["a", "b"], "ndarray": [[0.1, 0.9]]}}, [[0.1, 0.9]]),
    ({"data": {"ndarray": ["cat", 2, True, None, [0.5]]}}, ["cat", 2, True, None, 0.5]),
    ({"data": {"ndarray": [[1, 2], [3]]}}, [[1, 2], 3]),
    ({"data": {"ndarray": [[["deep"]]]}}, [None]),
    ({"data": {"ndarray": [{"a": 1}]}}, [None]),
    ({"data": {"tftensor": {"dtype": 1, "tensorShape": dims(1, 2), "floatVal": [0.25, 0.75]}}}, [[0.25, 0.75]]),
    ({"data": {"tftensor": {"dtype": 9, "tensorShape": dims(3), "int64Val": ["7"]}}}, [7, 7, 7]),
    ({"data": {"tftensor": {"dtype": 2, "tensorShape": dims(1), "tensorContent": "AAAAAAAA+D8="}}}, [1.5]),
    ({"data": {"tftensor": {"dtype": 7, "tensorShape": dims(2), "stringVal": ["Y2F0", "/w=="]}}}, ["cat", None]),
    ({"data": {"tftensor": {"dtype": 10, "tensorShape": dims(2), "boolVal": [True, False]}}}, [True, False]),
    ({"data": {"tftensor": {"dtype": 23, "tensorShape": dims(1), "uint64Val": ["5"]}}}, [5]),
    ({"data": {"tftensor": {"dtype": 8, "tensorShape": dims(1)}}}, [None]),
    ({"strData": "cat"}, ["cat"]),
    ({"strData": "a sentence\nof two lines"}, [None]),
    ({"binData": "Y2F0"}, ["cat"]),
    ({"binData": "/9j/"}, [None]),
    ({"jsonData": {"price": 12.5}}, [12.5]),
    ({"jsonData": {"out": {"label": "cat"}}}, ["cat"]),
    ({"jsonData": {"a": 1, "b": 2}}, [None]),
    ({"jsonData": [[0.5, 0.5], [1, 0]]}, [[0.5, 0.5], [1, 0]]),
    ({"jsonData": None}, [None]),
    ({"meta": {"puid": "a"}}, [None]),
]


@pytest.mark.parametrize(("message", "rows"), MESSAGES, ids=lambda value: str(value)[:60])
def test_a_seldon_message_gives_the_same_rows_as_json_and_as_protobuf(message: dict[str, Any], rows: list[Any]) -> None:
    """Whatever holds the rows of a SeldonMessage, both of its encodings are read alike."""
    reading = as_json(EventKind.RESPONSE, message)
    assert reading.response == rows
    assert as_protobuf(EventKind.RESPONSE, ParseDict(message, seldon_pb2.SeldonMessage())) == reading


def test_custom_data_is_opaque_in_both() -> None:
    """A google.protobuf.Any is logged as one opaque row, whatever it holds."""
    reading = as_json(EventKind.RESPONSE, {"customData": {"@type": "x"}})
    assert reading == ParsedPayload(response=[None])
    assert as_protobuf(EventKind.RESPONSE, seldon_pb2.SeldonMessage(customData=b"\x0a\x01x")) == reading


META_RESPONSE = {
    "puid": "r",
    "tags": {"a": "response", "n": 1.5, "yes": True, "list": [1], "map": {}, "null": None},
    "requestPath": {"m": "i"},
}
FEEDBACKS = [
    {"response": {"strData": "cat"}, "truth": {"strData": "dog"}},
    {"response": {"data": {"ndarray": [[0.1, 0.9]]}}, "truth": {"data": {"ndarray": [1]}}, "reward": 0.5},
    {"response": {"data": {"ndarray": [[0.5, 0.5]]}}, "truth": {"data": {"ndarray": [0, 1]}}},
    {"request": {"meta": {"puid": "q"}}, "reward": 1.0},
    {"response": {"customData": ""}, "reward": 1.0},
    {"truth": {"strData": "cat", "meta": {"puid": "t", "tags": {"a": "truth", "c": 1}}}},
    {
        "request": {"meta": {"puid": "q", "tags": {"a": "request", "b": "request"}, "requestPath": {"no": ""}}},
        "response": {"strData": "cat", "meta": META_RESPONSE},
        "truth": {"strData": "cat", "meta": {"puid": "r", "tags": {"b": "truth", "c": 3}}},
    },
]


@pytest.mark.parametrize("feedback", FEEDBACKS, ids=lambda value: str(value)[:60])
def test_a_feedback_is_read_alike_as_json_and_as_protobuf(feedback: dict[str, Any]) -> None:
    """Both encodings of a Feedback give equal readings."""
    assert as_protobuf(EventKind.FEEDBACK, ParseDict(feedback, seldon_pb2.Feedback())) == as_json(
        EventKind.FEEDBACK, feedback
    )


def test_what_identifies_a_message_is_ordered_and_single() -> None:
    """Ids come from response, request, truth in this order, once each; of one tag the first of them stands; scalars
    only."""
    reading = as_json(EventKind.FEEDBACK, FEEDBACKS[-1])
    assert reading.puids == ["r", "q"]
    assert reading.tags == {"a": "response", "n": 1.5, "yes": True, "b": "request", "c": 3}
    assert reading.path == ["m"]


def test_a_request_is_read_alike_as_json_and_as_protobuf() -> None:
    """Ids and tags of a request come from both encodings."""
    message = {"data": {"ndarray": [[1.0]]}, "meta": {"puid": "q", "tags": {"tenant": "b"}}}
    reading = as_json(EventKind.REQUEST, message)
    assert reading == ParsedPayload(puids=["q"], tags={"tenant": "b"})
    assert as_protobuf(EventKind.REQUEST, ParseDict(message, seldon_pb2.SeldonMessage())) == reading


@pytest.mark.parametrize(
    ("feedback", "reward"),
    [
        (seldon_pb2.Feedback(response=seldon_pb2.SeldonMessage(strData="cat")), 0.0),
        (seldon_pb2.Feedback(response=seldon_pb2.SeldonMessage(strData="cat"), reward=0.25), 0.25),
        (seldon_pb2.Feedback(truth=seldon_pb2.SeldonMessage(strData="cat")), None),
        (seldon_pb2.Feedback(truth=seldon_pb2.SeldonMessage(strData="cat"), reward=0), 0.0),
    ],
    ids=["no truth", "stated", "truth alone", "stated beside a truth"],
)
def test_a_reward_of_nothing_in_protobuf(feedback: seldon_pb2.Feedback, reward: float | None) -> None:
    """Protobuf leaves a reward of 0 out: it is one where there is no truth."""
    assert as_protobuf(EventKind.FEEDBACK, feedback).reward == reward


V1 = [
    ({"predictions": [1, 0.5, "cat", True, None]}, [1, 0.5, "cat", True, None]),
    ({"predictions": [[0.1, 0.9], [0.8, 0.2]]}, [[0.1, 0.9], [0.8, 0.2]]),
    ({"predictions": [[[0.1, 0.9]], [[0.8, 0.2]]]}, [[0.1, 0.9], [0.8, 0.2]]),
    ({"predictions": [[[["a"]]], {"x": [1, "b"]}]}, ["a", None]),
    ({"predictions": [{"score": 0.5}, {"score": [0.1, 0.9]}, {"a": 1, "b": 2}, {}]}, [0.5, [0.1, 0.9], None, None]),
    (
        {"predictions": [{"b64": "Y2F0"}, {"b64": "/9j/"}, {"b64": "§"}, {"out": {"b64": "ZG9n"}}]},
        ["cat", None, None, "dog"],
    ),
    ({"predictions": 3}, [3]),
    ({"predictions": []}, [None]),
    ({"outputs": [1, 2]}, [1, 2]),
    ({"outputs": {"score": [0.5, 0.25]}}, [0.5, 0.25]),
    ({"outputs": {"score": [0.5, 0.25], "label": ["a", "b"]}}, [None, None]),
    ({"outputs": {"b64": "Y2F0"}}, ["cat"]),
    ({"instances": [[1, 2]]}, [[1, 2]]),
    ({"inputs": [[1, 2]]}, [[1, 2]]),
    ({"predictions": [1], "message": "", "batchId": "b", "instances": [[5]]}, [1]),
    ({"choices": [{"text": "Hi"}], "object": "text_completion"}, [None]),
]


@pytest.mark.parametrize(("message", "rows"), V1, ids=lambda value: str(value)[:60])
def test_rows_of_a_v1_answer(message: dict[str, Any], rows: list[Any]) -> None:
    """Elements are rows; an object with one member stands for it, one with several is an opaque row."""
    assert as_json(EventKind.RESPONSE, message) == ParsedPayload(response=rows)


def tensor_proto(dtype: int, shape: tuple[int, ...], **values: Any) -> tensorflow_pb2.TensorProto:
    return ParseDict({"dtype": dtype, "tensorShape": dims(*shape)}, tensorflow_pb2.TensorProto(**values))


CLASSES = [tensorflow_pb2.Class(label="cat", score=0.75), tensorflow_pb2.Class(label="dog", score=0.25)]
UNNAMED = [tensorflow_pb2.Class(score=0.75), tensorflow_pb2.Class(score=0.25)]
SERVING = [
    (tensorflow_pb2.PredictResponse(outputs={"p": tensor_proto(2, (2, 2), double_val=[1, 2, 3, 4])}), [[1, 2], [3, 4]]),
    (tensorflow_pb2.PredictResponse(outputs={"p": tensor_proto(7, (2,), string_val=[b"cat", b"\xff"])}), ["cat", None]),
    (tensorflow_pb2.PredictResponse(outputs={"p": tensor_proto(7, (1, 2), string_val=[b"cat", b"dog"])}), [None]),
    (tensorflow_pb2.PredictResponse(outputs={n: tensor_proto(3, (2,), int_val=[1, 2]) for n in "pq"}), [None, None]),
    (
        tensorflow_pb2.ClassificationResponse(
            result=tensorflow_pb2.ClassificationResult(
                classifications=[
                    tensorflow_pb2.Classifications(classes=CLASSES),
                    tensorflow_pb2.Classifications(classes=UNNAMED),
                ]
            )
        ),
        ["cat", [0.75, 0.25]],
    ),
    (
        tensorflow_pb2.RegressionResponse(
            result=tensorflow_pb2.RegressionResult(
                regressions=[tensorflow_pb2.Regression(value=value) for value in (0, 2.5)]
            )
        ),
        [0, 2.5],
    ),
]


@pytest.mark.parametrize("protocol", ["", "tensorflow"])
@pytest.mark.parametrize(("message", "rows"), SERVING, ids=lambda value: type(value).__name__)
def test_rows_of_an_answer_of_tensorflow_serving(message: Message, rows: list[Any], protocol: str) -> None:
    """The bytes alone tell which of its three messages they are, also where no protocol is stated."""
    assert as_protobuf(EventKind.RESPONSE, message, protocol) == ParsedPayload(response=rows)


TENSORS = [
    ("BOOL", "?", "bool_contents", [True, False]),
    ("INT8", "b", "int_contents", [-5, 6]),
    ("INT16", "h", "int_contents", [-500, 6]),
    ("INT32", "i", "int_contents", [-70000, 6]),
    ("INT64", "q", "int64_contents", [-(10**12), 6]),
    ("UINT8", "B", "uint_contents", [5, 255]),
    ("UINT16", "H", "uint_contents", [5, 65535]),
    ("UINT32", "I", "uint_contents", [5, 2**32 - 1]),
    ("UINT64", "Q", "uint64_contents", [5, 10**12]),
    ("FP16", "e", None, [0.5, -0.25]),
    ("FP32", "f", "fp32_contents", [0.5, -0.25]),
    ("FP64", "d", "fp64_contents", [0.1, 1e12]),
]


@pytest.mark.parametrize(("datatype", "code", "contents", "values"), TENSORS, ids=[row[0] for row in TENSORS])
@pytest.mark.parametrize("shape", [[2], [2, 1], [1, 2], [1, 2, 1]], ids=str)
def test_all_encodings_of_a_v2_tensor_give_the_same_rows(
    datatype: str, code: str, contents: str | None, values: list[Any], shape: list[int]
) -> None:
    """Flat and nested JSON, binary tensors, typed contents and raw contents are read alike, in every type."""
    rows = values if shape[0] == 2 else [values]
    raw = struct.pack(f"<2{code}", *values)
    head = {"name": "p", "datatype": datatype, "shape": shape}
    answer = inference_pb2.ModelInferResponse
    tensor = inference_pb2.InferOutputTensor(**head)
    nested = [[value] for value in values] if shape == [2, 1] else [values]
    bodies = [json.dumps({"outputs": [{**head, "data": data}]}).encode() for data in (values, nested)]
    bodies.append(json.dumps({"outputs": [{**head, "parameters": {"binary_data_size": len(raw)}}]}).encode() + raw)
    messages = [answer(model_name="m", outputs=[tensor], raw_output_contents=[raw])]
    if contents is not None:
        messages.append(answer(model_name="m", outputs=[tensor]))
        getattr(messages[-1].outputs[0].contents, contents).extend(values)
    for body in bodies:
        assert read(EventKind.RESPONSE, "v2", "application/json", body).response == rows
    for message in messages:
        for protocol in ("", "v2", "kfserving"):
            assert as_protobuf(EventKind.RESPONSE, message, protocol).response == rows


@pytest.mark.parametrize(
    ("values", "parameters", "shape", "rows"),
    [
        ([b"cat", b"dog"], {}, [2], ["cat", "dog"]),
        ([b"7", b""], {"content_type": "str"}, [2, 1], ["7", ""]),
        ([b"Y2F0"], {"content_type": "base64"}, [1], ["cat"]),
        ([b"caf\xc3\xa9"], {"content_type": "np"}, [1], ["café"]),
        ([b"cat", b"dog"], {}, [1, 2], [None]),
        ([], {}, [0], [None]),
    ],
    ids=str,
)
def test_all_encodings_of_v2_texts_give_the_same_rows(
    values: list[bytes], parameters: dict[str, str], shape: list[int], rows: Any
) -> None:
    """Texts are labels and never numbers; base64 is undone where the content type says so."""
    raw = b"".join(struct.pack("<I", len(value)) + value for value in values)
    head = {"name": "p", "datatype": "BYTES", "shape": shape}
    plain = {"outputs": [{**head, "parameters": parameters, "data": [value.decode() for value in values]}]}
    sized = {"outputs": [{**head, "parameters": {**parameters, "binary_data_size": len(raw)}}]}
    assert read(EventKind.RESPONSE, "", "", json.dumps(plain).encode()).response == rows
    assert read(EventKind.RESPONSE, "", "", json.dumps(sized).encode() + raw).response == rows
    tensor = inference_pb2.InferOutputTensor(**head)
    for name, value in parameters.items():
        tensor.parameters[name].string_param = value
    packed = inference_pb2.ModelInferResponse(outputs=[tensor], raw_output_contents=[raw])
    assert as_protobuf(EventKind.RESPONSE, packed, "v2").response == rows
    tensor.contents.bytes_contents.extend(values)
    assert as_protobuf(EventKind.RESPONSE, inference_pb2.ModelInferResponse(outputs=[tensor]), "v2").response == rows


def test_the_first_output_is_the_prediction() -> None:
    """Of several output tensors the first counts, also when values of others stand in between."""
    first = {"name": "a", "datatype": "INT64", "shape": [1], "data": [7]}
    second = {"name": "b", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}
    body = json.dumps({"outputs": [first, second]}).encode() + struct.pack("<2f", 1, 2)
    assert read(EventKind.RESPONSE, "v2", "", body).response == [7]
    third = {"name": "c", "datatype": "INT32", "shape": [1], "parameters": {"binary_data_size": 4}}
    body = json.dumps({"outputs": [third, second]}).encode() + struct.pack("<i2f", 9, 1, 2)
    assert read(EventKind.RESPONSE, "v2", "", body).response == [9]


@pytest.mark.parametrize("tail", [b"    ", b"\n\n\n\n", b"NaN}", b"\\ud8"], ids=str)
def test_binary_values_that_look_like_text_are_read(tail: bytes) -> None:
    """Bytes behind the JSON are values, also when they could be blanks or a mistake in JSON."""
    head = {"outputs": [{"name": "é", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 8}}]}
    body = json.dumps(head, ensure_ascii=False).encode() + struct.pack("<I", 4) + tail
    assert read(EventKind.RESPONSE, "", "", body).response in ([tail.decode()], [None])
    head = {"outputs": [{"name": "é", "datatype": "INT32", "shape": [1], "parameters": {"binary_data_size": 4}}]}
    body = json.dumps(head, ensure_ascii=False).encode() + tail
    assert read(EventKind.RESPONSE, "", "", body).response == [int.from_bytes(tail, "little")]


@pytest.mark.parametrize(
    ("part", "rows"),
    [
        ({"predictions": [0.25, 0.75]}, [0.25, 0.75]),
        ({"outputs": [{"name": "p", "shape": [2], "datatype": "FP32", "data": [0.25, 0.75]}]}, [0.25, 0.75]),
        ({"outputs": {"p": ["a", "b"]}}, ["a", "b"]),
    ],
    ids=str,
)
def test_parts_of_a_feedback_may_be_of_other_protocols(part: dict[str, Any], rows: list[Any]) -> None:
    """Truth and response may be what a TensorFlow or V2 deployment answered."""
    own = {"data": {"ndarray": rows}}
    for feedback in (
        {"response": part, "truth": own},
        {"response": own, "truth": part},
        {"response": part, "truth": part},
    ):
        assert as_json(EventKind.FEEDBACK, feedback) == ParsedPayload(rows, rows)


def test_a_struct_in_protobuf_is_an_object() -> None:
    """An ndarray of objects is one opaque row, as in JSON."""
    values = struct_pb2.ListValue()
    values.add_struct()["a"] = 1
    message = seldon_pb2.SeldonMessage(data=seldon_pb2.DefaultData(ndarray=values))
    assert as_protobuf(EventKind.RESPONSE, message) == ParsedPayload(response=[None])
