"""Requests of which two servers could believe different ends: each is refused, and what hides behind it is never
read as a request of its own (RFC 9112 11.2)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.raw_http import NONE, Client, Served, request, serving

HIDDEN = request("/", {"reward": 1}, close=False)


def _ambiguous(*headers: str, body: bytes = b"", version: str = "1.1", end: str = "\r\n") -> bytes:
    """A POST with these headers; its lines end as told."""
    lines = ["POST / HTTP/" + version, "Host: test", *headers, "", ""]
    return end.join(lines).encode("latin-1") + body


CHUNKED = "Transfer-Encoding: chunked"
EMPTY = b"0\r\n\r\n"
AMBIGUOUS = {
    "a length and chunks": _ambiguous("Content-Length: 5", CHUNKED, body=EMPTY),
    "chunks and a length": _ambiguous(CHUNKED, "Content-Length: 5", body=EMPTY),
    "a length and chunks before an upgrade": _ambiguous(
        "Connection: upgrade", "Upgrade: h2c", "Content-Length: 5", CHUNKED, body=EMPTY
    ),
    "two lengths": _ambiguous("Content-Length: 0", "Content-Length: 5"),
    "a list of lengths": _ambiguous("Content-Length: 0, 5"),
    "a length with a sign": _ambiguous("Content-Length: +0"),
    "a length in hexadecimal": _ambiguous("Content-Length: 0x0"),
    "a length beyond 64 bits": _ambiguous("Content-Length: 18446744073709551616"),
    "chunks in HTTP/1.0": _ambiguous(CHUNKED, "Connection: keep-alive", body=EMPTY, version="1.0"),
    "chunks in HTTP/1.0 before an upgrade": _ambiguous(
        CHUNKED, "Connection: upgrade, keep-alive", "Upgrade: h2c", body=EMPTY, version="1.0"
    ),
    "two codings": _ambiguous("Transfer-Encoding: gzip, chunked", body=EMPTY),
    "two lines of codings": _ambiguous("Transfer-Encoding: gzip", CHUNKED, body=EMPTY),
    "chunked twice": _ambiguous(CHUNKED, CHUNKED, body=EMPTY),
    "a coding that is not chunked": _ambiguous("Transfer-Encoding: xchunked", body=EMPTY),
    "chunked behind a control": _ambiguous("Transfer-Encoding: \x0bchunked", body=EMPTY),
    "chunked before another coding": _ambiguous("Transfer-Encoding: chunked, identity", body=EMPTY),
    "a size in hexadecimal with 0x": _ambiguous(CHUNKED, body=b"0x0\r\n\r\n"),
    "a size with a sign": _ambiguous(CHUNKED, body=b"+0\r\n\r\n"),
    "a size beyond 64 bits": _ambiguous(CHUNKED, body=b"10000000000000000\r\n\r\n"),
    "no size": _ambiguous(CHUNKED, body=b"\r\n\r\n"),
    "a space behind the size": _ambiguous(CHUNKED, body=b"0 \r\n\r\n"),
    "a line feed in an extension": _ambiguous(CHUNKED, body=b"0;a\n\r\n\r\n"),
    "a carriage return in an extension": _ambiguous(CHUNKED, body=b"0;a\rb\r\n\r\n"),
    "a chunk longer than its size": _ambiguous(CHUNKED, body=b"1\r\nab\r\n" + EMPTY),
    "a chunk that ends in a line feed": _ambiguous(CHUNKED, body=b"1\r\na\n" + EMPTY),
    "a size that ends in a line feed": _ambiguous(CHUNKED, body=b"0\n\r\n"),
    "lines that end in a line feed": _ambiguous("Content-Length: 0", end="\n"),
    "lines that end in a carriage return": _ambiguous("Content-Length: 0", end="\r"),
    "a space before the colon": _ambiguous("Content-Length : 0"),
    "a tab before the colon of the coding": _ambiguous("Transfer-Encoding\t: chunked", body=EMPTY),
    "a space before the name": _ambiguous(" Content-Length: 0"),
    "a folded line": _ambiguous("X-A: a", "\tContent-Length: 5", "Content-Length: 0"),
    "a folded coding": _ambiguous("Transfer-Encoding:", " chunked", body=EMPTY),
    "a NUL in a value": _ambiguous("X-A: a\x00b", "Content-Length: 0"),
    "a carriage return in a value": _ambiguous("X-A: a\rContent-Length: 5", "Content-Length: 0"),
    "a line without a colon": _ambiguous("Content-Length", "Content-Length: 0"),
    "another version": _ambiguous("Content-Length: 0", version="2.0"),
    "a version before headers": _ambiguous("Content-Length: 0", version="0.9"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.mark.parametrize("data", AMBIGUOUS.values(), ids=list(AMBIGUOUS))
def test_what_could_end_in_two_places_is_refused(server: Served, data: bytes) -> None:
    """It is answered 400, the connection ends, and the event behind it is not taken."""
    before = server.page()
    with Client(server.port) as client:
        client.send(data + HIDDEN)
        answer = client.answer()
        assert (answer.status, answer.reason) == (400, "malformed_http")
        assert client.answer() == NONE
    after = server.page()
    assert after.outcomes.get("accepted") == before.outcomes.get("accepted")
    assert after.rejected.get("malformed_http", 0.0) == before.rejected.get("malformed_http", 0.0) + 1


def test_trailers_are_no_headers(server: Served) -> None:
    """What stands behind a chunked body is taken neither for the id of the request nor for its host (RFC 9110 6.5.1),
    and the connection goes on."""
    feedback = request("/api/v1.0/feedback", b"", CHUNKED, length=False, close=False) + b'c\r\n{"reward":1}\r\n0\r\n'
    with Client(server.port) as client:
        for _ in range(2):
            client.send(feedback + b"Host: other\r\nSeldon-Puid: not-a-header\r\n\r\n")
            answer = client.answer()
            assert answer.status == 200
            assert "not-a-header" not in str(answer)
