"""`metrics-server simulate`: shows a server at work on a stream of real predictions and late labels.

It starts the server if it is asked to, sends the stream, and prints what the server's metrics say of it.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from metrics_server.executor_event import Origin
from metrics_server.simulated_stream import DATASETS, Failed, HeldOut, Link, Stream, held_out

READY_SECONDS = 30.0
STOP_SECONDS = 25.0  # beyond the server's own --drain_seconds
LIVE_SECONDS, LINE_SECONDS = 1.0, 3.0  # between summaries on a terminal, and elsewhere


class Numbers(NamedTuple):
    """What the server says on /v1/metrics. Ratios are None until the first label; support and ratios are of the last hour."""

    events: float
    labels: float
    repeats: float
    support: float
    accuracy: float | None
    lower: float | None
    upper: float | None

    def __str__(self) -> str:
        counted = f"labels {self.labels:,.0f}  events {self.events:,.0f}  repeats {self.repeats:,.0f}"
        if None in (self.accuracy, self.lower, self.upper):
            return f"no accuracy before the first label  {counted}"
        # The most wanted first: a narrow terminal cuts the end.
        return f"accuracy {self.accuracy:.3f} (95 %: {self.lower:.3f} to {self.upper:.3f})  support {self.support:,.0f}  {counted}"


def numbers_of(page: str, deployment: str) -> Numbers:
    """Reads the server's counters and one deployment's gauges from a page of Prometheus' text format."""
    gauges: dict[str, float] = {}
    counts: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(page):
        for name, labels, value, *_ in family.samples:
            if name == "metrics_server_events_total":
                counts[labels["type"], labels["outcome"]] = value
            elif labels.get("deployment_name") == deployment and labels.get("window") == "1h":
                gauges[name] = value
    ratios = (gauges.get(f"model_accuracy_ratio{end}") for end in ("", "_lower", "_upper"))
    labelled, repeated = (counts.get(("feedback", outcome), 0.0) for outcome in ("accepted", "duplicate"))
    return Numbers(sum(counts.values()), labelled, repeated, gauges.get("model_support", 0.0), *ratios)


class Console:
    """Standard output: lines that stay, and on a terminal one line at the bottom that is written over."""

    def __init__(self) -> None:
        self._live = ""
        self.is_terminal = sys.stdout.isatty()
        self.seconds = LIVE_SECONDS if self.is_terminal else LINE_SECONDS

    def say(self, text: str) -> None:
        print(f"\r\x1b[K{text}" if self._live else text, flush=True)
        self.show(self._live)

    def show(self, text: str) -> None:
        """Writes the bottom line anew."""
        if self.is_terminal:
            self._live = text
            width = shutil.get_terminal_size().columns - 1  # a full line would wrap, and \r not reach its start
            print(f"\r\x1b[K{text[:width]}" if text else "", end="", flush=True)
        elif text:
            print(text, flush=True)

    def settle(self) -> None:
        """Lets the bottom line stay."""
        if self._live:
            self._live = ""
            print(flush=True)


