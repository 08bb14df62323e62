"""Records to replay, each as the JSON that would be posted.

They come from the lines of a JSONL or CSV file, the elements of a JSON document, the rows of a Parquet file, or dicts;
from one file or from all of a directory or bucket. Our own JSON is passed on unchanged, and what a platform has logged
becomes such. In a table an empty cell, None and NaN all mean that nothing is stated, since it has no null of its own.
Bytes are taken for text.
"""

from __future__ import annotations

import csv
import gzip
import math
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import PurePosixPath
from typing import IO, Any, NamedTuple, TypeAlias

import msgspec

from metrics_server.commands.replay.cell import parsed
from metrics_server.commands.replay.location import BadFile, StoredFile, absolute, files_at, pyarrow_or_bad_file
from metrics_server.commands.replay.platform_log import Origin, Platform, platform_of
from metrics_server.errors import Reason, Rejected
from metrics_server.ingest.decoding import GZIP_MAGIC, read
from metrics_server.ingest.feedback import FeedbackItem

LONGEST_LINE = 8 * 2**20  # bytes, as of a body; what is longer is cut, and then refused as incomplete
LARGEST_DOCUMENT = 256 * 2**20  # bytes of a JSON document, which is decoded in one piece
SHOWN_FILES = 10  # of those that cannot be read
BLOCK_ROWS = 4096  # lines that are read together
HEAD = 4096  # bytes by which a form is recognised

# A line of a table is one row, so it has no lists of rows.
NAMES = tuple(name for name in FeedbackItem.__struct_fields__ if name not in ("truths", "predictions"))
_VALUES = frozenset(("truth", "prediction"))  # may be a number, a class or a list
_NUMBERS = frozenset(("row", "weight"))
_TIMES = frozenset(("predicted_at", "labelled_at"))
_SPREAD = re.compile(r"(truth|prediction)\.(0|[1-9]\d*)")

_MISSING_TYPES = ("NAType", "NaTType")  # of pandas
_PLAIN_TYPES = frozenset((str, int, bool, float, type(None)))  # those of JSON

_UNWRITABLE = (TypeError, ValueError, OverflowError, NotImplementedError, RecursionError)  # what an encoder raises

_MARK = b"\xef\xbb\xbf"  # of UTF-8, at the beginning of a file
# A line is only looked at where it may be of a platform: our own need not be decoded twice.
_OF_A_PLATFORM = re.compile(rb'"(?:captureData|groundTruthData|ReqType|reqType)"')
_PARTS_OF_A_PLATFORM = (b'Data"', b'eqType"')  # one of them is in all of these; bytes are searched ten times as fast
_RECORD = msgspec.json.Decoder(dict[str, Any])
_ELEMENTS = msgspec.json.Decoder(list[msgspec.Raw])


class Line(NamedTuple):
    """A record, and the number of its line, row or element, from 1."""

    number: int
    body: bytes | Rejected


class Block(NamedTuple):
    """Records that stand one after the other in a file, to be made into lines in this process or in another.

    Attributes:
        file: its name.
        lines: makes the lines; it can be pickled.
    """

    file: str
    lines: Callable[[], list[Line]]


_Lines: TypeAlias = "Callable[[], list[Line]]"  # of a block


class _File:
    """An open file, and how much of it is read."""

    def __init__(self, raw: IO[bytes], size: int, origin: Origin, *, is_zipped: bool) -> None:
        self.raw = raw
        self.stream: Any = gzip.GzipFile(fileobj=raw) if is_zipped else raw
        self.size = size
        self.origin = origin
        self.share: float | None = None  # read so far, where the position in the file does not tell

    @property
    def position(self) -> int:
        """Bytes of the file that are read."""
        return self.raw.tell() if self.share is None else int(self.share * self.size)

    def lines(self, number: int, record: Mapping[str, Any], platform: Platform) -> Iterator[Line]:
        """Yields what a platform's record tells: one line or several of one number."""
        try:
            told = platform.posted(record, self.origin)
        except Rejected as error:
            told = [error.without_traceback()]
        except _UNWRITABLE as error:
            told = [_unwritable(error)]
        for posted in told:
            yield Line(number, posted if isinstance(posted, Rejected) else _json(posted))


