"""The trace that an event belongs to, as W3C Trace Context writes it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

# Version, trace, parent and flags, in small letters. Version ff is none; those after 00 may say more behind a hyphen.
# Ids of zeros alone are none either (Trace Context, 3.2.2).
_FORM = re.compile(r"(?!ff|00.{53}-)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")

Headers: TypeAlias = "Sequence[tuple[bytes, bytes]]"
# What tells the trace of an event by its attributes, and by the headers of the request that it came in.
TraceOf: TypeAlias = "Callable[[Mapping[str, str], Headers], str]"


def trace_id_of(attributes: Mapping[str, str], headers: Headers) -> str:
    """Returns the id of a trace; "" for none.

    The event's own attribute (CloudEvents' extension for distributed tracing) tells where it arose, and counts for more
    than the header, which is of the request that brought it.
    """
    of_request = [value.decode("latin-1") for name, value in headers if name.lower() == b"traceparent"]
    found = map(_FORM.fullmatch, (attributes.get("traceparent", ""), *of_request))
    return next((match[1] for match in found if match), "")


def untraced(attributes: Mapping[str, str], headers: Headers) -> str:
    """Returns no trace: nobody is told of it."""
    return ""
