"""Batches: the one pass over a whole batch says exactly what decoding element by element says."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_server.errors import Reason, Rejected
from metrics_server.ingest import cloudevent as decoding
from metrics_server.ingest.cloudevent import BATCH, Event, decode

ORDINARY: dict[str, Any] = {
    "specversion": "1.0",
    "id": "1",
    "source": "/s",
    "type": "io.seldon.serving.feedback",
    "data": {"truth": {"data": {"ndarray": [1]}}},
}

texts = st.one_of(st.sampled_from(["", "1.0", "a", "x" * 1025, "a\x00b", "é", "\x85"]), st.text(max_size=3))
values = st.one_of(
    texts, texts, texts, st.none(), st.booleans(), st.integers(-3, 3), st.floats(allow_nan=False, allow_infinity=False)
)
NAMES = [
    "specversion",
    "id",
    "source",
    "type",
    "time",
    "requestid",
    "namespace",
    "inferenceservicename",
    "endpoint",
    "modelid",
    "component",
    "protocol",
    "subject",
    "traceparent",
    "datacontenttype",
    "dataschema",
    "tenant",
    "kafkaheadertype",
]
elements = st.one_of(
    st.builds(
        lambda changed, without, extra: {
            name: value for name, value in {**ORDINARY, **changed, **extra}.items() if name not in without
        },
        st.dictionaries(st.sampled_from(NAMES), values, max_size=3),
        st.sets(st.sampled_from([*ORDINARY]), max_size=1),
        st.one_of(
            st.just({}),
            st.just({"time": "2026-03-02T09:15:04.12Z"}),
            st.just({"type": "dev.knative.kafka.event", "kafkaheadertype": "io.seldon.serving.feedback"}),
            st.fixed_dictionaries({"data": st.one_of(values, st.just([1]), st.just({}))}),
            st.just({"datacontenttype": "application/json"}),
            st.just({"data_base64": base64.b64encode(b"{}").decode()}),
        ),
    ),
    values,
)


def _said(one: Event | Rejected) -> object:
    return (one.reason, one.detail) if isinstance(one, Rejected) else msgspec.structs.replace(one, data=bytes(one.data))


def _one_by_one(body: bytes) -> list[Event | Rejected]:
    return [decoding._element(raw) for raw in msgspec.json.decode(body, type=list[msgspec.Raw])]


@settings(max_examples=600, deadline=None)
@given(st.lists(elements, max_size=4))
def test_one_pass_says_what_decoding_one_by_one_says(batch: list[Any]) -> None:
    """Events and refusals are the same, down to the last attribute and word, whichever way a batch was decoded."""
    body = msgspec.json.encode(batch)
    assert list(map(_said, decode(BATCH, {}, body))) == list(map(_said, _one_by_one(body)))


def test_an_ordinary_batch_goes_the_short_way() -> None:
    """What the loggers send needs no second look: the short way is not an ornament."""
    ordinary = {
        **ORDINARY,
        "time": "2026-03-02T09:15:04Z",
        "requestid": "r",
        "datacontenttype": "application/json",
        "traceparent": "00-a",
    }
    assert decoding._ENVELOPES.decode(msgspec.json.encode([ordinary]))[0].requestid == "r"


@pytest.mark.parametrize("body", [b"", b"{}", b"[", b"[1,", b'["\xff"]', b"[" * 5000, b'[{"id":1e400}]'])
def test_what_is_no_batch_is_refused_whole(body: bytes) -> None:
    """A body that is no array of JSON is one refusal, not a crash; an element that is no event is its own."""
    try:
        refused = decode(BATCH, {}, body)
    except Rejected as error:
        assert error.reason in (Reason.MALFORMED_JSON, Reason.MALFORMED_EVENT, Reason.INVALID_UTF8, Reason.TOO_DEEP)
    else:
        assert all(isinstance(one, Rejected) for one in refused)


def test_refusals_keep_nothing_alive() -> None:
    """A refused element is its reason and words: with the frames it came through, a batch of them would hold a
    gigabyte."""
    refused = decode(BATCH, {}, msgspec.json.encode([{**ORDINARY, "source": ""}, 1, {**ORDINARY, "time": "yesterday"}]))
    assert [one.reason for one in refused if isinstance(one, Rejected)] == [
        Reason.MALFORMED_EVENT,
        Reason.MALFORMED_EVENT,
        Reason.BAD_TIME,
    ]
    for one in refused:
        assert isinstance(one, Rejected)
        assert (one.__traceback__, one.__context__, one.__cause__) == (None, None, None)
