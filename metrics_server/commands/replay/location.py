"""Where files lie: one file, all of a directory, or the objects of a bucket."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from metrics_server.errors import MetricsServerError

BUFFER = 4 * 2**20  # bytes of an object that are asked for at a time: each time is a request

# What pyarrow opens. `file` is a local directory in the same way.
SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss", "file")
_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")


class BadFile(MetricsServerError):
    """A file cannot be replayed; the message says why."""


class StoredFile(NamedTuple):
    """A file that can be opened.

    Attributes:
        name: its path as given, or its URL without credentials and options.
        size: in bytes, as it is stored.
        modified: when it was last written, in UTC seconds; None where that is not known.
        open: opens it for reading, at its beginning.
    """

    name: str
    size: int
    modified: float | None
    open: Callable[[], IO[bytes]]


def pyarrow_or_bad_file(what: str) -> Any:
    """Imports pyarrow, an extra.

    Raises:
        BadFile: it is not installed; the message says for what it is needed.
    """
    try:
        import pyarrow as pa
    except ImportError as error:
        raise BadFile(
            f"{what} needs the extra parquet, the package pyarrow ({error}): "
            "pip install 'feedback-metrics-server[parquet]'"
        ) from error
    return pa


def files_at(location: str) -> list[StoredFile]:
    """Finds a file, or all files below a directory or a prefix, sorted by name.

    Below a directory hidden files and empty ones are left out: they hold no records.

    Raises:
        BadFile: there is nothing, or it cannot be asked for.
    """
    url = _URL.match(location)
    try:
        if not url:
            return _local_files(Path(location))
        if url[1].lower() in SCHEMES:
            return _remote_files(location, url[1])
    except OSError as error:
        raise BadFile(f"{_without_secrets(location)}: {error.strerror or error}") from error
    raise BadFile(f"{_without_secrets(location)}: want a path, or a URL with one of {', '.join(SCHEMES)}")


def _local_files(path: Path) -> list[StoredFile]:
    if not path.is_dir():
        return [_local_file(path)]
    found = (below for below in path.rglob("*") if below.is_file() and not _is_hidden(below.relative_to(path)))
    return _holding_something(map(_local_file, found))


def _local_file(path: Path) -> StoredFile:
    state = path.stat()
    return StoredFile(str(path), state.st_size, state.st_mtime, lambda: path.open("rb"))


def _remote_files(url: str, scheme: str) -> list[StoredFile]:
    pa = pyarrow_or_bad_file(f"{scheme}://")
    from pyarrow import fs

    try:
        system, base = fs.FileSystem.from_uri(url)
        root = system.get_file_info(base)
        if root.type == fs.FileType.NotFound:
            raise BadFile(f"{_without_secrets(url)}: no such file or directory")
        if root.type == fs.FileType.File:
            return [_remote_file(system, root, scheme)]
        found = system.get_file_info(fs.FileSelector(base, recursive=True))
    except pa.ArrowException as error:
        raise BadFile(f"{_without_secrets(url)}: {error}") from error
    return _holding_something(
        _remote_file(system, info, scheme)
        for info in found
        if info.type == fs.FileType.File and not _is_hidden(PurePosixPath(info.path.removeprefix(base).lstrip("/")))
    )


def _remote_file(system: Any, info: Any, scheme: str) -> StoredFile:
    modified = info.mtime.timestamp() if info.mtime else None
    return StoredFile(f"{scheme}://{info.path}", info.size, modified, partial(_remotely_opened, system, info.path))


def _remotely_opened(system: Any, path: str) -> IO[bytes]:
    return io.BufferedReader(system.open_input_file(path), BUFFER)


def _is_hidden(path: Path | PurePosixPath) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _holding_something(files: Iterable[StoredFile]) -> list[StoredFile]:
    return sorted((file for file in files if file.size), key=lambda file: file.name)


def _without_secrets(url: str) -> str:
    """Returns a URL as it may be shown: `s3://key:secret@bucket/a?endpoint_override=…` has both in it."""
    return re.sub(r"://[^/@]*:[^/@]*@", "://", url.partition("?")[0]) if _URL.match(url) else url


def absolute(name: str) -> str:
    """Returns a file's name with all directories that it lies in."""
    return name if _URL.match(name) else str(Path(name).absolute())
