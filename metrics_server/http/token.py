"""Bearer tokens: who may send, read or retire, by the tokens in files."""

from __future__ import annotations

import hmac
from base64 import b64decode
from pathlib import Path
from urllib.parse import parse_qs

from metrics_server.errors import BadConfiguration, Unauthorized
from metrics_server.http.watched_files import WatchedFiles

MAX_FILE_BYTES = 64 * 2**10

TokenFile = WatchedFiles[tuple[bytes, ...]]


def token_file(option: str, path: str) -> TokenFile:
    """The tokens in a file, one a line; raises BadConfiguration if there is none."""
    return WatchedFiles([path], lambda: _tokens_in(option, path))


def _tokens_in(option: str, path: str) -> tuple[bytes, ...]:
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BadConfiguration(f"--{option} {path}: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise BadConfiguration(f"--{option} {path} is larger than {MAX_FILE_BYTES} bytes")
    if not (tokens := tuple(line.strip() for line in content.splitlines() if line.strip())):
        raise BadConfiguration(f"--{option} {path} is empty")
    return tokens


class Tokens:
    """The tokens that open one thing; without a file it is open to all."""

    def __init__(self, *files: TokenFile) -> None:
        self._files = files

    @property
    def are_wanted(self) -> bool:
        return bool(self._files)

    def check(self, shown: str) -> None:
        """Raises `Unauthorized` unless one of the tokens is shown. Takes as long whichever it is, or if it is none."""
        sent = shown.encode()
        matches = [hmac.compare_digest(sent, token) for file in self._files for token in file.content]
        if not any(matches):
            raise Unauthorized(is_shown=bool(shown))


def token_of_sender(authorization: str, query: str) -> str:
    """The bearer token of a request, or access_token in its query, for senders that cannot set headers (CloudEvents 1.0
    web hooks, 3.2).
    """
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else parse_qs(query).get("access_token", [""])[0].strip()


def token_of_reader(authorization: str) -> str:
    """The bearer token of a request, or the password that a browser has asked for (RFC 7617). None in the query, which
    histories and logs keep.
    """
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "basic":
        return token.strip() if scheme.lower() == "bearer" else ""
    try:
        return b64decode(token.strip(), validate=True).decode().partition(":")[2]
    except ValueError:  # neither Base64 nor UTF-8
        return ""
