"""A limit to how long the database may take to answer.

A server that hangs, or a network that is cut, keeps a connection open: TCP tells of neither for minutes, and nothing
that is asked of the server itself helps. The connection is shut from this side; who waits for it hears that it ended.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from psycopg import Connection

LOOK_SECONDS = 0.25


class Watchdog:
    """Shuts a connection that does not answer in time. One thread at a time may be `within` a limit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deadline = math.inf
        self._descriptor = -1
        self._is_closed = threading.Event()
        threading.Thread(target=self._watch, name="postgres-watchdog", daemon=True).start()

    @contextmanager
    def within(self, seconds: float, connection: Connection) -> Iterator[None]:
        """Lets what is done within take so long at most; the limit of what it is part of goes on afterwards."""
        with self._lock:
            outer, self._deadline = self._deadline, time.monotonic() + seconds
            self._descriptor = connection.fileno()
        try:
            yield
        finally:
            with self._lock:
                self._deadline = outer

    def close(self) -> None:
        """Ends the watch."""
        self._is_closed.set()

    def _watch(self) -> None:
        while not self._is_closed.wait(LOOK_SECONDS):
            with self._lock:
                if time.monotonic() > self._deadline:
                    self._deadline = math.inf
                    # Of a copy: closing it leaves the connection its own descriptor.
                    with suppress(OSError), socket.socket(fileno=os.dup(self._descriptor)) as copy:
                        copy.shutdown(socket.SHUT_RDWR)
