"""A real server process on a free loopback port, and requests to it as raw bytes: what client libraries would never
send."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.exposed import samples_of
from tests.support.running import ServerProcess, launch

ANSWER_SECONDS = 20.0


class Answer(NamedTuple):
    """One HTTP answer; status 0 when none came."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def reason(self) -> str:
        """The reason of the error in the body, "" when it holds none."""
        error = json.loads(self.body) if self.body else {}
        return str(error.get("error", {}).get("reason", "")) if isinstance(error, dict) else ""


NONE = Answer(0, {}, b"")


def request(
    target: str = "/",
    body: bytes | Any = b"",
    *headers: str,
    method: str = "POST",
    length: bool = True,
    close: bool = True,
) -> bytes:
    """The bytes of a request; a body that is not bytes is written as JSON. Header lines are sent as Latin-1."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {target} HTTP/1.1", "Host: test", *headers]
    lines += [f"Content-Length: {len(content)}"] * (length and method not in ("GET", "HEAD", "OPTIONS"))
    lines += ["Connection: close"] * close
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + content


def chunked(body: bytes, *headers: str) -> bytes:
    """The bytes of a POST whose length is not said beforehand."""
    head = request("/", b"", "Transfer-Encoding: chunked", *headers, length=False)
    return head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


class Client:
    """One connection, used by hand."""

    def __init__(self, port: int, timeout: float = ANSWER_SECONDS) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self._rest = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *unused: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Sends as much as the server takes; it may have answered and closed before the end."""
        with contextlib.suppress(ConnectionError, TimeoutError):
            self.socket.sendall(data)

    def end(self) -> None:
        """Says that nothing more will be sent."""
        self.socket.shutdown(socket.SHUT_WR)

    def answer(self, *, head: bool = False) -> Answer:
        """The next answer, without interim ones; `NONE` when the server closes or stays silent instead."""
        while b"\r\n\r\n" not in self._rest:
            if not self._more():
                return NONE
        text, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first, *lines = text.decode("latin-1").split("\r\n")
        status = int(first.split()[1])
        if status == 100:
            return self.answer(head=head)
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = 0 if head else int(headers.get("content-length", 0))
        while len(self._rest) < length:
            if not self._more():
                return NONE
        body, self._rest = self._rest[:length], self._rest[length:]
        return Answer(status, headers, body)

    def is_closed(self) -> bool:
        """Whether the server has closed its side, without another byte."""
        try:
            return not self._rest and not self.socket.recv(1)
        except ConnectionError:
            return True
        except TimeoutError:
            return False

    def _more(self) -> bool:
        try:
            data = self.socket.recv(65536)
        except (ConnectionError, TimeoutError):
            return False
        self._rest += data
        return bool(data)


class Page(NamedTuple):
    """/v1/metrics, read by the strict parser."""

    samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float]

    @property
    def models(self) -> dict[Any, float]:
        """The samples about models, which no refused event may move."""
        return {key: value for key, value in self.samples.items() if key[0].startswith(("model_", "seldon_metric_"))}

    def by(self, name: str, label: str) -> dict[str, float]:
        """The samples of a name that are not 0, added up by one label."""
        found: dict[str, float] = {}
        for (sample, labels), value in self.samples.items():
            if sample == name and value:
                key = dict(labels)[label]
                found[key] = found.get(key, 0.0) + value
        return found

    @property
    def rejected(self) -> dict[str, float]:
        return self.by("metrics_server_rejected_total", "reason")

    @property
    def outcomes(self) -> dict[str, float]:
        return self.by("metrics_server_events_total", "outcome")

    @property
    def received(self) -> float:
        return sum(self.by("metrics_server_received_total", "type").values())


class Served:
    """A running server process."""

    def __init__(self, port: int, process: ServerProcess) -> None:
        self.port = port
        self.process = process
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, data: bytes, *, head: bool = False) -> Answer:
        """The answer to these bytes on a connection of their own."""
        with Client(self.port) as client:
            client.send(data)
            return client.answer(head=head)

    def page(self) -> Page:
        answer = self.ask(request("/v1/metrics", method="GET"))
        assert answer.status == 200
        samples = samples_of(answer.body.decode())
        return Page({(s.name, frozenset(s.labels.items())): s.value for s in samples})


@contextlib.contextmanager
def serving(*options: str) -> Iterator[Served]:
    """A server process with an empty state in memory; killed at the end if it does not stop."""
    with tempfile.TemporaryDirectory() as directory:
        process, port = launch(Path(directory) / "server.log", "--store", "memory://", "--drain_seconds", "1", *options)
        try:
            yield Served(port, process)
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
        finally:
            process.kill()
            process.wait()
