"""`metrics-server`: settings → store → server, until SIGTERM or Ctrl-C, then drain. Wiring only."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib import import_module
from ipaddress import ip_address
from pathlib import Path

import uvloop

from metrics_server.api.exposition import AncestorLabels
from metrics_server.app import Server
from metrics_server.errors import BadConfiguration, StoreRefused, StoreUnavailable
from metrics_server.http.access import Access
from metrics_server.http.prefork import WorkerPlace, Workers, worker_place
from metrics_server.http.watched_files import WatchedFiles
from metrics_server.ingest.pod import default_labels, image_of
from metrics_server.settings import Settings, config_file, load
from metrics_server.store import open_store, redacted
from metrics_server.store.migration import refuse_unfinished

logger = logging.getLogger("metrics_server")

# Python hands the interpreter from one thread to another every 5 ms at best; the writer asks for it back after every
# statement, so that a busy event loop would make each of them take that long. 0.5 ms costs nothing measurable.
SWITCH_SECONDS = 0.0005

# Next to nothing here forms cycles, and a collection looks at every pending record of a memory store: measured, the
# default thresholds cost a quarter of the throughput, and a quarter of these a sixth of that of batches.
GC_THRESHOLDS = (200_000, 20, 100)

# glibc maps a block of so many bytes by itself, and gives it back when it is freed; but each larger one that is freed
# raises the limit (mallopt(3)), and then a page of 30 MiB, scraped once, stays in memory for good.
M_MMAP_THRESHOLD = -3  # of malloc.h
MAPPED_BYTES = 2**20

COMMANDS = {  # imported when they are asked for: a server needs none of them
    "simulate": "metrics_server.commands.simulation.command",
    "replay": "metrics_server.commands.replay.command",
    "migrate": "metrics_server.commands.migrate",
}

ROOT = Path("/")
MARKS = (".dockerenv", "run/.containerenv")  # files that Docker and Podman put into a container

LOG_BUFFER = 64 * 2**10  # characters that wait for the others, and
LOG_FLUSH_SECONDS = 0.2  # how long
LOG_LIMIT = 4 * 2**20  # characters that wait while nobody reads: a second of the most that is logged
LOG_EXIT_SECONDS = 1.0  # for what is left at the end


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status: 0 after a clean stop, 1 when it could not start, 2 for wrong
    usage.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in COMMANDS:
        run: Callable[[Sequence[str]], int] = import_module(COMMANDS[words[0]]).main
        return run(words[1:])
    log = _set_up_logging()
    try:
        config = _watched_config(words)
        settings = load(words, os.environ) if config is None else config.content
    except BadConfiguration as error:
        print(f"metrics-server: {error}\nSee metrics-server --help.", file=sys.stderr)
        return 2
    logging.getLogger().setLevel(settings.log_level.upper())
    if settings.log_format == "json":
        log.setFormatter(JsonFormatter())
    if settings.workers > 1 and worker_place(os.environ) is None:
        return _run_workers(words, settings, reloads=config is not None)
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(*GC_THRESHOLDS)
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES)
    try:
        return uvloop.run(_serve(settings, log, config))
    except (BadConfiguration, StoreRefused, StoreUnavailable) as error:
        print(f"metrics-server: {error}", file=sys.stderr)
        return 1


def _watched_config(words: Sequence[str]) -> WatchedFiles[Settings] | None:
    path = config_file(words, os.environ)
    return WatchedFiles([path], lambda: load(words, os.environ)) if path else None


def _run_workers(words: Sequence[str], settings: Settings, *, reloads: bool) -> int:
    if not settings.store.startswith("postgresql://"):
        print(
            f"metrics-server: --workers {settings.workers} needs --store postgresql://…: a store in one file or in"
            " memory has one process that writes",
            file=sys.stderr,
        )
        return 2
    try:  # two servers on one port would each get a part of the connections, and none would say so
        socket.create_server((settings.host, settings.http_port)).close()
    except OSError as error:
        print(
            f"metrics-server: --host {settings.host} --http_port {settings.http_port}: {error.strerror}",
            file=sys.stderr,
        )
        return 1
    return Workers(words, settings.workers, reloads=reloads).run()


class _Formatter(logging.Formatter):
    """[I 2026-03-02 09:15:04 module] message, with the time written out once a second: there is a line for every
    feedback.
    """

    def __init__(self) -> None:
        super().__init__("[%(levelname).1s %(asctime)s %(name)s] %(message)s")
        self._second, self._text = 0, ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - its name there
        if (second := int(record.created)) != self._second:
            self._text, self._second = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second)), second
        return self._text


class JsonFormatter(logging.Formatter):
    """One object: time (RFC 3339), level, logger, message; the trace of the event that it is about; what was raised.

    {"time": "2026-03-02T09:15:04.120Z", "level": "INFO", "logger": "metrics_server", "message": "Stopping"}
    """

    def format(self, record: logging.LogRecord) -> str:
        time_ = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        told = {
            "time": time_.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if trace_id := getattr(record, "trace_id", ""):
            told["trace_id"] = trace_id
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told)


class LogHandler(logging.Handler):
    """Writes lines to a file descriptor in a thread of its own: a pipe that nobody reads holds up nobody else.

    A record with an attribute `times` stands for so many lines: those of a batch cost as much as one. When too much
    waits to be written, lines are dropped and counted, and as soon as the others have left one more says how many.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.on_dropped: Callable[[int], None] = lambda lines: None
        self._descriptor = descriptor
        self._texts: deque[str] = deque()
        # Ever, in characters: what was queued is counted up by who logs, what was written in the thread.
        self._queued = self._written = 0
        self._dropped = self._dropped_told = 0
        self._wake = threading.Event()
        threading.Thread(target=self._run, name="log", daemon=True).start()  # a pipe must not keep the process

    def emit(self, record: logging.LogRecord) -> None:
        """Queues the lines of a record; called under the handler's lock."""
        try:
            times = getattr(record, "times", 1)
            waiting = self._queued - self._written
            if waiting > LOG_LIMIT:
                self._drop(times)
                return
            text = f"{self.format(record)}\n" * times
            self._texts.append(text)
            self._queued += len(text)
            if (waiting > LOG_BUFFER or record.levelno >= logging.WARNING) and not self._wake.is_set():
                self._wake.set()
        except Exception:  # noqa: BLE001 - as every handler of logging does
            self.handleError(record)

    def _drop(self, lines: int) -> None:
        self._dropped += lines
        self.on_dropped(lines)

    def flush(self) -> None:
        """Waits until everything is written, but not long: perhaps nobody reads."""
        deadline = time.monotonic() + LOG_EXIT_SECONDS
        self._wake.set()
        while self._written < self._queued and time.monotonic() < deadline:
            time.sleep(0.005)

    def _run(self) -> None:
        """Writes what is queued: lines less severe than a warning leave together, a few times a second."""
        while True:
            self._wake.wait(LOG_FLUSH_SECONDS)
            self._wake.clear()
            while self._texts:
                text = "".join([self._texts.popleft() for _ in range(len(self._texts))])
                self._write(memoryview(text.encode(errors="backslashreplace")))
                self._written += len(text)
            if self._dropped > self._dropped_told:
                lines, self._dropped_told = self._dropped - self._dropped_told, self._dropped
                logger.warning("%d lines of this log were dropped, as standard error was not read", lines)

    def _write(self, data: memoryview) -> None:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # whoever gave us the file has made it so
                select.select((), (self._descriptor,), ())
            except OSError:  # its reader has gone, or the disk is full; to say it in the log would be no use
                self.on_dropped(bytes(data).count(b"\n"))
                return


