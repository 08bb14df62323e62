"""`metrics-server`: settings → store → server, until SIGTERM or Ctrl-C, then drain. Wiring only."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence

import uvloop

from metrics_server.app import Server
from metrics_server.errors import BadConfiguration, StoreRefused, StoreUnavailable
from metrics_server.exposition import AncestorLabels
from metrics_server.settings import Settings, default_labels, image_of, load
from metrics_server.store import open_store

logger = logging.getLogger("metrics_server")

# Python hands the interpreter from one thread to another every 5 ms at best; the writer asks for it back after every statement,
# so that a busy event loop would make each of them take that long. 0.5 ms costs nothing measurable.
SWITCH_SECONDS = 0.0005


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status: 0 after a clean stop, 1 when it could not start, 2 for wrong usage."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["simulate"]:
        from metrics_server.simulator import main as simulate

        return simulate(words[1:])
    try:
        settings = load(words, os.environ)
    except BadConfiguration as error:
        print(f"metrics-server: {error}\nSee metrics-server --help.", file=sys.stderr)
        return 2
    _set_up_logging(settings)
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        return uvloop.run(_serve(settings))
    except (BadConfiguration, StoreRefused, StoreUnavailable) as error:
        print(f"metrics-server: {error}", file=sys.stderr)
        return 1


def _set_up_logging(settings: Settings) -> None:
    logging.basicConfig(level=settings.log_level.upper(), format="[%(levelname).1s %(asctime)s %(module)s:%(lineno)d] %(message)s")
    # Documented ways to make a record cheaper; nothing here prints these fields.
    logging.logThreads = logging.logMultiprocessing = logging.logProcesses = False
    logging.getLogger("tornado.access").setLevel(logging.ERROR)


async def _serve(settings: Settings) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    store = open_store(settings.store)
    try:
        ancestor = AncestorLabels(settings.event_type or "NOT_IMPLEMENTED", *image_of(os.environ))
        server = Server(settings, store, default_labels(os.environ), ancestor)
        await server.start()
    except BaseException:
        store.close()
        raise
    _greet(settings)
    await stop.wait()
    logger.info("Stopping")
    drained = await server.stop()
    logger.info("Stopped" if drained else "Stopped with events unanswered after --drain_seconds %g", *(() if drained else (settings.drain_seconds,)))
    return 0 if drained else 1


def _greet(settings: Settings) -> None:
    logger.info("Registering model:%s", settings.model_name)
    logger.info("Listening on port %d (%s), state in %s", settings.http_port, settings.host, settings.store)
    if settings.elasticsearch_uri:
        logger.warning("--elasticsearch_uri is accepted but nothing is looked up there: log predictions to this server instead")
    if settings.host not in ("127.0.0.1", "localhost", "::1") and not settings.token_file:
        logger.info("Any client that reaches this address may send events; --token_file asks them for a token")


if __name__ == "__main__":
    sys.exit(main())
