"""What Hypothesis sends: messages, CloudEvents and their parts, ordinary ones beside those that have hurt a JSON
reader before.
"""

from __future__ import annotations

import base64
import json
import math
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from metrics_server.ingest.cloudevent import KINDS

STRUCTURED, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"

fuzzed = settings(
    max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


# Values that have hurt a JSON reader before, beside ordinary ones.
texts = st.text(max_size=12) | st.sampled_from(
    [
        "NaN",
        "Infinity",
        "1e400",
        "__other__",
        '"',
        "\\",
        "a\nb",
        "\ud83d",
        "x" * 300,
        "2.0",
        "-0",
        "1_0",
        "true",
        "\u2028",
        "}",
    ]
)
numbers = (
    st.integers(-3, 12)
    | st.sampled_from([10**12, 10**12 + 1, -(10**13), 2**63, 2**64, 10**30, 10**400, -0.0, 0.5, 1e-320, 1e308])
    | st.floats()
)
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(texts | st.sampled_from(["data", "truth", "ndarray"]), inner, max_size=3)
    ),
    max_leaves=10,
)
rows = st.lists(scalars | st.lists(scalars, max_size=4), max_size=4)
labels = st.lists(st.sampled_from(["cat", "dog", "__other__", "é", "1", '"\\}']), min_size=1, max_size=3)
classes = st.lists(st.integers(0, 3), min_size=1, max_size=3)
scores = st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=3)
usual = (
    labels
    | classes
    | scores
    | st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=3)
    | st.lists(st.booleans(), min_size=1, max_size=3)
)
sizes = st.integers(-1, 4) | st.sampled_from(["1", "0", "x", 10**18, None])


def latin(text: str) -> str:
    """Text as it looks when it was sent as UTF-8 in a header."""
    return text.encode("utf-8", "replace").decode("latin-1")