class Source:
    """The records of a file, or of all files of a directory or bucket, one file after the other.

    Attributes:
        size: of all files, in bytes.
        unread: why files could not be read, or not to their end.
    """

    def __init__(
        self,
        location: str | os.PathLike[str],
        time: float | None = None,
        on_file: Callable[[], object] = lambda: None,
    ) -> None:
        """Finds the files.

        Args:
            location: a path, or a URL of a bucket.
            time: of the records of platforms that state none, in UTC seconds; None: the date of their file.
            on_file: called after each file.

        Raises:
            BadFile: there is nothing at the location.
        """
        self.files = files_at(os.fspath(location))
        self.size = sum(file.size for file in self.files)
        self.unread: list[str] = []
        self._time = time
        self._on_file = on_file
        self._passed = 0
        self._file: _File | None = None
        self._undated = 0

    @property
    def position(self) -> int:
        """Bytes of the files that are read."""
        return self._passed + (self._file.position if self._file else 0)

    def blocks(self) -> Iterator[Block]:
        """Yields the records. A file that cannot be read, or not to its end, does not end them."""
        for stored in self.files:
            origin = Origin(absolute(stored.name), stored.modified if self._time is None else self._time)
            try:
                with _opened(stored, origin) as self._file:
                    for lines in _form_of(stored.name, self._file).read(self._file):
                        yield Block(stored.name, lines)
            except BadFile as error:
                self.unread.append(str(error))
            self._file = None
            self._passed += stored.size
            self._undated += origin.undated
            self._on_file()

    def remarks(self) -> list[str]:
        """Returns sentences on files that were not read, the first of them by name, and on times that none states."""
        whose = "the date of its file; --time sets another" if self._time is None else f"--time, {_date(self._time)}"
        remarks = [
            (self.unread, f"{len(self.unread):,} of {len(self.files):,} files could not be read to their end"),
            (self._undated, f"{self._undated:,} records state no time, and each was taken as of {whose}"),
        ]
        return [*(text for applies, text in remarks if applies), *self.unread[:SHOWN_FILES]]

    def check(self, total: int) -> None:
        """Checks, after all of it is taken, that there was something to read.

        Raises:
            BadFile: of all the files none could be read, and so there are no records in `total`.
        """
        if self.unread and not total and len(self.unread) == len(self.files):
            rest = f" (nor can {len(self.files) - 1:,} more files be read)" if len(self.files) > 1 else ""
            raise BadFile(f"{self.unread[0]}{rest}")


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


@contextmanager
def _opened(stored: StoredFile, origin: Origin) -> Iterator[_File]:
    """Opens a file, compressed or not, and explains what goes wrong with it.

    Raises:
        BadFile: it cannot be read; also while it is read.
    """
    try:
        with stored.open() as raw:
            is_zipped = stored.name.endswith(".gz") or _peeked(raw).startswith(GZIP_MAGIC)
            yield _File(raw, stored.size, origin, is_zipped=is_zipped)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadFile(f"{stored.name}: not all of it can be decompressed: {error}") from error
    except OSError as error:
        raise BadFile(f"{stored.name}: {error.strerror or error}") from error
    except BadFile as error:
        raise BadFile(f"{stored.name}: {error}") from error


def _peeked(stream: Any) -> bytes:
    """Returns the beginning of a stream, which stays to be read."""
    head: bytes = stream.peek(HEAD)[:HEAD]
    return head.removeprefix(_MARK).lstrip()


def of_dicts(records: Iterable[Mapping[str, Any]]) -> Iterator[Block]:
    """Yields dicts as records. Values may be of numpy or pandas; NaN and None mean that nothing is stated."""
    lines = (Line(number, _json(record, _stated)) for number, record in enumerate(records, 1))
    return (Block("", lines) for lines in _gathered_lines(lines))


