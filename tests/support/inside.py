"""A whole server in a thread of the test's own process, whose limits of time a test can change."""

from __future__ import annotations

import asyncio
import threading

import uvloop

from metrics_server.api.exposition import AncestorLabels
from metrics_server.app import Server
from metrics_server.series.series import Labels
from metrics_server.settings import Settings
from metrics_server.store.memory import MemoryStore
from tests.support.running import free_port


class Inside:
    """A server in a thread of this process."""

    def __init__(self) -> None:
        self.port = free_port()
        self.drained: bool | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._serve()))

    def __enter__(self) -> Inside:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *unused: object) -> None:
        self.stop()

    def stop(self) -> bool | None:
        """Stops and says whether every request had been answered."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(30)
        return self.drained

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        settings = Settings(http_port=self.port, store="memory://", max_body_bytes=100_000, drain_seconds=0.5)
        server = Server(settings, MemoryStore(), Labels("", "", "", ""), AncestorLabels("", "", "", ""))
        await server.start()
        self._ready.set()
        await self._stop.wait()
        self.drained = await server.stop()
