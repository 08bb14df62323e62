"""The connection beside h11: of any bytes, both read the same requests, or both refuse them at the same place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings

from tests.support.http_parsing import OwnReader, Reading, read_by_h11
from tests.support.http_streams import cuts, packets, streams
from tests.support.strategies import fuzzed


class Difference(NamedTuple):
    """A difference that does no harm: who refuses first or ends the connection, what the request looks like about which
    they differ, and why it may be so."""

    stricter: str
    pattern: re.Pattern[bytes]
    reason: str


KNOWN = (
    [
        Difference("ours", re.compile(pattern, re.DOTALL), reason)
        for pattern, reason in (
            (rb"^(?!(?:GET|POST|PUT|DELETE|HEAD|OPTIONS|PATCH|M-SEARCH) )", "no route has another method, or tunnels"),
            (rb"^\S+ (?!/|\* |(?i:https?)://)", "RFC 9112 3.2: a target is none of its forms"),
            (rb"^[^\r\n]* HTTP/(?!1\.[01]\r)", "RFC 9110 15.6.6: a version that is not offered may be refused"),
            (
                (
                    rb"(?i)\nHost:(?![ \t]*(?:\[(?:[\w.~!$&'()*+,;=:-]|%25)+\]|"
                    rb"(?:[\w.~!$&'()*+,;=-]|%[0-9a-f]{2})*)(?::\d*)?[ \t]*\r)"
                ),
                "RFC 9112 3.2: an invalid Host is to be refused",
            ),
            (rb"(?<!\r)\n", "RFC 9112 2.2: a bare LF may be taken for the end of a line, or refused"),
            (
                rb"(?i)\nContent-Length:(?:[^\r\n]*,|.*\nContent-Length:)",
                "RFC 9110 8.6: equal lengths may be refused too",
            ),
            (rb"(?i)\nContent-Length:.*\nTransfer-Encoding:", "RFC 9112 6.3: both may be refused, the safer way"),
            (rb"(?i)\nTransfer-Encoding:.*\nContent-Length:", "the same"),
            (rb"(?i)^[^\r\n]* HTTP/(?!1\.1).*\nTransfer-Encoding:", "RFC 9112 6.1: in HTTP/1.0 this is faulty framing"),
            (rb"\r\n[ \t]", "RFC 9112 5.2: a folded line is to be refused, or its fold replaced"),
            (
                rb"\n[0-9a-fA-F]+[ \t]*;[^\n]*[\x00-\x08\x0a-\x1f\x7f][^\n]*\r\n",
                "RFC 9112 7.1.1: no token has a control",
            ),
            (rb"\n[0-9a-fA-F]+(?:[ \t]|;\r)", "RFC 9112 7.1: no space behind the size, no ; without a name"),
            (rb"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]", "RFC 9110 5.5: a control makes the value of a field invalid"),
        )
    ]
    + [
        Difference("h11", re.compile(pattern, re.DOTALL), reason)
        for pattern, reason in (
            (rb"^[\r\n]", "RFC 9112 2.2: an empty line before a request should be ignored"),
            (rb"^\S+ (?: |\S+  +HTTP)", "RFC 9112 3: the request line may be parsed at any whitespace"),
            (rb"^[^\r\n]* RTSP/1\.0\r\n", "the parser reads RTSP by the same rules, and does not tell"),
        )
    ]
    + [
        Difference(
            "h11 ends",
            re.compile(rb"^[^\n]* (?:HTTP|RTSP)/1\.0\r\n.*(?i:keep-alive)", re.DOTALL),
            "RFC 9112 9.3: a connection of HTTP/1.0 may be kept, and h11 never does",
        )
    ]
)


def _place(ours: Reading, theirs: Reading) -> int:
    """The number of requests that both have read."""
    for place, (mine, other) in enumerate(zip(ours.requests, theirs.requests, strict=False)):
        if mine != other:
            return place
    return min(len(ours.requests), len(theirs.requests))


def _stricter(ours: Reading, theirs: Reading, place: int) -> str:
    """Who stops first; "" when neither does, and one of them has misread a request."""
    if len(ours.requests) > place and len(theirs.requests) > place:
        return ""
    if len(ours.requests) == len(theirs.requests):
        return "ours" if ours.is_refused else "h11"
    if len(ours.requests) == place:
        return "ours" if ours.is_refused else "ours ends"
    return "h11" if theirs.is_refused else "h11 ends"


def _differing(stricter: str, place: int, rests: list[bytes]) -> bytes:
    """The request about which they differ, and if h11 does not know where it ends, what follows."""
    start = rests[place - 1 if stricter.endswith("ends") else place]
    following = len(rests[place + 1]) if stricter == "ours" and len(rests) > place + 1 else 0
    return start[: len(start) - following]


def _is_known(stricter: str, differing: bytes) -> bool:
    return any(known.stricter == stricter and known.pattern.search(differing) for known in KNOWN)


@pytest.fixture(scope="module")
def reader() -> Iterator[OwnReader]:
    made = OwnReader()
    yield made
    made.close()


def _check(reader: OwnReader, stream: bytes, at: list[int]) -> None:
    ours, (theirs, rests) = reader.read(packets(stream, at)), read_by_h11(stream)
    if ours == theirs:
        return
    place = _place(ours, theirs)
    stricter = _stricter(ours, theirs, place)
    differing = _differing(stricter, place, rests)
    assert _is_known(stricter, differing), f"{stricter or 'neither'} is stricter about {differing!r}: {ours}, {theirs}"


@pytest.mark.parametrize("examples", [500, pytest.param(5_000, marks=pytest.mark.long)])
def test_any_bytes_are_the_same_requests_to_h11(reader: OwnReader, examples: int) -> None:
    """The same methods, targets and bodies come out, however the bytes are cut into packets, or both refuse; where
    they differ, the table says why that may be."""

    @settings(fuzzed, max_examples=examples)
    @given(streams, cuts)
    @example(b"GET http://test?q=1 HTTP/1.1\r\nHost: test\r\n\r\n", [])
    @example(b"GET HTTP://test/x HTTP/1.1\r\nHost: test\r\n\r\n", [])
    @example(b"GET / HTTP/1.1\r\nHost: test \t\r\n\r\nGET / HTTP/1.1\r\nHost: test\r\n\r\n", [])
    @example(b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", [])
    @example(b"POST / HTTP/1.0\r\nHost: a\r\nUpgrade: h2c\r\nConnection: upgrade, keep-alive\r\n\r\n", [3])
    def holds(stream: bytes, at: list[int]) -> None:
        _check(reader, stream, at)

    holds()
