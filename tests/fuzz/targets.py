"""What is fuzzed: each target takes bytes, and raises nothing but what is a bug.

Its seeds are good input, from which Hypothesis and atheris make worse. A choice that is no part of the input, such as
the name of a file, is its first byte.
"""

from __future__ import annotations

import base64
import gzip
import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from metrics_server.commands.replay.engine import Replay
from metrics_server.commands.replay.location import BadFile
from metrics_server.commands.replay.source import Source
from metrics_server.errors import BadConfiguration, Rejected
from metrics_server.ingest.feedback import FeedbackItem, observations_of
from metrics_server.ingest.kafka.record import Record, event_of_record
from metrics_server.ingest.payload import read
from metrics_server.metrics.labels import EventKind
from metrics_server.settings import DEFAULTS, Deployment, Settings, load
from tests.support.http_parsing import OwnReader
from tests.support.http_streams import streams
from tests.support.strategies import VALID, loose, payloads, scalars, usual, values, written
from tests.support.taken_events import LABELS, NOW, check

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/contract/golden"


class Target(NamedTuple):
    """One reader of ours."""

    name: str
    take: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    written: st.SearchStrategy[bytes]  # input in its form, of any content


def _golden_requests() -> list[bytes]:
    return [path.read_bytes() for path in sorted(GOLDEN.glob("*.http"))]


def _choice(options: Sequence[T], data: bytes) -> tuple[T, bytes]:
    """What the first byte chooses, and the rest."""
    return options[data[0] % len(options) if data else 0], data[1:]


def _seeds_of_choices(options: Sequence[object], bodies: list[bytes]) -> list[bytes]:
    return [bytes([number]) + body for number in range(len(options)) for body in bodies]


@cache
def _reader() -> OwnReader:
    return OwnReader()


def _take_connection(data: bytes) -> None:
    """The requests are the same in one packet and in single bytes."""
    whole = _reader().read([data])
    assert _reader().read([data[place : place + 1] for place in range(len(data))]) == whole


def _parted(message: bytes) -> tuple[dict[str, str], bytes]:
    """Headers with names in lower case, and the body, of a message whose first line does not matter."""
    head, _, body = message.partition(b"\r\n\r\n")
    lines = (line.partition(": ") for line in head.decode("latin-1").split("\r\n")[1:])
    return {name.lower(): value for name, _, value in lines}, body


def _take_event(data: bytes) -> None:
    """What a request brings is paired, and the page that it leaves is readable."""
    headers, body = _parted(data)
    attributes = {name.removeprefix("ce-"): value for name, value in headers.items() if name.startswith("ce-")}
    check(headers.get("content-type", ""), headers.get("content-encoding", ""), attributes, body)


def _take_feedback(data: bytes) -> None:
    with suppress(Rejected):
        observations_of(data, LABELS, NOW)


PAYLOADS = [
    (kind, protocol, content_type)
    for kind in (EventKind.RESPONSE, EventKind.FEEDBACK, EventKind.REQUEST)
    for protocol in ("", "seldon", "tensorflow", "v2")
    for content_type in ("", "application/json", "application/protobuf", "application/grpc", "application/octet-stream")
]


def _take_payload(data: bytes) -> None:
    asked, body = _choice(PAYLOADS, data)
    with suppress(Rejected):
        read(*asked, body)


TOPICS = ["seldon", "seldon.default.model.iris.outputs", "seldon.default.model.iris.inputs", "events"]


def _take_record(data: bytes) -> None:
    """A record of Kafka, whose headers stand before its value as those of a request."""
    topic, message = _choice(TOPICS, data)
    headers, value = _parted(message)
    pairs = [(name, text.encode("latin-1")) for name, text in headers.items()]
    with suppress(Rejected):
        event_of_record(Record(topic, 0, 0, NOW, b"key", pairs, value), 2**20)


def _golden_records() -> list[bytes]:
    """Golden records as `_take_record` reads them."""
    records = [json.loads(path.read_text()) for path in sorted(GOLDEN.glob("*.record"))]
    return [
        "".join(f"\r\n{name}: {value}" for name, value in record["headers"].items()).encode("latin-1")
        + b"\r\n\r\n"
        + base64.b64decode(record["value"])
        for record in records
    ]


