"""Reads JSON from outside, and undoes its compression: every failure is one of our own errors."""

from __future__ import annotations

import zlib
from typing import TypeVar

import msgspec

from metrics_server.errors import Reason, Rejected

T = TypeVar("T")

NOT_UTF_8 = "{}: text is not valid UTF-8"


def read(body: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[T], wrong: Reason, what: str) -> T:
    """Decodes a JSON text, such as a whole body, or an element of one that was decoded before.

    Args:
        body: bytes are a whole text, of which all has to be UTF-8 (RFC 8259, section 8.1), also members that the
            decoder skips; a Raw is a part of a text that was checked as a whole.
        decoder: made once for a type: looking a type up costs twenty times as much as decoding a short text.
        wrong: the reason to give when it is JSON, but not of this type.
        what: what it should have been, for the sender.

    Raises:
        Rejected: it is not JSON, not UTF-8, nested too deep, holds a number that cannot be represented, or is of
            another type.
    """
    try:
        value = decoder.decode(body)
        if type(body) is bytes and not body.isascii():
            body.decode()
    except msgspec.ValidationError as error:
        message = str(error)
        reason = Reason.OUT_OF_RANGE if "out of range" in message else wrong
        raise Rejected(reason, f"{what}: {message}") from error
    except msgspec.DecodeError as error:
        raise Rejected(*_malformed(bytes(body), what, error)) from error
    except UnicodeDecodeError as error:
        raise Rejected(Reason.INVALID_UTF8, NOT_UTF_8.format(what)) from error
    except RecursionError as error:
        raise Rejected(Reason.TOO_DEEP, f"{what}: JSON is nested too deep") from error
    return value


def _malformed(body: bytes, what: str, error: Exception) -> tuple[Reason, str]:
    """Names the reason why JSON is malformed. Bare NaN and infinities, which many encoders write, and lone surrogates
    get their own.
    """
    if "UTF-8" in str(error):  # of msgspec from 0.23 on; before, it was Python's own error
        return Reason.INVALID_UTF8, NOT_UTF_8.format(what)
    if any(word in body for word in (b"NaN", b"Infinity")):
        return Reason.NOT_A_NUMBER, f"{what}: NaN and infinities are no JSON numbers"
    if any(word in str(error) for word in ("surrogate", "hex escape")) or (
        b"\\ud" in body.lower() and "truncated" in str(error)
    ):
        return Reason.INVALID_UTF8, f"{what}: a string holds a lone surrogate"
    return Reason.MALFORMED_JSON, f"{what}: {error}"


MAX_MEMBERS = 16  # of a gzip body, one after the other; each costs a copy of what follows it
GZIP_MAGIC = b"\x1f\x8b"


def decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """Undoes the compression of a body. Gzip is recognised by its first two bytes, because brokers drop
    Content-Encoding.

    Raises:
        Rejected: unknown encoding, damaged gzip, or more than `limit` bytes; never more than that is decompressed.
    """
    if not encoding and not body.startswith(GZIP_MAGIC):  # as nearly all are
        return body
    encoding = encoding.strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise Rejected(Reason.UNSUPPORTED_ENCODING, "Content-Encoding must be gzip or absent")
    if body.startswith(GZIP_MAGIC):
        return _gunzipped(body, limit)
    if "gzip" in encoding:
        raise Rejected(Reason.MALFORMED_GZIP, "Content-Encoding says gzip, the body is not")
    return body


def _gunzipped(body: bytes, limit: int) -> bytes:
    """Decompresses the members of a gzip body (RFC 1952, section 2.2), and never more than `limit` bytes and one."""
    parts: list[bytes] = []
    left = limit + 1
    while body:
        if len(parts) == MAX_MEMBERS:
            raise Rejected(Reason.MALFORMED_GZIP, f"the gzip body has more than {MAX_MEMBERS} members")
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
    return b"".join(parts)
