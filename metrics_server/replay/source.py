"""Records to replay, each as the JSON that would be posted.

They come from the lines of a JSONL or CSV file, the rows of a Parquet file, or dicts. JSON is passed on unchanged. In a
table an empty cell, None and NaN all mean that nothing is stated, since it has no null of its own. Bytes are taken for
text.
"""

from __future__ import annotations

import csv
import gzip
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias

import msgspec

from metrics_server.errors import MetricsServerError, Reason, Rejected
from metrics_server.ingest.feedback import FeedbackItem

LONGEST_LINE = 8 * 2**20  # bytes, as of a body; what is longer is cut, and then refused as incomplete
BATCH_ROWS = 4096  # of a Parquet file, in memory at a time

# A line of a table is one row, so it has no lists of rows.
NAMES = tuple(name for name in FeedbackItem.__struct_fields__ if name not in ("truths", "predictions"))
_VALUES = frozenset(("truth", "prediction"))  # may be a number, a class or a list
_NUMBERS = frozenset(("row", "weight"))
_TIMES = frozenset(("predicted_at", "labelled_at"))
_SPREAD = re.compile(r"(truth|prediction)\.(0|[1-9]\d*)")

# Cells that are not JSON: Python, and so pandas, begins booleans with a capital.
_WORDS = {b"True": True, b"False": False}
_MISSING_TYPES = ("NAType", "NaTType")  # of pandas
_PLAIN_TYPES = frozenset((str, int, bool, float, type(None)))  # those of JSON

_decode = msgspec.json.Decoder().decode


class BadFile(MetricsServerError):
    """A file cannot be replayed; the message says why."""


class Line(NamedTuple):
    """A record, and the number of its line or row, from 1."""

    number: int
    body: bytes | Rejected


class _File:
    """An open file, and how much of it is read."""

    def __init__(self, raw: IO[bytes], *, is_zipped: bool) -> None:
        self.raw = raw
        self.stream: IO[bytes] = gzip.GzipFile(fileobj=raw) if is_zipped else raw  # type: ignore[assignment]
        self.size = raw.seek(0, 2)
        self.share: float | None = None  # read so far, where the position in the file does not tell
        raw.seek(0)

    @property
    def position(self) -> int:
        """Bytes of the file that are read."""
        return self.raw.tell() if self.share is None else int(self.share * self.size)


class Source(NamedTuple):
    """Records in their order, the size of their file in bytes, and how many of those bytes are read."""

    lines: Iterator[Line]
    size: int
    position: Callable[[], int]


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """Opens a file of records, whose format is the end of its name; records are read as they are asked for.

    Raises:
        BadFile: the format is not supported, or the file cannot be read; also while the records are read.
    """
    is_zipped = path.suffix == ".gz"
    suffix = (path.with_suffix("") if is_zipped else path).suffix.lower()
    if suffix not in _READERS or (is_zipped and suffix == ".parquet"):
        raise BadFile(
            f"{path}: want a file named .jsonl, .csv or .parquet; the first two may be compressed, as .jsonl.gz"
        )
    try:
        with path.open("rb") as raw:
            file = _File(raw, is_zipped=is_zipped)
            yield Source(_READERS[suffix](file), file.size, lambda: file.position)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadFile(f"{path}: not all of it can be decompressed: {error}") from error
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror or error}") from error
    except BadFile as error:
        raise BadFile(f"{path}: {error}") from error


def of_dicts(records: Iterable[Mapping[str, Any]]) -> Iterator[Line]:
    """Yields dicts as records. Values may be of numpy or pandas; NaN and None mean that nothing is stated."""
    for number, record in enumerate(records, 1):
        yield Line(number, _json(record, _stated))


