"""A real receiver of replies, and what a server has counted of them."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def receiving(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serves a handler in a thread; yields its address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as receiver:
        thread = threading.Thread(target=receiver.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{receiver.server_address[1]}/"
        receiver.shutdown()
        thread.join()


def await_outcome(server: Any, outcome: str, count: float) -> None:
    """Waits until a server has counted so many replies with this outcome."""
    for _ in range(200):
        if server.value("metrics_server_replies_total", outcome=outcome) == count:
            return
        threading.Event().wait(0.05)
    raise AssertionError(server.get("/metrics").body.decode())
