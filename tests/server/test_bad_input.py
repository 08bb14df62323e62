"""Bad input: every kind gets its status and its reason, moves no number, and leaves the server serving."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as prometheus_families

from tests.support.raw_http import Client, Page, Served, chunked, request, serving

LIMIT = 100_000  # --max_body_bytes of the server under test
FEEDBACK = "io.seldon.serving.feedback"
RESPONSE = "io.seldon.serving.inference.response"
ATTRIBUTES = {"specversion": "1.0", "id": "bad", "source": "/tests", "type": FEEDBACK}
JSON, STRUCTURED, BATCH = "application/json", "application/cloudevents+json", "application/cloudevents-batch+json"
GOOD = {"response": {"data": {"ndarray": ["cat"]}}, "truth": {"data": {"ndarray": ["cat"]}}}


class Case(NamedTuple):
    """One bad request and what it must get; without a reason the answer's body and the counters of events are left
    open."""

    sentence: str
    data: bytes
    status: int
    reason: str | None


def bare(body: Any, *headers: str) -> bytes:
    return request("/", body, f"Content-Type: {JSON}", *headers)


def binary(body: Any = GOOD, *headers: str, **attributes: str | None) -> bytes:
    """A binary event with these attributes in place of the good ones; None leaves one out."""
    lines = [f"Ce-{name}: {value}" for name, value in {**ATTRIBUTES, **attributes}.items() if value is not None]
    return request("/", body, f"Content-Type: {JSON}", *lines, *headers)


def envelope(**members: Any) -> dict[str, Any]:
    return {**ATTRIBUTES, "data": GOOD, **members}


def structured(event: Any) -> bytes:
    return request("/", event, f"Content-Type: {STRUCTURED}")


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in envelope().items() if key != name}


def truth(content: Any) -> bytes:
    """A feedback with one row of response and this truth."""
    return bare({"response": {"data": {"ndarray": [1]}}, "truth": content})


def ndarray(rows: Any) -> bytes:
    return truth({"data": {"ndarray": rows}})


def tensor(shape: Any, values: Any) -> bytes:
    return truth({"data": {"tensor": {"shape": shape, "values": values}}})


def tftensor(**members: Any) -> bytes:
    return truth({"data": {"tftensor": {"dtype": "DT_DOUBLE", "tensorShape": {"dim": [{"size": "1"}]}, **members}}})


def reward(text: bytes) -> bytes:
    return bare(b'{"reward": ' + text + b"}")


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


DEEP = b"[" * 45_000 + b"]" * 45_000
DIGITS = b"9" * 400
ZIPPED = gzip.compress(json.dumps(GOOD).encode())

MALFORMED_JSON = [
    ("an empty body", b""),
    ("a body of blanks", b" \r\n\t "),
    ("an object cut short", b'{"reward": 1'),
    ("a string cut short", b'{"truth": {"strData": "ca'),
    ("a trailing comma", b'{"reward": 1,}'),
    ("single quotes", b"{'reward': 1}"),
    ("a name without quotes", b"{reward: 1}"),
    ("a comment", b'{"reward": 1 /* good */}'),
    ("a number with a leading zero", b'{"reward": 01}'),
    ("a number with a plus sign", b'{"reward": +1}'),
    ("a hexadecimal number", b'{"reward": 0x10}'),
    ("a number that ends in its point", b'{"reward": 1.}'),
    ("Python's True", b'{"reward": True}'),
    ("an unknown escape", b'{"truth": {"strData": "\\x41"}}'),
    ("a line break in a string", b'{"truth": {"strData": "a\nb"}}'),
    ("a NUL byte", b"\x00"),
    ("text after the object", b'{"reward": 1} {"reward": 2}'),
    ("a byte order mark", b'\xef\xbb\xbf{"reward": 1}'),
    ("a form", b"reward=1&truth=2"),
    ("XML", b"<feedback/>"),
    ("protobuf", b"\x0a\x07\x12\x05\x0a\x03abc"),
    ("gzip in gzip", gzip.compress(ZIPPED)),
]

SURROGATES = [
    ("a lone high surrogate", b'{"truth": {"strData": "\\ud83d"}, "reward": 1}'),
    ("a lone low surrogate", b'{"truth": {"strData": "\\ude00"}, "reward": 1}'),
    ("surrogates the wrong way round", b'{"truth": {"strData": "\\ude00\\ud83d"}, "reward": 1}'),
    ("a surrogate followed by text", b'{"truth": {"strData": "\\ud83dx"}, "reward": 1}'),
    ("a surrogate in the name of a member", b'{"\\ud83d": 1, "reward": 1}'),
]

FORM = [
    ("a list in place of a feedback", []),
    ("a number in place of a feedback", 1),
    ("a string in place of a feedback", "cat"),
    ("null in place of a feedback", None),
    ("an empty feedback", {}),
    ("a feedback whose parts are null", {"truth": None, "response": None, "reward": None}),
    ("a feedback whose reward is null", {"response": {"data": {"ndarray": [1]}}, "reward": None}),
    ("a truth that is a number", {"truth": 1}),
    ("a truth that is a list", {"truth": [1], "reward": 1}),
    ("a response that is text", {"response": "cat", "reward": 1}),
    ("data that is a list", {"truth": {"data": [1]}, "response": {"data": [1]}}),
    ("strData that is a number", {"truth": {"strData": 1}, "reward": 1}),
    ("a truth without response and without an id to join on", {"truth": {"data": {"ndarray": [1]}}}),
]

TABLE = [
    *(Case(f"{what} is malformed_json", bare(body), 400, "malformed_json") for what, body in MALFORMED_JSON),
    # numbers
    Case("a bare NaN is not_a_number", reward(b"NaN"), 400, "not_a_number"),
    Case("a bare Infinity is not_a_number", reward(b"Infinity"), 400, "not_a_number"),
    Case(
        "a bare -Infinity in a row is not_a_number",
        bare(b'{"truth": {"data": {"ndarray": [-Infinity]}}}'),
        400,
        "not_a_number",
    ),
    Case("protobuf's NaN in a tensor is not_a_number", tensor([1], ["NaN"]), 400, "not_a_number"),
    Case("protobuf's NaN in a column is not_a_number", tensor([1, 2], ["NaN", 1.0]), 400, "not_a_number"),
    Case("protobuf's -Infinity in a tensor is not_a_number", tensor([1], ["-Infinity"]), 400, "not_a_number"),
    Case("protobuf's NaN as reward is not_a_number", reward(b'"NaN"'), 400, "not_a_number"),
    Case("a NaN in tensorContent is not_a_number", tftensor(tensorContent="AAAAAAAA+H8="), 400, "not_a_number"),
    Case("1e400 is out_of_range", reward(b"1e400"), 400, "out_of_range"),
    Case("-1e400 in a row is out_of_range", bare(b'{"truth": {"data": {"ndarray": [-1e400]}}}'), 400, "out_of_range"),
    Case("1e400 as text in a tensor is out_of_range", tensor([1], ["1e400"]), 400, "out_of_range"),
    Case("an integer of 400 digits as reward is out_of_range", reward(DIGITS), 400, "out_of_range"),
    Case("an integer of 5000 digits as reward is out_of_range", reward(b"9" * 5000), 400, "out_of_range"),
    Case(
        "an integer of 400 digits in a row is out_of_range",
        bare(b'{"truth":{"data":{"ndarray":[' + DIGITS + b']}},"response":{"data":{"ndarray":[1]}}}'),
        400,
        "out_of_range",
    ),
    Case(
        "an integer of 400 digits in a column is out_of_range",
        bare(b'{"truth":{"data":{"ndarray":[[1,' + DIGITS + b']]}},"response":{"data":{"ndarray":[1]}}}'),
        400,
        "out_of_range",
    ),
    Case("an integer of 400 digits in a tensor is out_of_range", tensor([1], [int(DIGITS)]), 400, "out_of_range"),
    Case(
        "an integer of 5000 digits in jsonData is out_of_range",
        bare(b'{"truth":{"jsonData":' + b"9" * 5000 + b"}}"),
        400,
        "out_of_range",
    ),
    Case("a reward beyond 1e12 is out_of_range", reward(b"1000000000001"), 400, "out_of_range"),
    Case("a row beyond -1e12 is out_of_range", ndarray([-1e13]), 400, "out_of_range"),
    Case("a column beyond 1e12 is out_of_range", ndarray([[0.0, 1e13]]), 400, "out_of_range"),
    Case("a value of a tensor beyond 1e12 is out_of_range", tensor([1], [1e300]), 400, "out_of_range"),
    # nesting
    Case("90000 opening brackets are malformed_feedback", bare(b"[" * 90_000), 422, "malformed_feedback"),
    Case("90000 opening braces are too_deep", bare(b'{"a":' * 18_000), 400, "too_deep"),
    Case(
        "deep nesting in a truth's rows is too_deep",
        bare(b'{"truth":{"data":{"ndarray":' + DEEP + b"}}}"),
        400,
        "too_deep",
    ),
    Case("deep nesting in jsonData is too_deep", bare(b'{"truth":{"jsonData":' + DEEP + b"}}"), 400, "too_deep"),
    Case(
        "deep nesting in a member that is not read is too_deep",
        bare(b'{"reward":1,"x":' + DEEP + b"}"),
        400,
        "too_deep",
    ),
    Case(
        "deep nesting in the data of a structured event is too_deep",
        structured(json.dumps(without("data")).encode()[:-1] + b',"data":' + DEEP + b"}"),
        400,
        "too_deep",
    ),
    Case(
        "deep nesting in an attribute is too_deep",
        structured(json.dumps(envelope()).encode()[:-1] + b',"x":' + DEEP + b"}"),
        400,
        "too_deep",
    ),
    # form of the feedback
    *(Case(f"{what} is malformed_feedback", bare(body), 422, "malformed_feedback") for what, body in FORM),
    Case(
        "data with a member of no protocol is malformed_payload",
        truth({"data": {"frames": [1]}}),
        422,
        "malformed_payload",
    ),
    Case("data without members is malformed_payload", truth({"data": {}}), 422, "malformed_payload"),
    Case("customData is malformed_payload", truth({"customData": {"@type": "x"}}), 422, "malformed_payload"),
    Case(
        "jsonData with two members is malformed_payload",
        truth({"jsonData": {"a": 1, "b": 2}}),
        422,
        "malformed_payload",
    ),
    Case("text as reward is malformed_payload", reward(b'"good"'), 422, "malformed_payload"),
    Case("a list as reward is malformed_payload", reward(b"[1]"), 422, "malformed_payload"),
    Case("an object as a row is malformed_payload", ndarray([{"a": 1}]), 422, "malformed_payload"),
    Case("text among the columns of a row is malformed_payload", ndarray([[1, "x"]]), 422, "malformed_payload"),
    Case("null among the columns of a row is malformed_payload", ndarray([[1, None]]), 422, "malformed_payload"),
    Case("lists among the columns of a row are malformed_payload", ndarray([[[1, 2], [3]]]), 422, "malformed_payload"),
    Case("text in a tensor is malformed_payload", tensor([1], ["cat"]), 422, "malformed_payload"),
    Case("null in a tensor is malformed_payload", tensor([1], [None]), 422, "malformed_payload"),
    # shapes
    Case("an ndarray that is no list is shape_mismatch", ndarray(1), 422, "shape_mismatch"),
    Case("an ndarray that is null is shape_mismatch", ndarray(None), 422, "shape_mismatch"),
    Case("an empty row is shape_mismatch", ndarray([[]]), 422, "shape_mismatch"),
    Case("a shape larger than the values is shape_mismatch", tensor([2], [1]), 422, "shape_mismatch"),
    Case("a shape smaller than the values is shape_mismatch", tensor([1], [1, 2]), 422, "shape_mismatch"),
    Case("a negative shape is shape_mismatch", tensor([-1], [1]), 422, "shape_mismatch"),
    Case("two negative dimensions are shape_mismatch", tensor([-1, -1], [1]), 422, "shape_mismatch"),
    Case("a tensor of rows without columns is shape_mismatch", tensor([2, 0], []), 422, "shape_mismatch"),
    Case(
        "a tensor of rows without columns as response is shape_mismatch",
        bare({"response": {"data": {"tensor": {"shape": [1, 0], "values": []}}}, "reward": 1}),
        422,
        "shape_mismatch",
    ),
    Case("an absurd shape is shape_mismatch", tensor([10**18, 10**18], [1]), 422, "shape_mismatch"),
    Case("a shape of text is malformed_feedback", tensor(["1"], [1]), 422, "malformed_feedback"),
    Case("a row of 7282 columns is row_too_large", ndarray([[0.5] * 7282]), 422, "row_too_large"),
    Case("two rows of truth for one of response are row_mismatch", ndarray([1, 2]), 422, "row_mismatch"),
    Case("no row of truth for one of response is row_mismatch", ndarray([]), 422, "row_mismatch"),
    # encodings inside of payloads
    Case("binData that is no base64 is malformed_payload", truth({"binData": "§"}), 422, "malformed_payload"),
    Case("binData that is cut short is malformed_payload", truth({"binData": "abc"}), 422, "malformed_payload"),
    Case("binData that is no text is malformed_payload", truth({"binData": "//79"}), 422, "malformed_payload"),
    Case(
        "a tftensor without dtype is malformed_payload",
        truth({"data": {"tftensor": {"doubleVal": [1]}}}),
        422,
        "malformed_payload",
    ),
    Case(
        "a tftensor of complex numbers is malformed_payload", tftensor(dtype="DT_COMPLEX64"), 422, "malformed_payload"
    ),
    Case(
        "tensorContent that is no base64 is malformed_payload", tftensor(tensorContent="%%%"), 422, "malformed_payload"
    ),
    Case(
        "tensorContent of half a value is malformed_payload", tftensor(tensorContent="AAAA"), 422, "malformed_payload"
    ),
    Case("tensorContent that is a number is malformed_payload", tftensor(tensorContent=1), 422, "malformed_payload"),
    Case(
        "a tensorShape that is text is shape_mismatch", tftensor(tensorShape="1", doubleVal=[1]), 422, "shape_mismatch"
    ),
    Case(
        "a tensorShape of text sizes is shape_mismatch",
        tftensor(tensorShape={"dim": [{"size": "x"}]}, doubleVal=[1]),
        422,
        "shape_mismatch",
    ),
    Case(
        "a tensorShape without columns is shape_mismatch",
        tftensor(tensorShape={"dim": [{"size": 1}, {"size": 0}]}),
        422,
        "shape_mismatch",
    ),
    Case(
        "a tensorShape of 1e308 is shape_mismatch",
        tftensor(tensorShape={"dim": [{"size": 1e308}]}, doubleVal=[1]),
        422,
        "shape_mismatch",
    ),
    # text
    Case(
        "a byte that is no UTF-8 is invalid_utf8",
        bare(b'{"truth": {"strData": "caf\xe9"}, "reward": 1}'),
        400,
        "invalid_utf8",
    ),
    Case(
        "an overlong UTF-8 sequence is invalid_utf8",
        bare(b'{"truth": {"strData": "\xc0\xaf"}, "reward": 1}'),
        400,
        "invalid_utf8",
    ),
    Case(
        "a surrogate in UTF-8 is invalid_utf8",
        bare(b'{"truth": {"strData": "\xed\xa0\x80"}, "reward": 1}'),
        400,
        "invalid_utf8",
    ),
    *(Case(f"{what} is invalid_utf8", bare(body), 400, "invalid_utf8") for what, body in SURROGATES),
    Case("a label of 300 characters is label_too_long", truth({"strData": "x" * 300}), 422, "label_too_long"),
    Case("a label with a control character is label_too_long", truth({"strData": "a\x1fb"}), 422, "label_too_long"),
    Case("a label with a line break in a row is label_too_long", ndarray(["a\nb"]), 422, "label_too_long"),
    Case("an endpoint of 300 characters is label_too_long", binary(endpoint="x" * 300), 422, "label_too_long"),
    Case("a model id with an encoded line break is label_too_long", binary(modelid="a%0Ab"), 422, "label_too_long"),
    Case("a request id of 10 kB is label_too_long", binary(requestid="x" * 10_000), 422, "label_too_long"),
    Case(
        "a puid of 10 kB is label_too_long",
        bare({"truth": {"strData": "a", "meta": {"puid": "x" * 10_000}}}),
        422,
        "label_too_long",
    ),
    # attributes, binary
    *(
        Case(f"a binary event without {n} is malformed_event", binary(**{n: None}), 400, "malformed_event")
        for n in ATTRIBUTES
    ),
    *(
        Case(f"a binary event with an empty {n} is malformed_event", binary(**{n: ""}), 400, "malformed_event")
        for n in ATTRIBUTES
    ),
    Case("an id of two quotes is malformed_event", binary(id='""'), 400, "malformed_event"),
    Case("an id with an encoded control character is malformed_event", binary(id="a%01"), 400, "malformed_event"),
    Case("an id of 2000 characters is malformed_event", binary(id="x" * 2000), 400, "malformed_event"),
    *(
        Case(f"ce-datacontenttype {n} beside JSON is malformed", binary(datacontenttype=n), 400, "malformed_event")
        for n in ("text/plain", f"{JSON};charset=utf-8")
    ),
    Case("specversion 0.3 is unsupported_specversion", binary(specversion="0.3"), 400, "unsupported_specversion"),
    Case("specversion 2.0 is unsupported_specversion", binary(specversion="2.0"), 400, "unsupported_specversion"),
    Case("a time that is text is bad_time", binary(time="yesterday"), 400, "bad_time"),
    Case("a time in seconds is bad_time", binary(time="1767225600"), 400, "bad_time"),
    Case("a time without zone is bad_time", binary(time="2026-01-01T00:00:00"), 400, "bad_time"),
    Case("the 30th of February is bad_time", binary(time="2026-02-30T00:00:00Z"), 400, "bad_time"),
    Case("an hour 25 is bad_time", binary(time="2026-01-01T25:00:00Z"), 400, "bad_time"),
    Case("a zone of 99 hours is bad_time", binary(time="2026-01-01T00:00:00+99:99"), 400, "bad_time"),
    Case("an empty time is bad_time", binary(time=""), 400, "bad_time"),
    Case("%FF in an id is bad_encoding", binary(id="%FF"), 400, "bad_encoding"),
    Case("half a character in a source is bad_encoding", binary(source="/%E4%BD"), 400, "bad_encoding"),
    Case("an encoded surrogate in a type is bad_encoding", binary(type="%ED%A0%80"), 400, "bad_encoding"),
    Case("a raw byte that is no UTF-8 in an id is bad_encoding", binary(id="caf\xe9"), 400, "bad_encoding"),
    Case("a response event with malformed JSON is malformed_json", binary(b"{", type=RESPONSE), 400, "malformed_json"),
    # attributes, structured
    *(
        Case(f"a structured event without {n} is malformed_event", structured(without(n)), 400, "malformed_event")
        for n in ATTRIBUTES
    ),
    *(
        Case(
            f"a structured {n} that is empty is malformed_event",
            structured(envelope(**{n: ""})),
            400,
            "malformed_event",
        )
        for n in ATTRIBUTES
    ),
    *(
        Case(
            f"a structured {n} that is null is malformed_event",
            structured(envelope(**{n: None})),
            400,
            "malformed_event",
        )
        for n in ATTRIBUTES
    ),
    *(
        Case(
            f"a structured {n} that is a list is malformed_event",
            structured(envelope(**{n: ["1.0"]})),
            400,
            "malformed_event",
        )
        for n in ATTRIBUTES
    ),
    *(
        Case(
            f"a structured {n} that is an object is malformed_event",
            structured(envelope(**{n: {}})),
            400,
            "malformed_event",
        )
        for n in ATTRIBUTES
    ),
    Case(
        "an extension that is an object is malformed_event",
        structured(envelope(extra={"a": 1})),
        400,
        "malformed_event",
    ),
    Case(
        "a datacontenttype that is a number is malformed_event",
        structured(envelope(datacontenttype=1)),
        400,
        "malformed_event",
    ),
    Case(
        "a structured specversion 0.3 is unsupported_specversion",
        structured(envelope(specversion="0.3")),
        400,
        "unsupported_specversion",
    ),
    Case("a structured time that is a number is bad_time", structured(envelope(time=1767225600)), 400, "bad_time"),
    Case("a lone surrogate in an id is invalid_utf8", structured(envelope(id="\ud83d")), 400, "invalid_utf8"),
    Case("a structured event that is malformed is malformed_json", structured(b"{"), 400, "malformed_json"),
    Case("a structured event that is empty is malformed_json", structured(b""), 400, "malformed_json"),
    Case("a structured event that is a list is malformed_event", structured([envelope()]), 400, "malformed_event"),
    Case(
        "data besides data_base64 is malformed_event", structured(envelope(data_base64="e30=")), 400, "malformed_event"
    ),
    Case(
        "data_base64 that is no base64 is malformed_event",
        structured({**without("data"), "data_base64": "e3%"}),
        400,
        "malformed_event",
    ),
    Case(
        "data_base64 that is a number is malformed_event",
        structured({**without("data"), "data_base64": 1}),
        400,
        "malformed_event",
    ),
    Case(
        "data_base64 of malformed JSON is malformed_json",
        structured({**without("data"), "data_base64": "ew=="}),
        400,
        "malformed_json",
    ),
    Case(
        "an object as data of text/plain is malformed_event",
        structured(envelope(datacontenttype="text/plain")),
        400,
        "malformed_event",
    ),
    Case("a structured feedback without data is malformed_json", structured(without("data")), 400, "malformed_json"),
    Case(
        "a format other than JSON is unsupported_format",
        request("/", b"x", "Content-Type: application/cloudevents+avro"),
        415,
        "unsupported_format",
    ),
    Case(
        "a CloudEvent of no format is unsupported_format",
        request("/", b"{}", "Content-Type: application/cloudevents"),
        415,
        "unsupported_format",
    ),
    Case(
        "a batch in XML is unsupported_format",
        request("/", b"<a/>", "Content-Type: application/cloudevents-batch+xml"),
        415,
        "unsupported_format",
    ),
    Case(
        "a batch that is cut short is malformed_json",
        request("/", b"[{}", f"Content-Type: {BATCH}"),
        400,
        "malformed_json",
    ),
    Case(
        "a batch that is an object is malformed_event",
        request("/", envelope(), f"Content-Type: {BATCH}"),
        400,
        "malformed_event",
    ),
    Case(
        "the word batch in another Content-Type makes no batch",
        request("/", {}, "Content-Type: application/json; of=batch"),
        422,
        "malformed_feedback",
    ),
    # compression and size
    Case(
        "gzip with a damaged middle is malformed_gzip",
        bare(ZIPPED[:20] + b"\xff\xff" + ZIPPED[22:]),
        400,
        "malformed_gzip",
    ),
    Case("gzip with a wrong checksum is malformed_gzip", bare(ZIPPED[:-8] + b"\0" * 8), 400, "malformed_gzip"),
    Case("gzip that is cut short is malformed_gzip", bare(ZIPPED[:-9]), 400, "malformed_gzip"),
    Case("gzip's first two bytes alone are malformed_gzip", bare(b"\x1f\x8b"), 400, "malformed_gzip"),
    Case("text after gzip is malformed_gzip", bare(ZIPPED + b"more"), 400, "malformed_gzip"),
    Case(
        "a body that only says it is gzip is malformed_gzip",
        bare(GOOD, "Content-Encoding: gzip"),
        400,
        "malformed_gzip",
    ),
    Case("a gzip bomb is body_too_large", bare(gzip.compress(b"[" * 10**7)), 413, "body_too_large"),
    Case(
        "a bomb of many gzip members is body_too_large", bare(gzip.compress(b" " * 50_000) * 3), 413, "body_too_large"
    ),
    Case("Brotli is unsupported_encoding", bare(GOOD, "Content-Encoding: br"), 415, "unsupported_encoding"),
    Case(
        "two encodings are unsupported_encoding",
        bare(ZIPPED, "Content-Encoding: gzip, br"),
        415,
        "unsupported_encoding",
    ),
    Case("a body one byte too long is body_too_large", bare(b" " * (LIMIT + 1)), 413, "body_too_large"),
    Case("a body ten times too long is body_too_large", bare(b" " * (10 * LIMIT)), 413, "body_too_large"),
    Case("a chunked body that is too long is body_too_large", chunked(b" " * (LIMIT + 1)), 413, "body_too_large"),
    Case("an endless chunked body is body_too_large", chunked(b" " * (30 * LIMIT)), 413, "body_too_large"),
    Case(
        "a body that asks before it comes and is too long is body_too_large",
        head("POST / HTTP/1.1", "Host: test", "Expect: 100-continue", f"Content-Length: {LIMIT + 1}"),
        413,
        "body_too_large",
    ),
    # headers
    Case("17 KiB of one header is headers_too_large", bare(GOOD, "X-Pad: " + "x" * 17_000), 431, "headers_too_large"),
    Case(
        "17 KiB of many headers is headers_too_large",
        bare(GOOD, *(f"X-{n}: {'x' * 100}" for n in range(170))),
        431,
        "headers_too_large",
    ),
    Case("70 KiB of headers is headers_too_large", bare(GOOD, "X-Pad: " + "x" * 70_000), 431, "headers_too_large"),
    Case(
        "headers without an end are headers_too_large",
        b"POST / HTTP/1.1\r\nX-Pad: " + b"x" * 70_000,
        431,
        "headers_too_large",
    ),
    Case("a request line without an end is headers_too_large", b"GET /" + b"x" * 70_000, 431, "headers_too_large"),
    Case("70 KiB of headers of a GET is 431", request("/", b"", "X-Pad: " + "x" * 70_000, method="GET"), 431, None),
    Case("Ce-Id twice is duplicate_header", binary(GOOD, "Ce-Id: other"), 400, "duplicate_header"),
    Case(
        "Ce-Type twice, once in lower case, is duplicate_header",
        binary(GOOD, f"ce-type: {FEEDBACK}"),
        400,
        "duplicate_header",
    ),
    Case(
        "an extension twice is duplicate_header",
        binary(GOOD, "Ce-Endpoint: a", "Ce-Endpoint: b"),
        400,
        "duplicate_header",
    ),
    Case("Content-Type twice is duplicate_header", bare(GOOD, f"Content-Type: {STRUCTURED}"), 400, "duplicate_header"),
    Case(
        "Content-Encoding twice is duplicate_header",
        bare(ZIPPED, "Content-Encoding: gzip", "Content-Encoding: gzip"),
        400,
        "duplicate_header",
    ),
    # HTTP
    Case("two lengths are malformed_http", bare(GOOD, "Content-Length: 1"), 400, "malformed_http"),
    Case(
        "a length besides chunks is malformed_http",
        head("POST / HTTP/1.1", "Host: test", "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
        400,
        "malformed_http",
    ),
    Case(
        "a negative length is malformed_http",
        head("POST / HTTP/1.1", "Host: test", "Content-Length: -1"),
        400,
        "malformed_http",
    ),
    Case(
        "a length that is text is malformed_http",
        head("POST / HTTP/1.1", "Host: test", "Content-Length: two"),
        400,
        "malformed_http",
    ),
    Case(
        "an empty length is malformed_http",
        head("POST / HTTP/1.1", "Host: test", "Content-Length:"),
        400,
        "malformed_http",
    ),
    Case(
        "a length beyond 64 bits is malformed_http",
        head("POST / HTTP/1.1", "Host: test", f"Content-Length: {10**30}"),
        400,
        "malformed_http",
    ),
    Case(
        "a chunk of no size is malformed_http",
        head("POST / HTTP/1.1", "Host: test", "Transfer-Encoding: chunked") + b"size\r\n{}\r\n0\r\n\r\n",
        400,
        "malformed_http",
    ),
    Case("garbage is malformed_http", b"\x00\x01\x02\xff\xfe garbage\r\n\r\n", 400, "malformed_http"),
    Case("the start of TLS is malformed_http", bytes.fromhex("16030100a5010000a10303"), 400, "malformed_http"),
    Case("the preface of HTTP/2 is malformed_http", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "malformed_http"),
    Case("a verb that is none is malformed_http", head("SHOUT / HTTP/1.1", "Host: test"), 400, "malformed_http"),
    Case("a NUL in a header is malformed_http", bare(GOOD, "Ce-Id: a\0b"), 400, "malformed_http"),
    Case("a blank before the colon is malformed_http", bare(GOOD, "Ce-Id : a"), 400, "malformed_http"),
    Case("a folded header is malformed_http", bare(GOOD, "Ce-Id: a\r\n b"), 400, "malformed_http"),
    Case(
        "lines without carriage returns are malformed_http",
        b"POST / HTTP/1.1\nHost: test\nContent-Length: 2\n\n{}",
        400,
        "malformed_http",
    ),
    Case("HTTP/0.9 is 400", b"GET /\r\n\r\n", 400, None),
    *(
        Case(f"{verb} / is 405", request("/", b"", method=verb), 405, None)
        for verb in ("PUT", "DELETE", "PATCH", "TRACE")
    ),
    *(
        Case(f"{verb} /v1/metrics is 405", request("/v1/metrics", GOOD, method=verb), 405, None)
        for verb in ("POST", "PUT", "DELETE", "PATCH")
    ),
    Case("OPTIONS /v1/metrics is 405", request("/v1/metrics", b"", method="OPTIONS"), 405, None),
    Case(
        "a multipart PUT is 405",
        request("/v1/metrics", b"{}", "Content-Type: multipart/form-data", method="PUT"),
        405,
        None,
    ),
    Case("POST to an unknown path is 404", request("/nothing", GOOD), 404, None),
    Case("GET of an unknown path is 404", request("/v1/nothing", b"", method="GET"), 404, None),
    Case("GET of a path outside is 404", request("/../../etc/passwd", b"", method="GET"), 404, None),
]
TABLE.sort(key=lambda case: case.status)


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    """A server with small limits that has counted one pair and one reward."""
    with serving("--max_body_bytes", str(LIMIT)) as served:
        assert served.ask(bare({**GOOD, "reward": 1})).status == 200
        assert served.page().models
        yield served


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.sentence.replace(" ", "-"))
def test_bad_request_is_refused_with_its_reason_and_moves_no_number(server: Served, case: Case) -> None:
    """A bad request gets its status and its reason, is counted once under that reason, and moves nothing else."""
    before = server.page()
    answer = server.ask(case.data)
    after = server.page()
    assert answer.status == case.status, answer
    assert "server" not in answer.headers
    if case.reason is not None:
        assert answer.reason == case.reason, answer
        assert len(answer.body) < 2000
        assert _growth(before.rejected, after.rejected) == {case.reason: 1}
        assert _growth(before.outcomes, after.outcomes) == {"rejected": 1}
    if case.status == 405:
        assert "GET" in answer.headers["allow"]
    assert after.models == before.models
    assert after.received == sum(after.outcomes.values())


def _growth(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {key: value - before.get(key, 0.0) for key, value in after.items() if value != before.get(key, 0.0)}


def test_a_batch_of_bad_events_alone_is_refused(server: Served) -> None:
    """A batch whose every element is bad gets 400 with a reason for each, and moves no number."""
    bad = [without("id"), envelope(specversion="0.3"), 1, envelope(data={"reward": "x"})]
    before = server.page()
    answer = server.ask(request("/", bad, f"Content-Type: {BATCH}"))
    after = server.page()
    reasons = ["malformed_event", "unsupported_specversion", "malformed_event", "malformed_payload"]
    assert answer.status == 400
    assert [(error["index"], error["reason"]) for error in json.loads(answer.body)] == list(enumerate(reasons))
    assert _growth(before.rejected, after.rejected) == {
        "malformed_event": 2,
        "unsupported_specversion": 1,
        "malformed_payload": 1,
    }
    assert after.models == before.models
    assert after.received == sum(after.outcomes.values())


def test_the_good_events_of_a_bad_batch_count(server: Served) -> None:
    """A partly bad batch gets 200 with a list of what was refused; the good ones count, once however often it is
    sent."""
    batch = [envelope(id="batch-0"), without("type"), envelope(id="batch-2"), envelope(id="batch-3", data={})]
    before = server.page()
    answers = [server.ask(request("/", batch, f"Content-Type: {BATCH}")) for _ in range(2)]
    after = server.page()
    for answer in answers:
        assert answer.status == 200
        errors = [(error["index"], error["reason"]) for error in json.loads(answer.body)]
        assert errors == [(1, "malformed_event"), (3, "malformed_feedback")]
    assert _growth(before.outcomes, after.outcomes) == {"accepted": 2, "duplicate": 2, "rejected": 4}
    assert _pairs(after) - _pairs(before) == 2


def test_a_batch_of_too_many_events_is_refused_whole(server: Served) -> None:
    """More than 20,000 elements are one refusal: an answer for each would take longer than the events."""
    before = server.page()
    answer = server.ask(request("/", b"[" + b"1," * 20_000 + b"1]", f"Content-Type: {BATCH}"))
    assert (answer.status, answer.reason) == (422, "too_many_rows")
    assert server.page().models == before.models


def test_an_empty_batch_is_nothing(server: Served) -> None:
    """A batch without elements gets 200 and counts nothing."""
    before = server.page()
    answer = server.ask(request("/", [], f"Content-Type: {BATCH}"))
    assert (answer.status, answer.body) == (200, b"")
    assert server.page().outcomes == before.outcomes


def _pairs(page: Page) -> float:
    return page.by("model_labels_total", "status").get("matched", 0.0)


def test_of_duplicate_keys_the_last_wins(server: Served) -> None:
    """A JSON object with a member twice is taken with its last value."""
    before = server.page().by("model_rewards_total", "model_name")
    assert server.ask(reward(b'"bad", "reward": 1')).status == 200
    after = server.page().by("model_rewards_total", "model_name")
    assert sum(after.values()) - sum(before.values()) == 1


HOSTILE = [
    '"',
    "\\",
    "\\n",
    '\\"',
    "a\\",
    "}",
    "{",
    '"} 1\nx 2'.replace("\n", "\\n"),
    "a,b=c",
    "# HELP",
    "# EOF",
    "NaN",
    "+Inf",
    "__other__",
    "__name__",
    " ",
    " blank ",
    "",
    "日本",
    "🐈",
    "\u202egnp",
    "\u2028",
    "\u0085",
    "\u00a0",
    "\ufeff",
    "\ufffd",
    "\U0010ffff",
    "x" * 256,
]


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text; version=1.0.0"])
def test_hostile_labels_leave_the_page_readable(server: Served, accept: str) -> None:
    """Class names and labels of any characters that are accepted come back from the strict parsers as they were
    sent."""
    for number, name in enumerate(HOSTILE):
        pair = {"response": {"strData": name}, "truth": {"strData": name}}
        event = envelope(id=f"hostile-{number}", data=pair, namespace="hostile", endpoint=name, modelid=f"m{number}")
        assert server.ask(structured(event)).status == 200, name
        logged = envelope(
            id=f"logged-{number}", type=RESPONSE, data={"strData": name}, namespace="hostile", requestid=f"h{number}"
        )
        assert server.ask(structured(logged)).status == 200, name
    answer = server.ask(request("/v1/metrics", b"", f"Accept: {accept}", method="GET"))
    families = openmetrics_families if "openmetrics" in accept else prometheus_families
    samples = [sample for family in families(answer.body.decode()) for sample in family.samples]
    assert len({(sample.name, *sorted(sample.labels.items())) for sample in samples}) == len(samples)
    hostile = [sample for sample in samples if sample.labels.get("deployment_namespace") == "hostile"]
    assert {sample.labels["predictor_name"] for sample in hostile} == set(HOSTILE)
    assert {sample.labels["class"] for sample in hostile if "class" in sample.labels} >= set(HOSTILE)


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text;version=abc",
        "application/openmetrics-text;version=99",
        "application/openmetrics-text;version",
        ";;,=",
        "*/*",
    ],
)
def test_any_accept_header_gets_the_page(server: Served, accept: str) -> None:
    """A scrape is answered whatever its Accept header says."""
    assert server.ask(request("/v1/metrics", b"", f"Accept: {accept}", method="GET")).status == 200


def test_an_event_of_another_type_is_ignored(server: Served) -> None:
    """An event whose type is none of ours gets 200, whatever its data, and counts as ignored."""
    before = server.page()
    answer = server.ask(binary(b"\xff{", type="com.example.other"))
    assert (answer.status, answer.headers["content-length"], answer.body) == (200, "0", b"")
    after = server.page()
    assert _growth(before.outcomes, after.outcomes) == {"ignored": 1}
    assert after.models == before.models


def test_data_in_base64_is_read(server: Served) -> None:
    """The same feedback in data_base64 counts like one in data, so that the refusals above are not for the mode."""
    data = base64.b64encode(json.dumps(GOOD).encode()).decode()
    before = server.page()
    assert server.ask(structured({**without("data"), "id": "base64", "data_base64": data})).status == 200
    assert _pairs(server.page()) - _pairs(before) == 1


def test_a_one_hot_tensor_of_64_bit_integers_is_read(server: Served) -> None:
    """Protobuf's JSON writes 64-bit integers as text; such a row of a tftensor is a row of numbers."""
    dim = {"dim": [{"size": "1"}, {"size": "3"}]}
    one_hot = {"data": {"tftensor": {"dtype": "DT_INT64", "tensorShape": dim, "int64Val": ["0", "0", "1"]}}}
    response = {"data": {"tensor": {"shape": [1, 3], "values": [0.1, 0.2, 0.7]}}}
    assert server.ask(binary({"response": response, "truth": one_hot}, id="int64", modelid="int64")).status == 200