def _jsonl(file: _File) -> Iterator[Line]:
    for number, line in enumerate(_lines(file.stream), 1):
        if not line.isspace():
            yield Line(number, line)


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Yields the lines, without a byte order mark; a line that is too long is cut."""
    mark = b"\xef\xbb\xbf"
    for line in iter(partial(stream.readline, LONGEST_LINE), b""):
        end = line
        while len(end) == LONGEST_LINE and not end.endswith(b"\n"):
            end = stream.readline(LONGEST_LINE)
        yield line.removeprefix(mark)
        mark = b""


def _csv(file: _File) -> Iterator[Line]:
    reader = csv.reader((line.decode(errors="surrogateescape") for line in _lines(file.stream)), strict=True)
    try:
        names = next(reader, [])
    except csv.Error as error:
        raise BadFile(f"its first line names no columns: {error}") from error
    columns = _columns(names)
    while True:
        number = reader.line_num + 1
        try:
            if cells := next(reader):
                yield Line(number, _from_cells(cells, len(names), columns))
        except StopIteration:
            return
        except csv.Error as error:
            yield Line(number, _refused(f"CSV: {error}"))


_Parse: TypeAlias = Callable[[str], Any]


class _Column(NamedTuple):
    """A member of records, and the cells that it is read from: several, if it is a list spread over columns.

    Attributes:
        name: such as prediction.
        indexes: of its cells in a line; of a list, in the order of its elements.
        is_spread: whether it is a list, in columns such as prediction.0 and prediction.1.
        parse: reads the text of a cell.
    """

    name: str
    indexes: list[int]
    is_spread: bool
    parse: _Parse


def _columns(names: Sequence[str]) -> list[_Column]:
    """Finds the columns of a table by the names in its head.

    Raises:
        BadFile: a name is unknown or there twice, or an element of a list is missing.
    """
    if unknown := [name for name in names if name not in NAMES and not _SPREAD.fullmatch(name)]:
        raise BadFile(
            f"unknown columns {', '.join(map(repr, unknown[:5]))}; "
            f"want some of {', '.join(NAMES)}, prediction.0, prediction.1 …"
        )
    single: dict[str, int] = {}
    spread: dict[str, dict[int, int]] = {}  # by name and place in the list
    for index, name in enumerate(names):
        member, _, place = name.partition(".")
        if member in single or (member in spread and (not place or int(place) in spread[member])):
            raise BadFile(f"column {name!r} is there twice")
        if place:
            spread.setdefault(member, {})[int(place)] = index
        else:
            single[member] = index
    for member, places in spread.items():
        if set(places) != set(range(len(places))):
            raise BadFile(f"columns {member}.0 to {member}.{max(places)}: want all of them")
    return [
        _Column(
            member,
            [single[member]] if member in single else [index for _, index in sorted(spread[member].items())],
            is_spread=member in spread,
            parse=_PARSE.get(member, str),
        )
        for member in dict.fromkeys(name.partition(".")[0] for name in names)
    ]


def _from_cells(cells: list[str], width: int, columns: list[_Column]) -> bytes | Rejected:
    if len(cells) != width:
        return _refused(f"CSV: want {width} cells, as the first line has names, got {len(cells)}")
    record: dict[str, Any] = {}
    for column in columns:
        values = [column.parse(text) if (text := cells[index]) else None for index in column.indexes]
        if any(cells[index] for index in column.indexes):
            record[column.name] = values if column.is_spread else values[0]
    return _json(record)


def _parsed(text: str) -> Any:
    """Reads a cell as JSON, or else as text."""
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return _WORDS.get(text.encode(errors="replace"), text)


def _time(text: str) -> Any:
    """Reads a cell as seconds, or else as a timestamp."""
    value = _parsed(text)
    return value if isinstance(value, (int, float)) else text


# Other members are text, also where they look like a number: a request id may be 007 or 12e5.
_PARSE: dict[str, _Parse] = {**dict.fromkeys(_VALUES | _NUMBERS, _parsed), **dict.fromkeys(_TIMES, _time)}


def _parquet(file: _File) -> Iterator[Line]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise BadFile(
            f"Parquet needs the extra parquet, the package pyarrow ({error}): "
            "pip install 'feedback-metrics-server[parquet]'"
        ) from error
    file.share = 0.0
    number = 0
    try:
        table = parquet.ParquetFile(file.raw)
        names = table.schema_arrow.names
        columns = _columns(names)
        schema = pa.schema([field.with_type(_readable(pa, field.type)) for field in table.schema_arrow])
        for batch in table.iter_batches(BATCH_ROWS):
            for record in _rows(pa.Table.from_batches([batch]).cast(schema, safe=False)):
                number += 1
                yield Line(
                    number,
                    record if isinstance(record, Rejected) else _json(_gathered(record, columns, names), _stated),
                )
            file.share = number / table.metadata.num_rows
    except pa.ArrowException as error:
        raise BadFile(str(error).partition("\n")[0]) from error


def _readable(pa: Any, kind: Any) -> Any:
    """Returns the type to read a column as.

    Times become ones that Python can hold: microseconds at the finest, and in UTC, which they count in whatever their
    zone.
    """
    if not pa.types.is_timestamp(kind):
        return kind
    return pa.timestamp("us" if kind.unit == "ns" else kind.unit, kind.tz and "UTC")


def _rows(table: Any) -> Iterable[dict[str, Any] | Rejected]:
    """Returns the rows; where Python cannot hold all of them, one by one, so that only those are refused."""
    try:
        return list(table.to_pylist())
    except (ValueError, OverflowError) as error:
        if table.num_rows > 1:
            return (row for at in range(table.num_rows) for row in _rows(table.slice(at, 1)))
        if isinstance(error, OverflowError):
            return [Rejected(Reason.BAD_TIME, "a time outside the years 1 to 9999")]
        return [_unwritable(error)]


def _gathered(record: dict[str, Any], columns: list[_Column], names: Sequence[str]) -> dict[str, Any]:
    """Returns a row with one value for each member; lists that are spread over columns are put together."""
    gathered = {}
    for column in columns:
        values = [record[names[index]] for index in column.indexes]
        if not column.is_spread:
            gathered[column.name] = values[0]
        elif any(value is not None for value in values):
            gathered[column.name] = values
    return gathered


def _stated(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the members of a record that state something, as types of JSON."""
    return {name: value for name, given in record.items() if (value := _plain(given)) is not None}