@dataclass(frozen=True)
class Child:
    """A server started by --serve; its log goes to a file, the console stays readable."""

    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raises Failed when it has ended."""
        if self.process.poll() is not None:
            raise self.failure(f"the server stopped with status {self.process.returncode}")

    def failure(self, what: str) -> Failed:
        lines = self.log.read_text(errors="replace").splitlines()[-10:]
        return Failed("\n  ".join([f"{what}; the end of its log, {self.log}:", *lines]))

    async def ready(self, link: Link) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not await link.is_ready():
            self.check()
            if time.monotonic() > deadline:
                raise self.failure(f"the server was not ready after {READY_SECONDS:.0f} s")
            await asyncio.sleep(0.1)
        self.check()

    def stop(self) -> None:
        """Blocks, so that a second Ctrl-C does not leave it behind."""
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def _served(options: argparse.Namespace) -> Iterator[Child | None]:
    if not options.serve:
        yield None
        return
    port = str(urlsplit(options.url).port or 80)
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", int(port))) == 0:
            raise Failed(f"port {port} is taken: stop what listens there, or choose another with --url http://127.0.0.1:PORT")
    descriptor, log = tempfile.mkstemp(prefix="metrics-server-", suffix=".log")
    command = [sys.executable, "-m", "metrics_server", "--host", "127.0.0.1", "--http_port", port, "--store", options.store]
    with os.fdopen(descriptor, "wb") as output:
        # In a session of its own the terminal's Ctrl-C does not reach it before the last events have.
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)  # noqa: S603 - ourselves
    child = Child(process, Path(log))
    try:
        yield child
    finally:
        child.stop()


async def _simulate(options: argparse.Namespace, child: Child | None, console: Console) -> None:
    console.say(f"Training a classifier on the {options.dataset} data ...")
    held = await asyncio.to_thread(held_out, options.dataset)
    link = Link(options.url, console.say)
    if child is not None:
        await child.ready(link)
    _greet(options, child, held, console)
    origin = Origin("demo", options.dataset, "main", "classifier")
    random = Random(options.seed)  # noqa: S311 - a simulation
    stream = Stream(link, origin, held, random, options.rate, options.label_delay, options.label_share)
    sending = asyncio.create_task(stream.run(options.count))
    try:
        done = False
        while not done:  # the last look is after the end
            done = bool((await asyncio.wait({sending}, timeout=console.seconds))[0])
            if child is not None:
                child.check()
            if page := await link.page():
                console.show(str(numbers_of(page, origin.deployment)))
        await sending
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        console.settle()


def _greet(options: argparse.Namespace, child: Child | None, held: HeldOut, console: Console) -> None:
    url = options.url
    labels = f"{options.label_share:.0%} labelled after {options.label_delay:g} s on average"
    console.say(f"Sending {options.rate:g} predictions a second of {len(held.classes)} classes to {url}, {labels}. Ctrl-C stops.")
    if child is not None:
        console.say(f"Server process {child.process.pid}, state in {options.store}, log in {child.log}")
    feedback = '{"response":{"data":{"ndarray":[[0.1,0.9]]}},"truth":{"data":{"ndarray":[1]}}}'
    console.say(f"\nSend a feedback of your own, and see the metrics:\n  curl -H 'Content-Type: application/json' -d '{feedback}' {url}/")
    console.say(f"  curl -s {url}/v1/metrics | grep model_accuracy_ratio\n")


async def _main(options: argparse.Namespace) -> int:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the last: the terminal was closed
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    # Tornado logs a traceback when a request fails that Ctrl-C has just cancelled; with a handler of its own it stays off the console.
    logging.getLogger("tornado").addHandler(logging.NullHandler())
    console = Console()
    try:
        with _served(options) as child:
            await _simulate(options, child, console)
    except Failed as error:
        print(f"metrics-server simulate: {error}", file=sys.stderr)
        return 1
    except asyncio.CancelledError:
        console.say("Stopped.")
    return 0


def _number(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError("want a number of at least 0")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="metrics-server simulate",
        description="Sends a stream of real predictions and late labels to a metrics server and shows the accuracy it computes.",
    )

    def add(*spellings: str, text: str, **kind: Any) -> None:
        parser.add_argument(*spellings, help=f"{text} (default: %(default)s)", **kind)

    parser.add_argument("--serve", action="store_true", help="start a server at the port of --url, and stop it in the end")
    add("--url", default="http://127.0.0.1:8080", text="address of the server")
    add("--store", default="sqlite:///metrics-server.db", text="where the server of --serve keeps its state")
    add("--dataset", choices=DATASETS, default=DATASETS[0], text="data set of scikit-learn to learn and predict")
    add("--rate", type=_number, default=20.0, metavar="N", text="requests per second")
    add("--label_delay", "--label-delay", type=_number, default=3.0, metavar="SECONDS", text="mean time from a prediction to its label")
    add("--label_share", "--label-share", type=_number, default=0.8, metavar="SHARE", text="share of the predictions that get a label")
    add("--count", type=int, default=0, metavar="N", text="stop after so many requests; 0 goes on until Ctrl-C")
    parser.add_argument("--seed", type=int, metavar="N", help="makes rows, labels and delays the same in every run")
    return parser


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(arguments)
    options.url = options.url.rstrip("/")
    try:
        url = urlsplit(options.url)
        valid = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:
        valid = False
    if not valid:
        parser.error(f"--url {options.url}: want an address such as http://127.0.0.1:8080")
    if options.serve and (url.scheme, url.hostname, url.path) not in [("http", host, "") for host in ("127.0.0.1", "localhost")]:
        parser.error(f"--serve listens at http://127.0.0.1, --url says {options.url}")
    if not options.rate or options.count < 0 or options.label_share > 1:
        parser.error("want a --rate above 0, a --count of at least 0 and a --label_share from 0 to 1")
    return options


def main(arguments: Sequence[str]) -> int:
    """Runs the simulation; returns 0 at its end or when it was stopped, 1 when it could not go on."""
    options = _options(arguments)
    try:
        return asyncio.run(_main(options))
    except KeyboardInterrupt:  # before or after the loop that handles signals
        return 0
    except BrokenPipeError:  # as of `| head`; what is left to write goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
