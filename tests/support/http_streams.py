"""Byte streams of HTTP/1.1 for Hypothesis: valid requests one behind the other, nearly valid ones, and broken ones."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.support.strategies import edited

Header = tuple[bytes, bytes, bytes]  # name, what stands between, value

_contents = st.sampled_from([b"", b"a", b"0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: t\r\n\r\n"]) | st.binary(max_size=20)

# Each part of a request as it is usual, and as it is odd: valid but rare, or wrong.
_USUAL = {
    "before": [b""],
    "method": [b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH"],
    "target": [b"/", b"/v1/metrics", b"/a?b=c&d", b"/%2e%2e/x", b"*", b"http://test/x?y", b"http://test"],
    "version": [b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"],
    "hosts": [[b"test"], [b"[::1]:80"], [b""]],
    "line end": [b"\r\n"],
    "colon": [b": ", b":", b":\t", b": \t "],
    "name": [b"Accept", b"ce-id", b"X-A", b"Connection", b"Expect", b"Upgrade", b"Keep-Alive", b"Trailer", b"TE"],
    "value": [b"1", b"a, b", b"close", b"keep-alive", b"upgrade", b"Upgrade, HTTP2-Settings", b"100-continue", b"h2c"],
    "framing": ["none", "length", "chunked"],
    "length": [b"%d", b"0%d"],
    "coding": [b"chunked", b"Chunked", b"CHUNKED"],
    "size": [b"%x", b"0%x", b"%x;a=b", b'%x;a="b"'],
    "chunk end": [b"\r\n"],
    "trailers": [b"\r\n", b"X-T: a\r\n\r\n", b"Content-Length: 5\r\n\r\n", b"Host: other\r\n\r\n"],
}
_ODD = {
    "before": [b"\r\n", b"\n", b" ", b"\x00", b"\r\n\r\n"],
    "method": [b"CONNECT", b"PRI", b"get", b"BREW", b"G ET", b"", b"GET\x00", b"M-SEARCH", b"GE:T", b"SOURCE"],
    "target": [b"HTTP://test/x", b"http://test?q=1", b"https://u:p@[::1]:8/x", b"test:80", b"x", b"", b"/a b", b"/\x7f"]
    + [b"/\xc3\xa9", b"/#f", b"//a", b"/\x00", b"/\t", b"http://", b"http:///x", b"/\rx"],
    "version": [
        b"HTTP/1.2",
        b"HTTP/2.0",
        b"HTTP/0.9",
        b"http/1.1",
        b"HTTP/1.1 ",
        b"HTTP/11",
        b"HTTP/1",
        b"",
        b"RTSP/1.0",
    ],
    "hosts": [[], [b"a", b"a"], [b"a", b"b"], [b"a b"], [b"a/b"], [b"\xe9"], [b"a,b"], [b"a\x00"], [b"a:x"]],
    "line end": [b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"\r\n\r\n", b" \r\n", b"\x00\r\n"],
    "colon": [b" : ", b"\t:", b"", b"::", b":\x00", b"\r\n: ", b":\r\n ", b":\n", b":\x0b"],
    "name": [b"X A", b" X", b"\tX", b"", b"X\x00", b"X\xe9", b"X(", b"_", b"Content-Length\x0b", b"content_length"],
    "value": [b"", b"\xe9", b"a\x00b", b"a\x01b", b"a\x7fb", b"a\rb", b"a\nb", b"a\r\n b", b"a\n\n", b"close, upgrade"]
    + [b"a\r\n\tContent-Length: 3", b"a\rTransfer-Encoding: chunked", b" padded \t", b"websocket, h2c"],
    "framing": ["both", "twice"],
    "length": [b"+%d", b"-%d", b"0x%d", b"%d %d", b"%d, %d", b"%d,1", b"", b" ", b"%d_0", b"%d.0", b"\xb2"]
    + [b"9" * 30, b"%d;a", b"%de0", b"%d\x00", b"%d\x0b", b"18446744073709551616"],
    "coding": [b"gzip, chunked", b"chunked, gzip", b"chunked, chunked", b"identity", b"xchunked", b"chunked;q=1"]
    + [b'"chunked"', b"\x0bchunked", b"chunked,", b", chunked", b"", b"chunked\x00", b"gzip", b"chunked\r\n\t, a"],
    "size": [b"0x%x", b"+%x", b"-%x", b" %x", b"%x ", b"%x\t", b"%x;", b"%x;a", b"%x;a\x00", b"%x;\n", b"%xg", b"%x ;a"]
    + [b"%x;a\r", b"", b"%x\x00", b"1" * 16 + b"%x", b"1" * 17 + b"%x", b'%x;a="\n"', b"%x;\r\n"],
    "chunk end": [b"\n", b"\r", b"", b"x\r\n", b"\r\n\r\n", b"\r\r\n"],
    "trailers": [
        b"\n",
        b"",
        b"X T: a\r\n\r\n",
        b"X: a\n\n",
        b"X: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\r\r\n",
    ],
}
_odd_parts = st.just(frozenset[str]()) | st.frozensets(st.sampled_from([*_ODD]), max_size=2)


class _Parts:
    """Draws the parts of one request, of which at most two kinds are odd."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self._odd = draw(_odd_parts)

    def one(self, name: str) -> Any:
        return self._draw(st.sampled_from((_ODD if name in self._odd else _USUAL)[name]))

    def header(self, name: bytes, value: bytes) -> Header:
        return name, self.one("colon"), value

    def length(self, content: bytes) -> bytes:
        return self.one("length").replace(b"%d", b"%d" % len(content))

    def chunks(self) -> bytes:
        """A chunked body with its trailers."""
        written = b""
        for content in [*self._draw(st.lists(_contents.filter(len), max_size=3)), b""]:
            written += self.one("size").replace(b"%x", b"%x" % len(content)) + self.one("line end")
            written += content + self.one("chunk end") if content else b""
        return written + self.one("trailers")

    def framed(self) -> tuple[list[Header], bytes]:
        """The headers that say where a body ends, with the body."""
        content = self._draw(_contents)
        length = (b"Content-Length", self.length(content))
        coding = (b"Transfer-Encoding", self.one("coding"))
        match self.one("framing"):
            case "none":
                return [], b""
            case "length":
                return [self.header(*length)], content
            case "chunked":
                return [self.header(*coding)], self.chunks()
            case "both":
                both = self._draw(st.permutations([length, coding]))
                return [self.header(*one) for one in both], self._draw(st.sampled_from([self.chunks(), content]))
            case _:
                twice = self._draw(
                    st.sampled_from([[length, (b"Content-Length", self.length(content[1:]))], [coding] * 2])
                )
                return [self.header(*one) for one in twice], self._draw(st.sampled_from([self.chunks(), content]))


