"""JSON from outside: one strict reader whose every failure is one of our own errors."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from metrics_server.errors import Reason, Rejected

T = TypeVar("T")


def read(body: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[T], wrong: Reason, what: str) -> T:
    """The JSON value in `body`.

    Args:
        body: the text.
        decoder: made once for a type: looking a type up costs twenty times as much as decoding a short text.
        wrong: the reason to give when it is JSON, but not of this type.
        what: what it should have been, for the sender.

    Raises:
        Rejected: it is not JSON, not UTF-8, nested too deep, holds a number that cannot be represented, or is of another type.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        message = str(error)
        reason = Reason.OUT_OF_RANGE if "out of range" in message else wrong
        raise Rejected(reason, f"{what}: {message}") from error
    except msgspec.DecodeError as error:
        raise Rejected(*_malformed(bytes(body), what, error)) from error
    except UnicodeDecodeError as error:
        raise Rejected(Reason.INVALID_UTF8, f"{what}: text is not valid UTF-8") from error
    except RecursionError as error:
        raise Rejected(Reason.TOO_DEEP, f"{what}: JSON is nested too deep") from error


def _malformed(body: bytes, what: str, error: Exception) -> tuple[Reason, str]:
    """Why JSON is malformed. Bare NaN and infinities, which many encoders write, and lone surrogates get their own reasons."""
    if any(word in body for word in (b"NaN", b"Infinity")):
        return Reason.NOT_A_NUMBER, f"{what}: NaN and infinities are no JSON numbers"
    if any(word in str(error) for word in ("surrogate", "hex escape")) or (b"\\ud" in body.lower() and "truncated" in str(error)):
        return Reason.INVALID_UTF8, f"{what}: a string holds a lone surrogate"
    return Reason.MALFORMED_JSON, f"{what}: {error}"
