# ruff: noqa: INP001 - runs as a script, from a ConfigMap
"""Prints a line for each event it is sent: what it is, and why it could not be delivered. Payloads are not printed."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

# What a broker adds to an event that it could not deliver: where to, and how that answered.
SHOWN = ("type", "source", "id", "requestid", "inferenceservicename", "knativeerrordest", "knativeerrorcode")


class Printer(BaseHTTPRequestHandler):
    """Answers 202 without a body: a body would be a reply."""

    protocol_version = "HTTP/1.1"
    timeout = 120

    def do_POST(self) -> None:
        """Takes an event in binary mode; of others only the length is known."""
        length = int(self.headers.get("Content-Length") or 0)
        for _ in range(0, length, 65536):
            self.rfile.read(min(65536, length))
            length -= 65536
        named = ((name, self.headers.get(f"Ce-{name}")) for name in SHOWN)
        line = " ".join(f"{name}={unquote(value)!r}" for name, value in named if value) or "an event in another mode"
        print(line, flush=True)  # noqa: T201
        self._answer(202)

    def do_GET(self) -> None:
        """Probes."""
        self._answer(200)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing of requests: probes come every few seconds."""


if __name__ == "__main__":
    ThreadingHTTPServer(("", int(sys.argv[1])), Printer).serve_forever()
