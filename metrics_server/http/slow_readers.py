"""Clients that have not read yet what they were answered: what is kept for them is bounded, and shared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

KEPT_BYTES = 64 * 2**20  # of answers in all, beside the latest
OWN_BYTES = 128 * 2**10  # at most, that a connection keeps for itself: what its transport buffers, and an answer's head


class Reader(Protocol):
    """A connection, as far as it is written to."""

    def cut(self) -> None: ...


@dataclass(slots=True)
class _Body:
    """The body of an answer, and how many are still to read it."""

    content: bytes
    readers: int = 0


class SlowReaders:
    """The connections that cannot be written to for now, the one that has waited longest first.

    Equal bodies are kept once. When all are more than the limit, who has waited longest is cut off: a client that reads
    does not wait for long, and one that does not gets nothing anyhow.
    """

    def __init__(self, on_cut: Callable[[], None], kept_bytes: int = KEPT_BYTES) -> None:
        self._on_cut = on_cut
        self._kept_bytes = kept_bytes
        self._readers: dict[Reader, bytes] = {}
        self._bodies: dict[bytes, _Body] = {}
        self._bytes = 0

    def shared(self, body: bytes) -> bytes:
        """The same body, as another client is reading it already."""
        held = self._bodies.get(body)
        return body if held is None else held.content

    def add(self, reader: Reader, body: bytes) -> None:
        """Notes that a client is slow to read this body, and makes room for it."""
        self._readers[reader] = body
        held = self._bodies.get(body)
        if held is None:
            held = self._bodies[body] = _Body(body)
            self._bytes += len(body)
        held.readers += 1
        self._bytes += OWN_BYTES
        while self._bytes > self._kept_bytes + len(body) and len(self._readers) > 1:
            self.cut(next(iter(self._readers)))

    def remove(self, reader: Reader) -> None:
        """Notes that a client has read on, or has gone."""
        body = self._readers.pop(reader, None)
        if body is None:
            return
        self._bytes -= OWN_BYTES
        held = self._bodies[body]
        held.readers -= 1
        if not held.readers:
            del self._bodies[body]
            self._bytes -= len(body)

    def cut(self, reader: Reader) -> None:
        """Ends a connection whose client does not read."""
        self.remove(reader)
        self._on_cut()
        reader.cut()