SUFFIXES = [".jsonl", ".json", ".csv", ".parquet", ".jsonl.gz", ".csv.gz", ".log"]


@cache
def _directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


def _written(name: str, content: bytes) -> Path:
    path = Path(_directory().name, name)
    path.write_bytes(content)
    return path


def _take_replay(data: bytes) -> None:
    suffix, content = _choice(SUFFIXES, data)
    replay = Replay(Settings(), LABELS)
    source = Source(_written(f"records{suffix}", content))
    with suppress(BadFile):
        replay.take(source.blocks())
        source.check(replay.total)
    replay.results()
    source.remarks()


_ROWS = [
    {"request_id": "r1", "truth": 1, "prediction": 0.9, "predicted_at": 1_772_409_600.0, "deployment": "d"},
    {"request_id": "r2", "truth": "cat", "prediction": "dog", "labelled_at": "2026-03-02T00:00:00Z", "weight": 2},
]


def _lines(rows: Sequence[object]) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def _replay_seeds() -> list[bytes]:
    lines = _lines(_ROWS)
    table = b"request_id,truth,prediction.0,prediction.1,predicted_at\nr1,1,0.2,0.8,2026-03-02\nr2,,0.5,0.5,\n"
    parquet = BytesIO()
    pq.write_table(pa.table({"request_id": ["a", "b"], "truth": [1, None], "prediction": [[0.1, 0.9], None]}), parquet)
    files = [lines, json.dumps(_ROWS).encode(), table, parquet.getvalue(), gzip.compress(lines), gzip.compress(table)]
    logs = [path.read_bytes() for path in sorted((GOLDEN / "replay").rglob("*")) if path.is_file()]
    return [bytes([number]) + content for number, content in enumerate(files)] + [b"\x06" + log for log in logs]


def _take_configuration(data: bytes) -> None:
    with suppress(BadConfiguration):
        load(["--config", str(_written("settings.yaml", data))], {})


def _configuration_seeds() -> list[bytes]:
    deployments = [{"deployment": "a", "namespace": "b", "threshold": 0.3, "class_names": ["x", "y"]}]
    whole = {"http_port": 8080, "windows": "1h,1d", "retention": "90d", "seldon_metrics": True, "slices": ["a=b"]}
    return [
        json.dumps({**whole, "deployments": deployments}).encode(),
        b"http-port: 8080\nwindows: [1h, 1d]\ndeployments:\n- {deployment: a, threshold: 0.4}\n",
        b"&a [*a]\n",
        b"threshold: .nan\nmax_series: 1_000\nstarted: 2026-01-01\n? [a]\n: b\n",
        b"!!python/object/apply:os.getpid []\n",
    ]


_choices = st.binary(min_size=1, max_size=1)
_members = payloads.map(written)
_items = loose(**dict.fromkeys(FeedbackItem.__struct_fields__, usual | scalars))
_records = st.lists(_items, max_size=4)
_deployments = st.lists(loose(**dict.fromkeys(Deployment.__struct_fields__, values)), max_size=2)
_settings = loose(**{**dict.fromkeys(DEFAULTS, scalars | st.lists(scalars, max_size=3)), "deployments": _deployments})


def _chosen(written_input: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Behind any first byte."""
    return st.builds(bytes.__add__, _choices, written_input)


def _payload_seeds() -> list[bytes]:
    return _seeds_of_choices(PAYLOADS, [_parted(request)[1] for request in _golden_requests()])


TARGETS = {
    target.name: target
    for target in (
        Target("connection", _take_connection, _golden_requests, streams),
        Target("events", _take_event, _golden_requests, _members.map(b"POST /\r\nce-id: 1\r\n\r\n".__add__)),
        Target(
            "feedback", _take_feedback, lambda: [*VALID, json.dumps(_ROWS).encode()], (_items | _records).map(written)
        ),
        Target("payloads", _take_payload, _payload_seeds, _chosen(_members)),
        Target("records", _take_record, lambda: _seeds_of_choices(TOPICS, _golden_records()), _chosen(_members)),
        Target("replay", _take_replay, _replay_seeds, _chosen(_records.map(_lines))),
        Target("configuration", _take_configuration, _configuration_seeds, _settings.map(written)),
    )
}
