"""Load that no server can tell from a repetition: rows of feedback without any id."""

from __future__ import annotations

import http.client
import json
import random
import threading

from tests.support.fleet import Fleet, pairs


class RowsWithoutIds(threading.Thread):
    """Posts rows that nobody could tell from others, each once; an answer may be lost."""

    DEPLOYMENT = "rows"

    def __init__(self, servers: Fleet) -> None:
        super().__init__(daemon=True)
        self._servers = servers
        self._chance = random.Random(3)
        self._halt = threading.Event()
        self.sent = self.acknowledged = 0

    def run(self) -> None:
        while not self._halt.wait(0.02):
            rows = self._chance.randint(1, 5)
            row = {"truth": "cat", "prediction": "dog", "namespace": "shop", "deployment": self.DEPLOYMENT}
            self.sent += rows
            connection = http.client.HTTPConnection("127.0.0.1", self._chance.choice(self._servers.ports()), timeout=40)
            try:
                connection.request(
                    "POST", "/v1/feedback", json.dumps([row] * rows).encode(), {"Content-Type": "application/json"}
                )
                reply = connection.getresponse()
                statuses = [told["status"] for told in json.loads(reply.read())] if reply.status == 200 else []
                self.acknowledged += statuses.count("accepted")
            except (OSError, http.client.HTTPException):
                pass
            finally:
                connection.close()

    def end(self) -> None:
        self._halt.set()
        self.join(60)

    def assert_counted(self) -> None:
        """They count at least as often as they were acknowledged, at most as often as they were sent."""
        counted = pairs(self._servers.servers[0])[self.DEPLOYMENT]
        print(f"rows without ids: {self.acknowledged} <= {counted} <= {self.sent}")
        assert self.acknowledged <= counted <= self.sent