def _plain(value: Any) -> Any:
    """Returns a value as a type of JSON; None where nothing is stated."""
    if isinstance(value, float):
        if math.isinf(value):
            raise Rejected(Reason.NOT_A_NUMBER, "an infinity where a number is needed")
        return None if math.isnan(value) else float(value)
    if type(value) in _PLAIN_TYPES:
        return value
    if isinstance(value, (list, tuple)):  # most hold numbers alone, which JSON has: NaN is null there
        return value if _PLAIN_TYPES.issuperset(map(type, value)) else [_plain(element) for element in value]
    if isinstance(value, dict):
        return {name: _plain(element) for name, element in value.items()}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return str(value, "utf-8")
    if type(value).__name__ in _MISSING_TYPES:
        return None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    if hasattr(value, "tolist"):  # numpy
        return _plain(value.tolist())
    return value


_encode = msgspec.json.Encoder(decimal_format="number").encode


def _json(record: Mapping[str, Any], plain: Callable[[Mapping[str, Any]], dict[str, Any]] = dict) -> bytes | Rejected:
    """Encodes a record, after making its values plain; refuses one that JSON cannot hold."""
    try:
        return _encode(plain(record))
    except Rejected as error:
        return error.without_traceback()
    except (TypeError, ValueError, OverflowError, NotImplementedError, RecursionError) as error:
        return _unwritable(error)


def _unwritable(error: Exception) -> Rejected:
    if isinstance(error, UnicodeError):
        return Rejected(Reason.INVALID_UTF8, "a cell is not valid UTF-8")
    return _refused(f"no JSON can be made of it: {error}")


def _refused(detail: str) -> Rejected:
    return Rejected(Reason.MALFORMED_FEEDBACK, detail)


_READERS: dict[str, Callable[[_File], Iterator[Line]]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".csv": _csv,
    ".parquet": _parquet,
}
