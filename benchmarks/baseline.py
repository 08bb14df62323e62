"""`baseline.py PORT`: the yardstick, the least that a Tornado handler can do with a POST on stock Tornado."""

from __future__ import annotations

import asyncio
import sys

from tornado.web import Application, RequestHandler


class DoNothing(RequestHandler):
    """Responds 200 to every POST. GET returns the last body, for `decoding.py` to decode."""

    last = b""

    def post(self) -> None:
        """Keeps the body, and does nothing else."""
        DoNothing.last = self.request.body

    def get(self) -> None:
        """Returns the last body; also tells that the server is up."""
        self.finish(self.last)


async def main(port: int) -> None:
    """Serves until the process is ended."""
    Application([(r"/.*", DoNothing)]).listen(port, "127.0.0.1")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