def test_a_wrong_answer_hangs_no_connection(server: Served) -> None:
    """After a refusal the connection takes the next request."""
    with Client(server.port) as client:
        for body, status in ((b"{", 400), (json.dumps(GOOD).encode(), 200), (b"{}", 422)):
            client.send(request("/", body, close=False))
            assert client.answer().status == status


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that asks for the token `right`."""
    path: Path = tmp_path_factory.mktemp("token") / "token"
    path.write_text("right\n")
    with serving("--token_file", str(path)) as served:
        yield served


@pytest.mark.parametrize(
    "header",
    [
        "X-Nothing: 1",
        "Authorization: Bearer wrong",
        "Authorization: Bearer",
        "Authorization: Basic right",
        "Authorization: Bearer righ",
        "Authorization: Bearer right, right",
        "Authorization: Bearer \xff",
        "Authorization:",
        "Access-Token: right",
    ],
)
def test_without_the_token_nothing_counts(guarded: Served, header: str) -> None:
    """A missing or wrong token gets 401 with WWW-Authenticate, is counted, and moves no number."""
    before = guarded.page()
    answer = guarded.ask(bare(GOOD, header))
    after = guarded.page()
    assert (answer.status, answer.reason) == (401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith('Bearer realm="')
    assert _growth(before.rejected, after.rejected) == {"unauthorized": 1}
    assert after.models == before.models
    assert after.received == sum(after.outcomes.values())


@pytest.mark.parametrize(
    ("target", "header"),
    [
        ("/", "Authorization: Bearer right"),
        ("/", "authorization: bearer right"),
        ("/?access_token=right", "X-Nothing: 1"),
    ],
)
def test_with_the_token_events_count(guarded: Served, target: str, header: str) -> None:
    """The token as bearer token or in the query opens the door."""
    before = guarded.page()
    assert guarded.ask(request(target, GOOD, header)).status == 200
    assert _pairs(guarded.page()) - _pairs(before) == 1
