"""The trace of an event: by the rules of W3C Trace Context, from the event before its request."""

from __future__ import annotations

import pytest

from metrics_server.ingest.trace import trace_id_of

TRACE, OTHER = "0af7651916cd43dd8448eb211c80319c", "4b1c9d0e7a6f4c0f9d2b3a5e6f708192"
PARENT = "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("traceparent", "trace_id"),
    [
        (f"00-{TRACE}-{PARENT}-01", TRACE),
        (f"00-{TRACE}-{PARENT}-00", TRACE),
        (f"01-{TRACE}-{PARENT}-01-what-will-be", TRACE),
        (f"cc-{TRACE}-{PARENT}-01", TRACE),
        (f"00-{TRACE}-{PARENT}-01-more", ""),
        (f"ff-{TRACE}-{PARENT}-01", ""),
        (f"00-{'0' * 32}-{PARENT}-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (f"00-{TRACE.upper()}-{PARENT}-01", ""),
        (f"01-{TRACE}-{PARENT}-01more", ""),
        (f"00-{TRACE}-{PARENT}", ""),
        (f" 00-{TRACE}-{PARENT}-01", ""),
        (f"00-{TRACE}-{PARENT}-01\n", ""),
        ("", ""),
        ("x" * 10_000, ""),
    ],
)
def test_a_trace_is_read_by_its_rules(traceparent: str, trace_id: str) -> None:
    """Versions to come are read as far as they are known, and what is no traceparent names no trace, whether in the
    event or in a header."""
    assert trace_id_of({"traceparent": traceparent}, []) == trace_id
    assert trace_id_of({}, [(b"Host", b"a"), (b"Traceparent", traceparent.encode())]) == trace_id


def test_the_event_counts_for_more_than_its_request() -> None:
    """A broker's own trace does not hide that of the event, unless the attribute is none."""
    of_request = [(b"traceparent", f"00-{OTHER}-{PARENT}-01".encode())]
    assert trace_id_of({"traceparent": f"00-{TRACE}-{PARENT}-01"}, of_request) == TRACE
    assert trace_id_of({"traceparent": "none"}, of_request) == OTHER
    assert trace_id_of({}, []) == ""
