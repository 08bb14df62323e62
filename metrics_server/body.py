"""Request bodies: gzip undone, within a bound."""

from __future__ import annotations

import zlib

from metrics_server.errors import Reason, Rejected

MAX_MEMBERS = 16  # of a gzip body, one after the other; each costs a copy of what follows it
GZIP_MAGIC = b"\x1f\x8b"


def decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """The body without its compression. Gzip is recognised by its first two bytes, because brokers drop Content-Encoding.

    Raises:
        Rejected: unknown encoding, damaged gzip, or more than `limit` bytes; never more than that is decompressed.
    """
    encoding = encoding.strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise Rejected(Reason.UNSUPPORTED_ENCODING, "Content-Encoding must be gzip or absent")
    if not body.startswith(GZIP_MAGIC):
        if "gzip" in encoding:
            raise Rejected(Reason.MALFORMED_GZIP, "Content-Encoding says gzip, the body is not")
        return body
    parts: list[bytes] = []
    left = limit + 1
    for _ in range(MAX_MEMBERS):
        if not body:
            break
        reader = zlib.decompressobj(wbits=31)
        try:
            parts.append(reader.decompress(body, left))
        except zlib.error as error:
            raise Rejected(Reason.MALFORMED_GZIP, "the gzip body is damaged") from error
        left -= len(parts[-1])
        if left <= 0:
            raise Rejected(Reason.BODY_TOO_LARGE, f"the body is larger than {limit} bytes after decompression")
        if not reader.eof:
            raise Rejected(Reason.MALFORMED_GZIP, "the gzip body is cut short")
        body = reader.unused_data
    if body:
        raise Rejected(Reason.MALFORMED_GZIP, f"the gzip body has more than {MAX_MEMBERS} members")
    return b"".join(parts)
