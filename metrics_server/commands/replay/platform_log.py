"""Logs of platforms: their records as the JSON that would be posted. `PLATFORMS` is the table of them.

To add a platform: a function that makes JSON of one of its records, a row in the table, a golden file and its test, and
a section in docs/how-to/replay-a-file.md.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec

from metrics_server.commands.replay.cell import parsed
from metrics_server.errors import Reason, Rejected
from metrics_server.ingest.cloudevent import media_type
from metrics_server.ingest.decoding import decompressed

LARGEST_PAYLOAD = 8 * 2**20  # bytes, as of a body that is posted

Record: TypeAlias = Mapping[str, Any]
T = TypeVar("T")


class Origin:
    """The file that records come from, and the time of those that state none.

    Attributes:
        file: its name with all directories.
        undated: how many records have asked for a time.
    """

    def __init__(self, file: str, seconds: float | None) -> None:
        self.file = file
        self.undated = 0
        self._seconds = seconds

    def seconds(self) -> float | None:
        """Returns the time of a record that states none, in UTC seconds; None: nothing is known."""
        self.undated += 1
        return self._seconds


class Platform(NamedTuple):
    """A kind of record that a platform writes.

    Attributes:
        title: its name for people.
        members: names that all of its records have, as `plain` writes them.
        posted: makes of a record what would be posted: events, or feedback.
    """

    title: str
    members: frozenset[str]
    posted: Callable[[Record, Origin], list[Any]]


def plain(name: str) -> str:
    """Writes a member's name without case and underscores: KServe's marshallers have three spellings for one name."""
    return name.replace("_", "").lower()


def platform_of(names: Iterable[str]) -> Platform | None:
    """Finds whose record has these members; None: it is one of our own."""
    found = set(map(plain, names))
    return next((platform for platform in PLATFORMS if platform.members <= found), None)


class _Log(msgspec.Struct):
    """A LogRequest of KServe's agent; as JSON it has Go's field names, in tables camelCase, before 0.18 snake_case."""

    id: str = ""
    reqtype: str = ""
    payload: bytes = msgspec.field(default=b"", name="bytes")  # base64 where it is text
    contenttype: str = ""
    inferenceservice: str = ""
    namespace: str = ""
    component: str = ""
    endpoint: str = ""
    occurrencetime: str = ""
    sourceuri: str | dict[str, Any] = ""
    metadata: str | dict[str, Any] | list[tuple[str, Any]] = ""
    annotations: str | dict[str, Any] | list[tuple[str, Any]] = ""


_UNSET_TIME = "0001-01-01T00:00:00Z"  # Go's zero time, of a member that was never set


def _of_kserve(record: Record, origin: Origin) -> list[Any]:
    """Makes the event that the agent would have sent to a URL of HTTP (pkg/logger/worker.go)."""
    log = _as({plain(name): value for name, value in record.items() if value is not None}, _Log, "a log of KServe")
    event = {
        "id": log.id,
        "source": _source(log.sourceuri) or "/",
        "type": log.reqtype,
        "inferenceservicename": log.inferenceservice,
        "namespace": log.namespace,
        "component": log.component,
        "endpoint": log.endpoint,
        "metadata": _text(log.metadata),
        "annotations": _text(log.annotations),
    }
    stated = log.occurrencetime if log.occurrencetime != _UNSET_TIME else ""
    return [_event(event, stated or origin.seconds(), log.contenttype, decompressed(log.payload, "", LARGEST_PAYLOAD))]


def _source(uri: str | dict[str, Any]) -> str:
    """Returns the text of a URL, which Go's encoder writes as an object of its parts."""
    if isinstance(uri, str):
        return uri
    scheme, host, path = (str(uri.get(name, "")) for name in ("Scheme", "Host", "Path"))
    return f"{scheme}://{host}{path}" if host else path


def _text(members: str | dict[str, Any] | list[tuple[str, Any]]) -> str:
    """Returns the text of a JSON object, as it stands in an attribute of an event; a map of Parquet is a list."""
    return members if isinstance(members, str) else msgspec.json.encode(dict(members)).decode()


class _Payload(msgspec.Struct):
    """Data that SageMaker has captured, or a truth for it."""

    data: str = ""
    encoding: str = ""
    observedContentType: str = ""


class _Captured(msgspec.Struct):
    endpointInput: _Payload | None = None
    endpointOutput: _Payload | None = None


class _Metadata(msgspec.Struct):
    eventId: str = ""
    inferenceId: str | None = None
    inferenceTime: str = ""


class _Capture(msgspec.Struct):
    captureData: _Captured
    eventMetadata: _Metadata


class _GroundTruth(msgspec.Struct):
    groundTruthData: _Payload
    eventMetadata: _Metadata


# What SageMaker calls the objects it captures: <prefix>/<endpoint>/<variant>/<year>/<month>/<day>/<hour>/<file>
_CAPTURED_BY = re.compile(r"([^/]+)/([^/]+)/\d{4}/\d\d/\d\d/\d\d/[^/]+$")
_ENCODINGS = {
    "text/csv": "CSV",
    "application/json": "JSON",
    "application/jsonlines": "JSON",
    "application/x-jsonlines": "JSON",
}


