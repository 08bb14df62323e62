"""The least that a POST of a thousand events costs: its bare decoding into typed structs, here and in one thread."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from benchmarks import process, wrk
from benchmarks.errors import BenchmarkError
from benchmarks.wrk import Shape

SECONDS = 1.0  # a round


class Rows(msgspec.Struct):
    """Rows of probabilities."""

    ndarray: list[list[float]]


class Message(msgspec.Struct):
    """A SeldonMessage."""

    data: Rows


class Feedback(msgspec.Struct):
    """Response and truth."""

    response: Message
    truth: Message


class Envelope(msgspec.Struct):
    """A structured event with the attributes that are sent."""

    specversion: str
    id: str
    type: str
    source: str
    time: str
    requestid: str
    modelid: str
    inferenceservicename: str
    namespace: str
    endpoint: str
    protocol: str
    datacontenttype: str
    data: Feedback


def decodings(shape: Shape, rounds: int, directory: Path) -> list[float]:
    """Measures the events a second that msgspec decodes, once a round, from the bytes that wrk sends."""
    body = _sent(shape, directory)
    decoder = msgspec.json.Decoder(list[Envelope])
    if len(decoder.decode(body)) != shape.batch:
        raise BenchmarkError("decoding: wrk sent another number of events than it was told")
    return [_rate(decoder, body) * shape.batch for _ in range(rounds)]


def _sent(shape: Shape, directory: Path) -> bytes:
    with process.baseline(directory) as server:
        wrk.run(server.port, shape, 1)
        return server.get("/").encode()


def _rate(decoder: msgspec.json.Decoder[list[Envelope]], body: bytes) -> float:
    started, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - started) < SECONDS:
        decoder.decode(body)
        count += 1
    return count / passed
