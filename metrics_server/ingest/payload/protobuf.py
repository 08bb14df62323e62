"""The protocols as protobuf. Seldon's messages become the structs of their JSON form, so that one code reads both.

The only module that imports protobuf, which is an extra; itself imported when the first such body arrives.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from google.protobuf.message import DecodeError
from google.protobuf.message import Message as AnyMessage
from google.protobuf.struct_pb2 import ListValue, Value
from msgspec import UNSET, Raw, json

from metrics_server.errors import Reason, Rejected
from metrics_server.ingest.payload.meta_metrics import MOST_OF_RESPONSE
from metrics_server.ingest.payload.parsed import ParsedPayload
from metrics_server.ingest.payload.pb import inference_pb2, seldon_pb2, tensorflow_pb2
from metrics_server.ingest.payload.protocol import OtherMessage, first_parsed
from metrics_server.ingest.payload.rows import MAX_DIMENSIONS, Row, check_rows, number, opaque, row_of
from metrics_server.ingest.payload.seldon import (
    MEMBERS,
    DefaultData,
    Feedback,
    Message,
    Meta,
    RequestPart,
    Tensor,
    parsed_feedback,
    parsed_request,
    parsed_response,
    rows_of_message,
)
from metrics_server.ingest.payload.tensorflow import rows_of_tensor_proto
from metrics_server.ingest.payload.v2 import Output, rows_of_output, values_of

M = TypeVar("M", bound=AnyMessage)

_SELDON = tuple(MEMBERS.items())  # of the other protocols a message in protobuf holds nothing


def _parsed(kind: type[M], body: bytes) -> M:
    message = kind()
    try:
        message.ParseFromString(body)
    except DecodeError as error:
        raise OtherMessage(Reason.MALFORMED_PAYLOAD, f"not a {kind.DESCRIPTOR.name} in protobuf") from error
    return message


def read_seldon_request(body: bytes) -> ParsedPayload:
    """Reads ids and tags of a request."""
    return parsed_request(RequestPart(_meta(_parsed(seldon_pb2.SeldonMessage, body))))


def read_seldon_response(body: bytes) -> ParsedPayload | None:
    """Reads a logged response; None when it is empty, as a message of another protocol may look."""
    message = _message(_parsed(seldon_pb2.SeldonMessage, body))
    rows = rows_of_message(message, _SELDON, "response")
    return None if rows is None and message.meta is None else parsed_response(message, rows)


def read_seldon_feedback(body: bytes) -> ParsedPayload:
    """Reads a feedback of Seldon's protocol, the only one that has any.

    Protobuf does not tell a reward of 0 from none, so both are left to `parsed_feedback`.
    """
    feedback = _parsed(seldon_pb2.Feedback, body)
    sent, response, truth = (feedback.HasField(part) for part in ("request", "response", "truth"))
    message = Feedback(
        RequestPart(_meta(feedback.request)) if sent else None,
        _message(feedback.response) if response else None,
        _message(feedback.truth) if truth else UNSET,
        feedback.reward if feedback.HasField("reward") else UNSET,
    )
    return parsed_feedback(message, _SELDON)


def _message(message: seldon_pb2.SeldonMessage) -> Message:
    content = message.WhichOneof("content")
    members = {content: _CONTENT[content](getattr(message, content))} if content else {}
    return Message(meta=_meta(message), **members)


def _meta(message: seldon_pb2.SeldonMessage) -> Meta | None:
    """Takes the metadata, its maps sorted, since protobuf leaves their order open."""
    if not message.HasField("meta"):
        return None
    meta = message.meta
    tags = {name: _json(meta.tags[name]) for name in sorted(meta.tags)}
    return Meta(meta.puid, tags, dict.fromkeys(sorted(meta.requestPath), ""), _metrics(meta.metrics))


def _metrics(metrics: Sequence[bytes]) -> Raw:
    """Writes custom metrics as JSON, as far as they are looked at; null for what is none."""
    if not metrics:
        return Raw()
    beyond: list[object] = [None] * len(metrics[MOST_OF_RESPONSE:])
    return Raw(json.encode([*map(_metric, metrics[:MOST_OF_RESPONSE]), *beyond]))


def _metric(body: bytes) -> dict[str, object] | None:
    try:
        metric = _parsed(seldon_pb2.Metric, body)
    except OtherMessage:
        return None
    # The number as text: JSON has no infinity, which is to be refused for what it is.
    return {"key": metric.key, "type": metric.type, "value": str(metric.value), "tags": dict(metric.tags)}


def _data(data: seldon_pb2.DefaultData) -> DefaultData:
    form = data.WhichOneof("content")
    return DefaultData(**{form: _FORMS[form](getattr(data, form))}) if form else DefaultData()


def _rows_of_list(rows: ListValue) -> list[Any]:
    check_rows(len(rows.values), "ndarray")
    return _list(rows)


def _list(values: ListValue) -> list[Any]:
    return [_json(value) for value in values.values]


def _json(value: Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "list_value":
        return _list(value.list_value)
    if kind == "struct_value":
        return {name: _json(member) for name, member in value.struct_value.fields.items()}
    return None if kind in (None, "null_value") else getattr(value, kind)


def _tensor_proto(tensor: tensorflow_pb2.TensorProto) -> dict[str, Any]:
    dimensions = [{"size": dimension.size} for dimension in tensor.tensor_shape.dim[: MAX_DIMENSIONS + 1]]
    lists = {field.name: list(value) for field, value in tensor.ListFields() if field.name.endswith("_val")}
    return {
        "dtype": tensor.dtype,
        "tensor_shape": {"dim": dimensions},
        "tensor_content": tensor.tensor_content,
        **lists,
    }


_CONTENT: dict[str, Callable[[Any], Any]] = {
    "data": _data,
    "binData": lambda data: base64.b64encode(data).decode(),
    "strData": str,
    "jsonData": _json,
    "customData": bytes,
}
_FORMS: dict[str, Callable[[Any], Any]] = {
    "tensor": lambda tensor: Tensor(list(tensor.shape), list(tensor.values)),
    "ndarray": _rows_of_list,
    "tftensor": _tensor_proto,
}


def _response(rows: list[Row]) -> ParsedPayload:
    return ParsedPayload(response=opaque(rows or [None]))


# The member of V2's contents that holds the values of each type; FP16 has none.
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def read_v2_response(body: bytes) -> ParsedPayload | None:
    """Reads the first tensor of a ModelInferResponse; None when it has none, as one of another protocol may look."""
    response = _parsed(inference_pb2.ModelInferResponse, body)
    if not response.outputs or not response.outputs[0].datatype:
        return None
    first, raw = response.outputs[0], response.raw_output_contents
    parameters = {name: parameter.string_param for name, parameter in first.parameters.items()}
    output = Output(first.datatype, list(first.shape), parameters=parameters)
    if not raw:
        output.data = list(getattr(first.contents, _CONTENTS.get(first.datatype, "bytes_contents")))
    elif any(tensor.HasField("contents") for tensor in response.outputs):
        raise Rejected(Reason.MALFORMED_PAYLOAD, "response: a tensor has contents or raw contents, not both")
    elif len(raw) != len(response.outputs):
        raise Rejected(Reason.SHAPE_MISMATCH, f"response: {len(raw)} raw contents for {len(response.outputs)} tensors")
    else:
        output.data = values_of(output, raw[0], "response")
    return _response(rows_of_output(output, "response"))


def read_tensorflow_response(body: bytes) -> ParsedPayload | None:
    """Reads an answer of TensorFlow Serving. The bytes do not say which of its three messages they are, so each is
    tried.
    """
    return first_parsed((_read_outputs, _read_classes, _read_regressions), body)


def _read_outputs(body: bytes) -> ParsedPayload | None:
    outputs = _parsed(tensorflow_pb2.PredictResponse, body).outputs
    if not outputs or not all(tensor.dtype for tensor in outputs.values()):
        return None
    first = outputs[min(outputs)]  # a map has no order
    rows = rows_of_tensor_proto(_tensor_proto(first), "response")
    return _response(rows if len(outputs) == 1 else [None] * len(rows))


def _read_classes(body: bytes) -> ParsedPayload | None:
    classifications = _parsed(tensorflow_pb2.ClassificationResponse, body).result.classifications
    if not any(one.classes for one in classifications):
        return None
    check_rows(len(classifications), "response")
    return _response([_row_of_classes(one.classes) for one in classifications])


def _row_of_classes(classes: Sequence[tensorflow_pb2.Class]) -> Row:
    """Takes the label of the largest score, or all scores of classes without labels."""
    scores = [number(one.score, "response") for one in classes]
    if not scores:
        return None
    return classes[scores.index(max(scores))].label or row_of(scores, "response")


def _read_regressions(body: bytes) -> ParsedPayload | None:
    regressions = _parsed(tensorflow_pb2.RegressionResponse, body).result.regressions
    if not regressions:
        return None
    check_rows(len(regressions), "response")
    return _response([number(one.value, "response") for one in regressions])