def _set_up_logging() -> LogHandler:
    handler = LogHandler(sys.stderr.fileno())
    handler.setFormatter(_Formatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # Documented ways to make a record cheaper; nothing here prints these fields.
    logging.logThreads = logging.logMultiprocessing = logging.logProcesses = False
    logging._srcfile = ""  # noqa: SLF001 - as the logging documentation says, for no look at the stack
    logging.getLogger("tornado.access").setLevel(logging.ERROR)
    logging.getLogger("tornado.general").setLevel(
        logging.ERROR
    )  # a peer's bad certificate, at each attempt; we say it once
    return handler


async def _serve(settings: Settings, log: LogHandler, config: WatchedFiles[Settings] | None) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    worker = worker_place(os.environ)
    if worker is not None:
        loop.add_reader(worker.parent_pipe, stop.set)  # it has an end with the parent
    server = await _started(settings, log, worker, config)
    _greet(settings, server.access)
    gc.freeze()
    await stop.wait()
    if worker is not None:
        loop.remove_reader(worker.parent_pipe)
    logger.info("Stopping")
    drained = await server.stop()
    if drained:
        logger.info("Stopped")
    else:
        logger.warning("Stopped with events unanswered after --drain_seconds %g", settings.drain_seconds)
    return 0 if drained else 1


async def _started(
    settings: Settings, log: LogHandler, worker: WorkerPlace | None, config: WatchedFiles[Settings] | None
) -> Server:
    """Opens the store and starts a server on it; closes the store when that fails."""
    store = open_store(settings.store)
    try:
        refuse_unfinished(store)
        ancestor = AncestorLabels(settings.event_type or "NOT_IMPLEMENTED", *image_of(os.environ))
        server = Server(
            settings,
            store,
            default_labels(os.environ),
            ancestor,
            os.environ.get("ELASTICSEARCH_API_KEY", ""),
            worker=worker,
            config=config,
        )
        log.on_dropped = server.count_dropped_log_lines
        await server.start()
        if config is not None:  # a server without one ends with its terminal, as ever
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGHUP, lambda: asyncio.ensure_future(server.reload()))
    except BaseException:
        store.close()
        raise
    return server


