"""A server in this process whose store takes for ever to tell its past."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from metrics_server.api.exposition import AncestorLabels
from metrics_server.app import Server
from metrics_server.errors import StoreUnavailable
from metrics_server.metrics.window import MINUTE
from metrics_server.series.series import Labels
from metrics_server.settings import Settings
from metrics_server.store.interface import StepSums, StepSumsStream, never
from metrics_server.store.memory import MemoryStore
from tests.support.live_server import Reply, Request, send
from tests.support.running import free_port

WINE = "/v1/models/shop/wine/main/classifier"


def pairs(right: int, wrong: int, **names: str) -> list[dict[str, Any]]:
    return [
        *({"truth": "cat", "prediction": "cat", **names},) * right,
        *({"truth": "cat", "prediction": "dog", **names},) * wrong,
    ]


# What takes long


class EndlessStore(MemoryStore):
    """Its past takes for ever to read."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()
        self.ended = threading.Event()

    def steps(
        self, series_id: int, since: int, until: int, step: int, is_over: Callable[[], bool] = never
    ) -> StepSumsStream:
        self.begun.set()
        while not is_over():
            self.ended.wait(0.001)
        self.ended.set()
        raise StoreUnavailable("it is over")
        yield StepSums(0, MINUTE, {})


class Endless:
    """A server in this process on such a store, and clients that ask it; each in a thread of its own."""

    def __init__(self) -> None:
        self.store = EndlessStore()
        self.port = free_port()
        self.server = Server(
            Settings(http_port=self.port, host="127.0.0.1", drain_seconds=30.0),
            self.store,
            Labels("", "", "", ""),
            AncestorLabels("", "", "", ""),
        )
        self._clients = ThreadPoolExecutor(64)

    def ask(self, path: str, body: Any = None) -> asyncio.Future[Reply]:
        request = None if body is None else Request({"Content-Type": "application/json"}, json.dumps(body).encode())
        return asyncio.get_running_loop().run_in_executor(self._clients, partial(send, self.port, request, path))

    async def start(self) -> None:
        await self.server.start()
        names = {"namespace": "shop", "deployment": "wine", "predictor": "main", "model": "classifier"}
        assert (await self.ask("/v1/feedback", [{**names, **pair} for pair in pairs(1, 1)])).status == 200

    async def begun(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.store.begun.wait, 10)

    async def ended(self) -> bool:
        return await asyncio.get_running_loop().run_in_executor(None, self.store.ended.wait, 10)
