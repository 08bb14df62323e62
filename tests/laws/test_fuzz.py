"""Fuzz: whatever arrives becomes an observation or an error of ours, and whatever is taken leaves a readable page."""

from __future__ import annotations

import gzip
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from metrics_server.ingest.cloudevent import KINDS
from tests.support.strategies import (
    BATCH,
    STRUCTURED,
    VALID,
    content_types,
    edited,
    edits,
    encodings,
    envelopes,
    fuzzed,
    headers,
    pairs,
    payloads,
    values,
    written,
)
from tests.support.taken_events import check, taken


@fuzzed
@given(
    content_types,
    encodings,
    headers,
    st.binary(max_size=200) | st.binary(max_size=50).map(lambda tail: b"\x1f\x8b\x08\x00" + tail),
)
def test_any_bytes(content_type: str, encoding: str, sent: dict[str, str], body: bytes) -> None:
    """Any bytes under any headers are taken or refused."""
    check(content_type, encoding, sent, body)


@fuzzed
@given(content_types, encodings, headers, st.sampled_from(VALID), edits, st.booleans())
def test_damaged_bodies(
    content_type: str,
    encoding: str,
    sent: dict[str, str],
    body: bytes,
    changes: list[tuple[int, int, bytes]],
    zipped: bool,
) -> None:
    """A good body with a few bytes changed, before or after compression, is taken or refused."""
    check(
        content_type,
        encoding,
        sent,
        edited(gzip.compress(body, mtime=0), changes[:1]) if zipped else edited(body, changes),
    )


@pytest.mark.parametrize("examples", [100, pytest.param(400, marks=pytest.mark.long)])
def test_any_json_as_feedback(examples: int) -> None:
    """Any JSON in the form of a feedback, or nearly, is taken or refused, and the page stays readable."""

    @settings(fuzzed, max_examples=examples)
    @given(payloads)
    @example({"reward": 10**400})
    @example({"truth": {"data": {"tensor": {"shape": [2, 0], "values": []}}}, "reward": 1})
    def holds(payload: Any) -> None:
        check("application/json", "", {}, written(payload))

    holds()


@pytest.mark.parametrize("examples", [60, pytest.param(200, marks=pytest.mark.long)])
def test_any_json_in_a_binary_event(examples: int) -> None:
    """Any JSON under any attributes is taken or refused, and the page stays readable."""

    @settings(fuzzed, max_examples=examples)
    @given(headers, payloads)
    def holds(sent: dict[str, str], payload: Any) -> None:
        check("application/json", "", sent, written(payload))

    holds()


@pytest.mark.parametrize("examples", [60, pytest.param(200, marks=pytest.mark.long)])
def test_any_json_in_a_batch(examples: int) -> None:
    """Any JSON in the place of events is taken or refused element by element, and the page stays readable."""

    @settings(fuzzed, max_examples=examples)
    @given(st.lists(envelopes | values, max_size=4))
    def holds(batch: list[Any]) -> None:
        check(BATCH, "", {}, written(batch))
        for element in batch[:1]:
            check(STRUCTURED, "", {}, written(element))

    holds()


@pytest.mark.parametrize("examples", [30, pytest.param(100, marks=pytest.mark.long)])
def test_what_is_accepted_leaves_a_readable_page(examples: int) -> None:
    """Good feedback, logged responses and corrections of any usual kind leave a page without doubles or NaN."""

    @settings(fuzzed, max_examples=examples)
    @given(pairs, st.sampled_from([*KINDS]), st.lists(st.sampled_from(["r", "q"]), min_size=1, max_size=4))
    def holds(pair: dict[str, Any], kind: str, requests: list[str]) -> None:
        check(BATCH, "", {}, written(_batch_about(pair, kind, requests)))

    holds()


def _batch_about(pair: dict[str, Any], kind: str, requests: list[str]) -> list[dict[str, Any]]:
    """Feedback and a logged response of each request, all of one pair."""
    batch: list[dict[str, Any]] = []
    for number, request_id in enumerate(requests):
        event = {"specversion": "1.0", "source": "s", "requestid": request_id}
        batch.append({**event, "id": f"f{number}", "type": "io.seldon.serving.feedback", "data": pair})
        batch.append({**event, "id": f"l{number}", "type": kind, "data": pair["response"]})
    return batch


def test_an_absurd_shape_is_refused_at_once() -> None:
    """A shape of very many very large dimensions does not hold up the event loop while they are multiplied."""
    tensor = {"shape": [10**18] * 30_000, "values": [1]}
    started = time.process_time()
    assert not taken("application/json", "", {}, written({"reward": 1, "truth": {"data": {"tensor": tensor}}}))
    assert time.process_time() - started < 0.5