def loose(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object with any of these members, each of its own kind or, now and then, of any."""
    return st.fixed_dictionaries(
        {}, optional={name: member | member | member | values for name, member in members.items()}
    )


tensors = loose(shape=st.lists(st.integers(-1, 4), max_size=3), values=st.lists(numbers | texts, max_size=6))
tftensors = loose(
    dtype=st.sampled_from(["DT_FLOAT", "DT_INT64", "DT_STRING", "DT_BOOL", 1, 2, 7]),
    tensorShape=loose(dim=st.lists(loose(size=sizes), max_size=3)),
    tensor_shape=loose(dim=st.lists(loose(size=sizes), max_size=3)),
    tensorContent=st.binary(max_size=24).map(lambda data: base64.b64encode(data).decode()),
    floatVal=st.lists(numbers, max_size=4),
    int64Val=st.lists(st.integers(-3, 3).map(str), max_size=4),
    stringVal=st.lists(texts.map(lambda text: base64.b64encode(text.encode("utf-8", "replace")).decode()), max_size=4),
    boolVal=st.lists(st.booleans(), max_size=4),
)
messages = loose(data=loose(ndarray=usual)) | loose(
    data=loose(ndarray=rows, tensor=tensors, tftensor=tftensors),
    jsonData=values,
    strData=texts,
    binData=texts,
    meta=loose(puid=texts),
)
shapes = st.lists(st.integers(0, 3), max_size=3)
true_tensors = shapes.flatmap(
    lambda shape: st.fixed_dictionaries(
        {
            "shape": st.just(shape),
            "values": st.lists(numbers | st.integers(0, 1), min_size=math.prod(shape), max_size=math.prod(shape)),
        }
    )
)
held = st.fixed_dictionaries(
    {
        "data": st.one_of(
            *(
                st.fixed_dictionaries({name: kind})
                for name, kind in
                # fmt: skip
                [
                    ("ndarray", rows),
                    ("ndarray", usual),
                    ("tensor", true_tensors),
                    ("tensor", tensors),
                    ("tftensor", tftensors),
                ]
            )
        )
    }
)
spoken = st.fixed_dictionaries({"truth": held, "response": held}) | st.fixed_dictionaries(
    {"reward": numbers | texts}, optional={"response": held}
)
feedbacks = spoken | loose(truth=messages, response=messages, reward=numbers, request=loose(meta=loose(puid=texts)))
pairs = usual.flatmap(
    lambda first: st.fixed_dictionaries({"truth": st.just(first), "response": st.just(first) | usual})
).map(lambda pair: {name: {"data": {"ndarray": content}} for name, content in pair.items()})
payloads = feedbacks | feedbacks | pairs | messages | values

types = st.sampled_from([*KINDS, "dev.knative.kafka.event", "com.example.other", ""])
times = (
    st.sampled_from(
        [
            "2026-12-31T23:59:60Z",
            "2026-01-01T00:00:00.123456789+01:00",
            "0001-01-01T00:00:00+23:59",
            "9999-12-31T23:59:59-23:59",
        ]
    )
    | texts
)
attributes = {
    "specversion": st.just("1.0"),
    "id": st.sampled_from(["1", "2"]) | texts,
    "source": st.just("/s") | texts,
    "type": types,
}
extensions = {
    "time": times,
    "requestid": st.sampled_from(["r", "é"]) | texts,
    "endpoint": texts,
    "modelid": texts,
    "namespace": texts,
    "kafkaheadertype": types,
    "kafkaheaderrequestid": texts,
    "datacontenttype": st.sampled_from(["application/json", "text/plain", "application/x+json"]) | texts,
}
envelopes = st.fixed_dictionaries(
    attributes, optional={**extensions, "data": payloads, "data_base64": texts, "extra": values}
)
header_values = texts.map(latin) | st.sampled_from(["%FF", "%41%zz", '"a\\"b"', '"', "%00", "%0A"])
named = st.fixed_dictionaries(
    attributes, optional={name: kind for name, kind in extensions.items() if name != "datacontenttype"}
)
headers = named.map(lambda sent: {name: latin(value) for name, value in sent.items()}) | st.dictionaries(
    st.sampled_from([*attributes, *extensions]), header_values, max_size=5
)
encodings = st.sampled_from(["", "", "gzip", "identity", "br"])
content_types = st.sampled_from(
    ["application/json", STRUCTURED, BATCH, "APPLICATION/CloudEvents+JSON; charset=utf-8", "", "x"]
) | st.text(max_size=10)


def written(value: Any) -> bytes:
    return json.dumps(value).encode()


VALID = [
    written({"response": {"data": {"ndarray": ["cat"]}}, "truth": {"data": {"ndarray": ["dog"]}}, "reward": 1}),
    written(
        {
            "response": {"data": {"tensor": {"shape": [2, 2], "values": [0.1, 0.9, 0.7, 0.3]}}},
            "truth": {"data": {"ndarray": [1, 0]}},
        }
    ),
    written({"response": {"jsonData": {"price": 12.5}}, "truth": {"jsonData": 11}, "request": {"meta": {"puid": "p"}}}),
    written(
        {"specversion": "1.0", "id": "1", "source": "s", "type": "io.seldon.serving.feedback", "data": {"reward": 0.5}}
    ),
    written(
        [
            {
                "specversion": "1.0",
                "id": "1",
                "source": "s",
                "type": "io.seldon.serving.feedback",
                "data_base64": "eyJyZXdhcmQiOjF9",
            }
        ]
    ),
]
edits = st.lists(
    st.tuples(
        st.integers(0, 400),
        st.integers(0, 8),
        st.binary(max_size=4) | st.sampled_from([b'"', b"[", b"]", b"{", b"9" * 20, b"-", b"e99", b"null"]),
    ),
    max_size=3,
)


def edited(body: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for at, length, inserted in changes:
        start = at % (len(body) + 1)
        body = body[:start] + inserted + body[start + length :]
    return body