def _gathered_lines(lines: Iterator[Line]) -> Iterator[_Lines]:
    """Yields blocks of lines that are made here."""
    while some := list(islice(lines, BLOCK_ROWS)):
        yield partial(list, some)


def _jsonl(file: _File) -> Iterator[_Lines]:
    lines, first = _lines(file.stream), 1
    while bodies := list(islice(lines, BLOCK_ROWS)):
        whole = b"".join(bodies)
        if any(part in whole for part in _PARTS_OF_A_PLATFORM):
            yield from _gathered_lines(_of_platform_or_ours(file, first, bodies))
        else:
            yield partial(_numbered, first, bodies)
        first += len(bodies)


def _numbered(first: int, bodies: list[bytes]) -> list[Line]:
    return [Line(number, body) for number, body in enumerate(bodies, first) if not body.isspace()]


def _of_platform_or_ours(file: _File, first: int, bodies: list[bytes]) -> Iterator[Line]:
    for line in _numbered(first, bodies):
        if isinstance(line.body, bytes) and _OF_A_PLATFORM.search(line.body):
            yield from _of_json(file, line.number, line.body)
        else:
            yield line


def _of_json(file: _File, number: int, body: bytes) -> Iterable[Line]:
    """Returns a record in JSON, or what a platform tells with it."""
    try:
        record = read(body, _RECORD, Reason.MALFORMED_FEEDBACK, "record")
    except Rejected as error:
        return [Line(number, error.without_traceback())]
    platform = platform_of(record)
    return file.lines(number, record, platform) if platform else [Line(number, body)]


def _document(file: _File) -> Iterator[_Lines]:
    """Yields the elements of a JSON array, or the object that a document is."""
    whole: bytes = file.stream.read(LARGEST_DOCUMENT + 1).removeprefix(_MARK)
    if len(whole) > LARGEST_DOCUMENT:
        raise BadFile(f"a JSON document of more than {LARGEST_DOCUMENT:,} bytes; write an object a line")
    try:
        elements = read(whole, _ELEMENTS, Reason.MALFORMED_JSON, "a JSON document") if _is_list(whole) else [whole]
    except Rejected as error:
        raise BadFile(error.detail) from error
    numbered = enumerate(elements, 1)
    yield from _gathered_lines(line for number, one in numbered for line in _of_json(file, number, bytes(one)))