def _of_capture(record: Record, origin: Origin) -> list[Any]:
    """Makes the event of a prediction. What has no output was captured as input alone: a request."""
    capture = _as(record, _Capture, "a data capture of SageMaker")
    metadata, given, made = capture.eventMetadata, capture.captureData.endpointInput, capture.captureData.endpointOutput
    endpoint, variant = match.groups() if (match := _CAPTURED_BY.search(origin.file)) else ("", "")
    event = {
        "id": metadata.eventId,
        "source": f"/sagemaker/{endpoint}/{variant}",
        "type": f"io.seldon.serving.inference.{'response' if made else 'request'}",
        "requestid": metadata.inferenceId or metadata.eventId,
        "inferenceservicename": endpoint,
        "endpoint": variant,
    }
    content_type, data = _answer(made, given) if made else ("", b"")
    return [_event(event, metadata.inferenceTime or origin.seconds(), content_type, data)]


def _answer(made: _Payload, given: _Payload | None) -> tuple[str, bytes]:
    """Returns content type and body of an answer; rows outside of any protocol in that of TensorFlow, which is rows."""
    body, encoding = _decoded(made)
    if not encoding:
        return made.observedContentType, body
    rows = _rows(body, encoding)
    if isinstance(rows, dict):
        return "application/json", body
    return "application/json", msgspec.json.encode({"predictions": _one_a_line(rows, given)})


def _one_a_line(rows: list[Any], given: _Payload | None) -> list[Any]:
    """Undoes what XGBoost's container does: it answers several lines of CSV with one, of as many numbers."""
    if given and len(rows) == 1 and isinstance(rows[0], list) and _decoded(given)[1] == "CSV":
        count = sum(1 for line in _decoded(given)[0].splitlines() if line.strip())
        if count > 1 and count == len(rows[0]):
            return rows[0]
    return rows


def _of_ground_truth(record: Record, origin: Origin) -> list[Any]:
    """Makes feedback of a truth: an item for each of its rows, by the id that was given with the request."""
    truth = _as(record, _GroundTruth, "a ground truth of SageMaker")
    body, encoding = _decoded(truth.groundTruthData)
    rows = _rows(body, encoding)
    if isinstance(rows, dict) or not rows:
        raise _refused("groundTruthData: want a label, or one a line, in CSV or JSON")
    item = {
        "request_id": truth.eventMetadata.inferenceId or truth.eventMetadata.eventId,
        "labelled_at": origin.seconds(),
    }
    return [{**item, "row": row, "truth": label} for row, label in enumerate(rows)]


def _decoded(payload: _Payload) -> tuple[bytes, str]:
    """Returns the bytes of a payload, and whether they are CSV or JSON; "" for neither."""
    encoding = payload.encoding.upper()
    if encoding != "BASE64":
        return payload.data.encode(), encoding if encoding in _ENCODINGS.values() else "CSV"
    return _as(payload.data, bytes, "data in BASE64"), _ENCODINGS.get(media_type(payload.observedContentType), "")


def _rows(body: bytes, encoding: str) -> list[Any] | dict[str, Any]:
    """Returns the rows of a body; or the object that it is, in JSON of some protocol."""
    try:
        text = body.decode()
        value = _json(text) if encoding == "JSON" else _cells(text)
    except (UnicodeError, csv.Error, msgspec.DecodeError, RecursionError) as error:
        raise _refused(f"data are not the {encoding or 'CSV'} that they are said to be: {error}") from error
    return value if isinstance(value, (list, dict)) else [value]


def _json(text: str) -> Any:
    """Reads JSON, or JSON lines, of which each is a row."""
    lines = [line for line in text.splitlines() if line.strip()]
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        if len(lines) == 1:
            raise
        return [msgspec.json.decode(line) for line in lines]


def _cells(text: str) -> list[Any]:
    """Reads lines of CSV: a cell alone is a scalar, several are a list."""
    rows = [[parsed(cell.strip()) for cell in line] for line in csv.reader(text.splitlines(), strict=True) if line]
    return [row[0] if len(row) == 1 else row for row in rows]


def _event(attributes: dict[str, str], time: str | float | None, content_type: str, data: bytes) -> dict[str, Any]:
    stated = {name: value for name, value in attributes.items() if value}
    when = {} if time is None else {"time": time if isinstance(time, str) else _timestamp(time)}
    what = {"datacontenttype": content_type} if content_type else {}
    return {"specversion": "1.0", **stated, **when, **what, "data_base64": data}


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _as(value: Any, kind: type[T], what: str) -> T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _refused(f"{what}: {error}") from error


def _refused(detail: str) -> Rejected:
    return Rejected(Reason.MALFORMED_FEEDBACK, detail)


PLATFORMS = (
    Platform("KServe's blob log", frozenset(("id", "reqtype", "bytes")), _of_kserve),
    Platform("SageMaker's data capture", frozenset(("capturedata", "eventmetadata")), _of_capture),
    Platform("SageMaker's ground truth", frozenset(("groundtruthdata", "eventmetadata")), _of_ground_truth),
)
