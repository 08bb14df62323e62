# ruff: noqa: INP001 - a program of one file, mounted into a container
"""Stands in for Slack: takes what is posted to an incoming webhook, prints it to be read, and lists it as JSON on GET
/.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import deque
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEPT_MESSAGES = 1000
MAX_BODY_BYTES = 2**20


def lines_of(message: dict[str, Any]) -> list[str]:
    """What a channel would show: the text, then title and text of each attachment, indented."""
    channel = message.get("channel", "")
    lines = [f"{channel} {message.get('text', '')}".strip()]
    for attachment in message.get("attachments", []):
        lines.append(f"  {attachment.get('title') or attachment.get('fallback', '')}")
        lines += [f"    {line}" for line in str(attachment.get("text", "")).splitlines()]
        lines += [f"    {field.get('title')}: {field.get('value')}" for field in attachment.get("fields") or []]
    return [line for line in lines if line.strip()]


class Handler(BaseHTTPRequestHandler):
    """The webhook on every path."""

    server: Receiver

    def do_POST(self) -> None:
        """Answers as Slack: `ok`, or 400 and a word on what is wrong."""
        size = int(self.headers.get("Content-Length") or 0)
        if size > MAX_BODY_BYTES:
            self._answer(413, "text/plain", b"too_large")
            return
        try:
            message = json.loads(self.rfile.read(size))
            lines = lines_of(message)
        except (ValueError, AttributeError):  # no JSON, or JSON of another shape
            self._answer(400, "text/plain", b"invalid_payload")
            return
        if not message.get("text") and not message.get("attachments") and not message.get("blocks"):
            self._answer(400, "text/plain", b"no_text")
            return
        self.server.messages.append(message)
        at = datetime.now(UTC).strftime("%H:%M:%S")
        sys.stdout.write("".join(f"{at} {line}\n" for line in lines))
        sys.stdout.flush()
        self._answer(200, "text/plain", b"ok")

    def do_GET(self) -> None:
        """All messages that are kept, the oldest first, as they came."""
        self._answer(200, "application/json", json.dumps(list(self.server.messages), indent=1).encode())

    def log_message(self, *_: object) -> None:
        """Only messages are printed, no requests."""

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Receiver(ThreadingHTTPServer):
    """Holds the messages, in memory alone."""

    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        super().__init__((host, port), Handler)
        self.messages: deque[dict[str, Any]] = deque(maxlen=KEPT_MESSAGES)


def main() -> None:
    """Serves until it is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=8060, help="port to listen on; 0 takes a free one (default: %(default)s)"
    )
    options = parser.parse_args()
    with Receiver(options.host, options.port) as receiver:
        sys.stdout.write(f"Listening on http://{options.host}:{receiver.server_port}\n")
        sys.stdout.flush()
        try:
            receiver.serve_forever()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