def _is_list(body: bytes) -> bool:
    return body.lstrip().startswith(b"[")


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Yields the lines, without a byte order mark; a line that is too long is cut."""
    mark = _MARK
    for line in iter(partial(stream.readline, LONGEST_LINE), b""):
        end = line
        while len(end) == LONGEST_LINE and not end.endswith(b"\n"):
            end = stream.readline(LONGEST_LINE)
        yield line.removeprefix(mark)
        mark = b""


_Cells: TypeAlias = "list[tuple[int, list[str] | Rejected]]"  # of lines, with their numbers


def _csv(file: _File) -> Iterator[_Lines]:
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))  # 128 KiB else, of all readers in the process
    reader = csv.reader((line.decode(errors="surrogateescape") for line in _lines(file.stream)), strict=True)
    try:
        names = next(reader, [])
    except csv.Error as error:
        raise BadFile(f"its first line names no columns: {error}") from error
    platform, rows = platform_of(names), _rows_of_cells(reader, len(names))
    columns = [] if platform else _columns(names)
    while some := list(islice(rows, BLOCK_ROWS)):
        if platform:
            yield from _gathered_lines(_of_platform_cells(file, names, platform, some))
        else:
            yield partial(_of_cells, columns, some)


def _rows_of_cells(reader: Any, width: int) -> Iterator[tuple[int, list[str] | Rejected]]:
    """Yields the cells of each line that has any, or why it cannot be used."""
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, _refused(f"CSV: {error}")
            continue
        if cells and len(cells) != width:
            yield number, _refused(f"CSV: want {width} cells, as the first line has names, got {len(cells)}")
        elif cells:
            yield number, cells


def _of_platform_cells(file: _File, names: Sequence[str], platform: Platform, rows: _Cells) -> Iterator[Line]:
    for number, cells in rows:
        if isinstance(cells, Rejected):
            yield Line(number, cells)
        else:
            yield from file.lines(number, dict(zip(names, cells, strict=True)), platform)


def _of_cells(columns: list[_Column], rows: _Cells) -> list[Line]:
    return [
        Line(number, cells if isinstance(cells, Rejected) else _from_cells(cells, columns)) for number, cells in rows
    ]


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
    return [_column(member, places) for member, places in _places_by_member(names).items()]


_WHOLE = -1  # the place of a column that holds all of its member, beside the places in a list


def _places_by_member(names: Sequence[str]) -> dict[str, dict[int, int]]:
    """Groups the indexes of columns by member, and there by the place in its list."""
    found: dict[str, dict[int, int]] = {}
    for index, name in enumerate(names):
        member, _, number = name.partition(".")
        place = int(number) if number else _WHOLE
        places = found.setdefault(member, {})
        if place in places or _WHOLE in places or (places and place == _WHOLE):
            raise BadFile(f"column {name!r} is there twice")
        places[place] = index
    return found


def _column(member: str, places: dict[int, int]) -> _Column:
    is_spread = _WHOLE not in places
    if is_spread and set(places) != set(range(len(places))):
        raise BadFile(f"columns {member}.0 to {member}.{max(places)}: want all of them")
    indexes = [index for _, index in sorted(places.items())]
    return _Column(member, indexes, is_spread=is_spread, parse=_PARSE.get(member, str))


def _from_cells(cells: list[str], columns: list[_Column]) -> bytes | Rejected:
    record: dict[str, Any] = {}
    for name, indexes, is_spread, parse in columns:
        if not is_spread:
            if text := cells[indexes[0]]:
                record[name] = parse(text)
        elif any(cells[index] for index in indexes):
            record[name] = [parse(text) if (text := cells[index]) else None for index in indexes]
    return _json(record)


def _time(text: str) -> Any:
    """Reads a cell as seconds, or else as a timestamp."""
    value = parsed(text)
    return value if isinstance(value, (int, float)) else text


# Other members are text, also where they look like a number: a request id may be 007 or 12e5.
_PARSE: dict[str, _Parse] = {**dict.fromkeys(_VALUES | _NUMBERS, parsed), **dict.fromkeys(_TIMES, _time)}


def _parquet(file: _File) -> Iterator[_Lines]:
    pa = pyarrow_or_bad_file("Parquet")
    from pyarrow import parquet

    file.share = 0.0
    first = 1
    try:
        table = parquet.ParquetFile(file.raw)
        names = table.schema_arrow.names
        platform = platform_of(names)
        columns = [] if platform else _columns(names)
        schema = pa.schema([field.with_type(_readable(pa, field.type)) for field in table.schema_arrow])
        for batch in table.iter_batches(BLOCK_ROWS):
            rows = pa.Table.from_batches([batch]).cast(schema, safe=False)
            if platform:
                yield from _gathered_lines(_of_platform_rows(file, first, rows, platform))
            else:
                yield partial(_of_rows, columns, names, first, rows)
            first += batch.num_rows
            file.share = (first - 1) / table.metadata.num_rows
    except pa.ArrowException as error:
        raise BadFile(str(error).partition("\n")[0]) from error
    except UnicodeDecodeError as error:  # of the name of a column
        raise BadFile(f"a name in its schema is not UTF-8: {error}") from error


def _of_platform_rows(file: _File, first: int, table: Any, platform: Platform) -> Iterator[Line]:
    for number, record in enumerate(_rows(table), first):
        if isinstance(record, Rejected):
            yield Line(number, record)
        else:
            yield from file.lines(number, record, platform)


def _of_rows(columns: list[_Column], names: Sequence[str], first: int, table: Any) -> list[Line]:
    return [
        Line(number, record if isinstance(record, Rejected) else _json(_gathered(record, columns, names), _stated))
        for number, record in enumerate(_rows(table), first)
    ]


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
    for name, indexes, is_spread, _ in columns:
        if not is_spread:
            gathered[name] = record[names[indexes[0]]]
            continue
        values = [record[names[index]] for index in indexes]
        if any(value is not None for value in values):
            gathered[name] = values
    return gathered


def _stated(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the members of a record that state something, as types of JSON."""
    return {name: value for name, given in record.items() if (value := _plain(given)) is not None}