def _state_file(store: str) -> Path | None:
    """The store's file with its whole path: a relative one, or a slash too few, is how a volume is missed."""
    _, separator, path = store.partition(":///")
    return Path(path).absolute() if separator and path else None


def _greet(settings: Settings, access: Access) -> None:
    file = _state_file(settings.store)
    logger.info("Registering model:%s", settings.model_name)
    location = f"{settings.store.partition(':///')[0]}:///{file}" if file else redacted(settings.store)
    logger.info("Listening on port %d (%s), state in %s", settings.http_port, settings.host, location)
    if file and in_container(os.environ) and not on_volume(file):
        logger.info("The state goes with this container; a volume at %s would keep it longer", file.parent)
    if not access.guards_sending and not is_loopback(settings.host):
        what = "send events" if access.guards_reading else "send events and read what models do"
        logger.warning(
            "Any client that reaches %s may %s; --send_token_file and --read_token_file ask for tokens",
            settings.host,
            what,
        )
    missing = [f"--{name}" for name in ("event_type", "event_source") if not getattr(settings, name)]
    if settings.reply_url and missing:
        logger.warning("--reply_url %s gets no replies without %s", settings.reply_url, " and ".join(missing))


def is_loopback(host: str) -> bool:
    """Tells whether nobody reaches this address from another machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"


def in_container(environment: Mapping[str, str], root: Path = ROOT) -> bool:
    """Tells whether this is a container, as far as Kubernetes, Docker or Podman tell."""
    return "KUBERNETES_SERVICE_HOST" in environment or any((root / mark).exists() for mark in MARKS)


def on_volume(file: Path, root: Path = ROOT) -> bool:
    """Tells whether a file is kept elsewhere than the root file system, which goes with its container."""
    return file.parent.stat().st_dev != root.stat().st_dev


if __name__ == "__main__":
    sys.exit(main())