@st.composite
def _request(draw: st.DrawFn) -> bytes:
    parts = _Parts(draw)
    framing, body = parts.framed()
    hosts = [parts.header(b"Host", host) for host in parts.one("hosts")]
    others = [parts.header(parts.one("name"), parts.one("value")) for _ in range(draw(st.integers(0, 3)))]
    headers = draw(st.permutations([*hosts, *framing, *others]))
    first = b" ".join(parts.one(name) for name in ("method", "target", "version"))
    lines = [first, *(b"".join(header) for header in headers), b""]
    return parts.one("before") + b"".join(line + parts.one("line end") for line in lines) + body


_edits = st.lists(
    st.tuples(
        st.integers(0, 400), st.integers(0, 3), st.sampled_from([b"", b"\r", b"\n", b"\x00", b" ", b":", b"0", b"\xff"])
    ),
    max_size=2,
)
streams = st.builds(
    lambda requests, changes: edited(b"".join(requests), changes),
    st.lists(_request(), min_size=1, max_size=3),
    st.just([]) | st.just([]) | _edits,
) | st.binary(max_size=60)

cuts = st.lists(st.integers(0, 500), max_size=6)


def packets(stream: bytes, at: list[int]) -> list[bytes]:
    """The stream, cut at these places."""
    places = sorted({place % (len(stream) + 1) for place in at} | {0, len(stream)})
    return [stream[start:end] for start, end in zip(places, places[1:], strict=False)]
