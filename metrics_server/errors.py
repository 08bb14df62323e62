"""Every way to say no: one class for the sender's faults, one for ours, one fixed list of reasons.

The reason is the label of `metrics_server_rejected_total` and the `reason` of the JSON answer, so the list is short,
fixed, and documented in docs/reference/errors.md (a test compares).
"""

from __future__ import annotations

from enum import Enum


class Reason(Enum):
    """Why an event was refused: name on the wire, HTTP status, what it means.

    A sender that is a broker retries 404, 408, 409, 429 and 5xx, so nothing that can never succeed may get one of
    those: the same event may be taken once its address or --events_prefix is mended.
    """

    MALFORMED_HTTP = (
        "malformed_http",
        400,
        "The bytes are no HTTP/1.1 request, its Host is missing or invalid, or its end could be taken for another.",
    )
    MALFORMED_JSON = ("malformed_json", 400, "The body is not JSON.")
    INVALID_UTF8 = ("invalid_utf8", 400, "Text is not valid UTF-8, or holds a lone surrogate.")
    NOT_A_NUMBER = ("not_a_number", 400, "NaN or an infinity where a number is needed.")
    OUT_OF_RANGE = ("out_of_range", 400, "A number beyond ±1e12, or too large to represent.")
    TOO_DEEP = ("too_deep", 400, "JSON nested deeper than the limit.")
    MALFORMED_EVENT = (
        "malformed_event",
        400,
        "Not a valid CloudEvent: an attribute is missing, empty or of the wrong kind.",
    )
    UNSUPPORTED_SPECVERSION = ("unsupported_specversion", 400, "A CloudEvents specversion other than 1.0.")
    BAD_TIME = ("bad_time", 400, "A time is not an RFC 3339 timestamp, nor, in plain feedback, Unix seconds.")
    BAD_ENCODING = ("bad_encoding", 400, "A percent-encoded or non-ASCII attribute is not valid UTF-8.")
    DUPLICATE_HEADER = ("duplicate_header", 400, "A header that must be single was sent twice.")
    MALFORMED_GZIP = ("malformed_gzip", 400, "The body looks like gzip but cannot be decompressed.")
    UNAUTHORIZED = ("unauthorized", 401, "The bearer token is missing or wrong.")
    CLIENT_REFUSED = ("client_refused", 403, "The client showed no certificate, or one whose name may not do this.")
    CROSS_SITE = ("cross_site", 403, "A browser sends this for a page of another site.")
    UNKNOWN_ROUTE = ("unknown_route", 404, "An event was posted to a path where none are taken.")
    BODY_TIMEOUT = ("body_timeout", 408, "The body did not arrive within 10 s; sending it again may succeed.")
    BODY_TOO_LARGE = ("body_too_large", 413, "The body is larger than --max_body_bytes after decompression.")
    UNSUPPORTED_FORMAT = (
        "unsupported_format",
        415,
        "A CloudEvents format other than JSON, or a body that is not JSON.",
    )
    UNSUPPORTED_ENCODING = ("unsupported_encoding", 415, "A Content-Encoding other than gzip or identity.")
    MALFORMED_FEEDBACK = (
        "malformed_feedback",
        422,
        (
            "The feedback holds neither truth nor reward, or something in a wrong form; "
            "or a truth that nothing can be joined to."
        ),
    )
    MALFORMED_PAYLOAD = ("malformed_payload", 422, "The payload does not follow its protocol.")
    SHAPE_MISMATCH = ("shape_mismatch", 422, "A tensor's shape does not agree with its values.")
    ROW_MISMATCH = ("row_mismatch", 422, "Truth and response of one feedback differ in their number of rows.")
    ROW_TOO_LARGE = ("row_too_large", 422, "One row is larger than 64 KiB.")
    LABEL_TOO_LONG = ("label_too_long", 422, "A class label, name or request id longer than the limit.")
    TOO_MANY_ROWS = (
        "too_many_rows",
        422,
        (
            "One event has more than 20,000 rows or 2,097,152 values, "
            "or one batch more than 20,000 events or 100,000 rows."
        ),
    )
    UNKNOWN_PROTOCOL = ("unknown_protocol", 422, "The payload is of no protocol this server reads.")
    TOO_MANY_SERIES = ("too_many_series", 422, "One more series than --max_series.")
    HEADERS_TOO_LARGE = ("headers_too_large", 431, "The request's header section is larger than 16 KiB.")

    def __init__(self, label: str, status: int, meaning: str) -> None:
        self.label = label
        self.status = status
        self.meaning = meaning


class MetricsServerError(Exception):
    """Base of every error this package raises on purpose."""


class Rejected(MetricsServerError):
    """The sender's fault: answered 4xx, counted by reason, nothing stored."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail

    @property
    def status(self) -> int:
        """Returns the HTTP status of the answer, which the reason settles."""
        return self.reason.status

    def without_traceback(self) -> Rejected:
        """Itself without the frames it came through: a value that kept them would be kept by them, until the garbage is
        collected.
        """
        self.__traceback__ = self.__cause__ = self.__context__ = None
        return self


class Unauthorized(Rejected):
    """No token was shown where one is wanted, or a wrong one."""

    def __init__(self, *, is_shown: bool) -> None:
        super().__init__(Reason.UNAUTHORIZED, "a bearer token is required")
        # RFC 6750, 3: the scheme is never without a parameter, and a request without a token is told no error code.
        self.challenge = 'Bearer realm="feedback metrics server"' + (', error="invalid_token"' if is_shown else "")


class Unavailable(MetricsServerError):
    """Our fault, and passing: answered 503 with Retry-After; the sender should send the same event again."""

    status = 503


class StoreUnavailable(Unavailable):
    """The store could not be read or written; nothing was half applied."""


class StoreRefused(MetricsServerError):
    """The store must not be used as it is (foreign, newer, damaged, in use): the start stops with this message."""


class BadConfiguration(MetricsServerError):
    """A setting cannot be used; the message names it and says what would be valid."""


class BadRequest(MetricsServerError):
    """A request to the API that is answered with an error: 400 unless it says otherwise."""

    def __init__(self, detail: str, status: int = 400, reason: str = "bad_request") -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.reason = reason


def not_found(detail: str) -> BadRequest:
    """Something that is not there."""
    return BadRequest(detail, 404, "not_found")
