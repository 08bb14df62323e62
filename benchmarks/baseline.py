"""The yardstick: the least that a Tornado handler can do with a POST, on stock Tornado and asyncio. `baseline.py
PORT`."""

from __future__ import annotations

import asyncio
import sys

from tornado.web import Application, RequestHandler


class DoNothing(RequestHandler):
    """Answers 200 without looking. GET shows what was last sent: a body to decode, for `decoding.py`."""

    last = b""

    def post(self) -> None:
        """Nothing, but that the body is not let go of yet."""
        DoNothing.last = self.request.body

    def get(self) -> None:
        """Tells that the server is there."""
        self.finish(self.last)


async def main(port: int) -> None:
    """Serves until the process is ended."""
    Application([(r"/.*", DoNothing)]).listen(port, "127.0.0.1")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
