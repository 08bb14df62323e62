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

import psycopg
from psycopg import Connection

LOOK_SECONDS = 0.25


class Watchdog:
    """Shuts connections that do not answer in time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deadlines: dict[Connection, float] = {}
        self._is_closed = threading.Event()
        threading.Thread(target=self._watch, name="postgres-watchdog", daemon=True).start()

    @contextmanager
    def within(self, seconds: float, connection: Connection) -> Iterator[None]:
        """Lets what is done within take so long at most; the limit of what it is part of goes on afterwards."""
        with self._lock:
            outer = self._deadlines.get(connection)
            self._deadlines[connection] = time.monotonic() + seconds
        try:
            yield
        finally:
            with self._lock:
                if outer is None:
                    del self._deadlines[connection]
                else:
                    self._deadlines[connection] = outer

    def close(self) -> None:
        """Ends the watch."""
        self._is_closed.set()

    def _watch(self) -> None:
        while not self._is_closed.wait(LOOK_SECONDS):
            with self._lock:
                now = time.monotonic()
                for connection in [one for one, deadline in self._deadlines.items() if now > deadline]:
                    self._deadlines[connection] = math.inf
                    # Of a copy: closing it leaves the connection its own descriptor.
                    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as copy:
                        copy.shutdown(socket.SHUT_RDWR)
