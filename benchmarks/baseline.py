"""The yardstick: the least that a Tornado handler can do with a POST, on stock Tornado and asyncio. `baseline.py PORT`."""

from __future__ import annotations

import asyncio
import sys

from tornado.web import Application, RequestHandler


class DoNothing(RequestHandler):
    """Answers 200 without looking."""

    def post(self) -> None:
        """Nothing."""

    def get(self) -> None:
        """Nothing; tells that the server is there."""


async def main(port: int) -> None:
    """Serves until the process is ended."""
    Application([(r"/.*", DoNothing)]).listen(port, "127.0.0.1")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
