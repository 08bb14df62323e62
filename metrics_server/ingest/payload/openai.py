"""Answers of language models in OpenAI's form, whole or as a stream of server-sent events: one row that no metric
reads.
"""

from __future__ import annotations

from typing import Any

from metrics_server.ingest.payload.rows import Row, Unreadable

_LONGEST_START = 64  # bytes in which a stream shows itself


def is_stream(body: bytes) -> bool:
    """Tells whether a body is a stream: lines of `data: {...}`, the last of them `data: [DONE]`."""
    return body[:_LONGEST_START].lstrip().startswith(b"data:")


def first_chunk(body: bytes) -> bytes:
    """Returns the data of the first event of a stream, which has the id of the answer as all have."""
    return body.lstrip().removeprefix(b"data:").split(b"\n", 1)[0]


def rows_of_choices(choices: Any, what: str) -> list[Row]:
    """One opaque row, however many choices were asked for."""
    return [Unreadable(f"{what}: an answer of a language model")]