def _plain(value: Any) -> Any:
    """Returns a value as a type of JSON; None where nothing is stated."""
    if isinstance(value, float):
        return _plain_number(value)
    if type(value) in _PLAIN_TYPES:
        return value
    if isinstance(value, (list, tuple)):  # most hold numbers alone, which JSON has: NaN is null there
        return value if _PLAIN_TYPES.issuperset(map(type, value)) else [_plain(element) for element in value]
    if isinstance(value, dict):
        return {name: _plain(element) for name, element in value.items()}
    return _plain_foreign(value)


def _plain_number(value: float) -> float | None:
    if math.isinf(value):
        raise Rejected(Reason.NOT_A_NUMBER, "an infinity where a number is needed")
    return None if math.isnan(value) else float(value)


def _plain_foreign(value: Any) -> Any:
    """Returns a value of a type that JSON does not have as one that it has; others as they are, for the encoder."""
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
    except _UNWRITABLE as error:
        return _unwritable(error)


def _unwritable(error: Exception) -> Rejected:
    if isinstance(error, UnicodeError):
        return Rejected(Reason.INVALID_UTF8, "a cell is not valid UTF-8")
    return _refused(f"no JSON can be made of it: {error}")


def _refused(detail: str) -> Rejected:
    return Rejected(Reason.MALFORMED_FEEDBACK, detail)


class _Form(NamedTuple):
    """A form of files.

    Attributes:
        suffixes: of names, by which it is known.
        is_its: tells by the beginning of a file of any other name whether it is of this form.
        read: yields its records in blocks.
    """

    suffixes: tuple[str, ...]
    is_its: Callable[[bytes], bool]
    read: Callable[[_File], Iterator[_Lines]]


def _is_document(head: bytes) -> bool:
    """Tells an array, or an object that is written over several lines, from an object a line."""
    return head.startswith(b"[") or head.partition(b"\n")[0].strip() == b"{"


def _is_csv(head: bytes) -> bool:
    """Tells whether the first line names columns, all of which are known."""
    names = head.partition(b"\n")[0].decode(errors="replace").strip().split(",")
    return bool(platform_of(names)) or all(name in NAMES or _SPREAD.fullmatch(name) for name in names)


_FORMS = (
    _Form((".parquet",), lambda head: head.startswith(b"PAR1"), _parquet),
    _Form((), _is_document, _document),
    _Form((".jsonl", ".ndjson"), lambda head: head.startswith(b"{"), _jsonl),
    _Form((".csv",), _is_csv, _csv),
)


def _form_of(name: str, file: _File) -> _Form:
    """Finds the form of a file by the end of its name, and where that says nothing by its content."""
    is_zipped = file.stream is not file.raw
    suffix = PurePosixPath(name.removesuffix(".gz") if is_zipped else name).suffix.lower()
    form = next((form for form in _FORMS if suffix in form.suffixes), None)
    if not form:
        head = _peeked(file.stream)
        form = next((form for form in _FORMS if form.is_its(head)), None)
    if not form or (is_zipped and form.read is _parquet):
        raise BadFile(
            "want a file named .jsonl, .csv or .parquet, or one that begins as JSON, CSV or Parquet does; "
            "all but Parquet may be compressed, as .jsonl.gz"
        )
    return form
