"""Bodies of gRPC calls, as KServe's agent logs them: the rows of their messages, or a reason."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import pytest

from metrics_server.errors import Reason, Rejected
from metrics_server.ingest.cloudevent import Event
from metrics_server.ingest.payload import read
from metrics_server.ingest.payload.grpc_frames import with_plain_messages
from metrics_server.ingest.payload.parsed import ParsedPayload
from metrics_server.ingest.payload.pb import seldon_pb2
from metrics_server.metrics.labels import EventKind
from tests.support.grpc_bodies import GRPC, answer, frame

LIMIT = 100_000


def message(puid: str, *values: float) -> bytes:
    """A SeldonMessage with an id and tags of its own."""
    made = seldon_pb2.SeldonMessage(data=seldon_pb2.DefaultData(tensor=seldon_pb2.Tensor(values=values)))
    made.data.tensor.shape.append(len(values))
    made.meta.puid = puid
    made.meta.tags["first"].string_value = puid
    return made.SerializeToString()


def reading(body: bytes, content_type: str = GRPC, kind: EventKind = EventKind.RESPONSE, protocol: str = "") -> Any:
    """What is read of a body after the steps of the pipeline, or why it is refused."""
    try:
        event = with_plain_messages(Event(kind, content_type=content_type, data=body), LIMIT)
        return read(kind, protocol, content_type, event.data)
    except Rejected as error:
        return error.reason


@pytest.mark.parametrize("content_type", [GRPC, "application/grpc+proto", "Application/gRPC; x=1"])
@pytest.mark.parametrize("protocol", ["", "v2"])
def test_the_message_of_a_call_is_read(content_type: str, protocol: str) -> None:
    """One message in its frame is read as the same message without it, whether its protocol is stated or tried."""
    assert reading(frame(answer(0, 2)), content_type, protocol=protocol) == ParsedPayload(response=[0, 2])


def test_a_message_of_another_protocol_is_found_by_trial() -> None:
    """Seldon's message in a frame is read as Seldon's, with its id."""
    assert reading(frame(message("a", 0.5))) == ParsedPayload(response=[0.5], puids=["a"], tags={"first": "a"})


def test_a_compressed_message_is_read() -> None:
    """With the flag a message is decompressed, also beside one that is not compressed."""
    packed = frame(gzip.compress(answer(1)), 1)
    assert reading(packed) == ParsedPayload(response=[1])
    assert reading(frame(answer(0)) + packed) == ParsedPayload(response=[0, 1])


def test_the_rows_of_a_stream_stand_together() -> None:
    """The rows of several messages are one after another, their ids too; of equal tags the earliest counts."""
    body = frame(message("a", 1, 2)) + frame(message("b", 3)) + frame(message("a", 4))
    assert reading(body) == ParsedPayload(response=[1, 2, 3, 4], puids=["a", "b"], tags={"first": "a"})


def test_a_feedback_over_grpc_is_read() -> None:
    """A Feedback in a frame is read as one without it."""
    truth = seldon_pb2.SeldonMessage(strData="cat")
    body = frame(gzip.compress(seldon_pb2.Feedback(truth=truth, response=truth).SerializeToString()), 1)
    assert reading(body, kind=EventKind.FEEDBACK) == ParsedPayload(response=["cat"], truth=["cat"])


REWARD = seldon_pb2.Feedback(reward=1.0).SerializeToString()
BAD = [
    ("no message", b"", Reason.MALFORMED_PAYLOAD),
    ("a prefix cut short", frame(answer(1))[:4], Reason.MALFORMED_PAYLOAD),
    ("a message cut short", frame(answer(1))[:-1], Reason.MALFORMED_PAYLOAD),
    ("a length beyond the body", b"\0\xff\xff\xff\xff" + answer(1), Reason.MALFORMED_PAYLOAD),
    ("a second frame cut short", frame(answer(1)) + b"\0\0", Reason.MALFORMED_PAYLOAD),
    ("an unknown flag", frame(answer(1), 2), Reason.MALFORMED_PAYLOAD),
    ("no frame at all", b"\x0a" + answer(1), Reason.MALFORMED_PAYLOAD),
    ("a message that is none", frame(b"\xff\xff"), Reason.UNKNOWN_PROTOCOL),
    ("compressed with deflate", frame(zlib.compress(answer(1)), 1), Reason.UNSUPPORTED_ENCODING),
    ("damaged gzip", frame(gzip.compress(answer(1))[:-9], 1), Reason.MALFORMED_GZIP),
    ("too large", frame(gzip.compress(bytes(LIMIT + 1)), 1), Reason.BODY_TOO_LARGE),
    ("too large together", 3 * frame(gzip.compress(bytes(LIMIT // 2)), 1), Reason.BODY_TOO_LARGE),
    ("too many messages", frame(b"") * 20_001, Reason.TOO_MANY_ROWS),
    ("too many rows together", 2 * frame(answer(*[1] * 10_001)), Reason.TOO_MANY_ROWS),
]


@pytest.mark.parametrize(("body", "reason"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_what_cannot_be_read_is_refused_with_its_reason(body: bytes, reason: Reason) -> None:
    """A body that is cut short, damaged or too large gets its reason as a response; a request is never refused."""
    assert reading(body) is reason
    assert reading(body, kind=EventKind.REQUEST) == ParsedPayload()


def test_a_stream_of_feedback_is_refused() -> None:
    """A feedback is one message: of several it could not be said which reward counts."""
    assert reading(2 * frame(REWARD), kind=EventKind.FEEDBACK) is Reason.MALFORMED_PAYLOAD


def test_a_compressed_message_beyond_the_pipeline_is_told() -> None:
    """Nothing is decompressed without the limit of the server."""
    with pytest.raises(Rejected) as refused:
        read(EventKind.RESPONSE, "", GRPC, frame(gzip.compress(answer(1)), 1))
    assert refused.value.reason is Reason.UNSUPPORTED_ENCODING
