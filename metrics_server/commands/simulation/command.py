"""`metrics-server simulate`: stands in for a cluster, and shows a server at work on what that cluster logs.

It starts the server if it is asked to, serves models behind an ingress, tells the server what they did in the last
hours, goes on with calls of its own, and prints what the server's metrics say of it all.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import os
import shutil
import signal
import sys
import time
import webbrowser
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from random import Random
from typing import Any
from urllib.parse import SplitResult, urlsplit

from metrics_server.api.routes import Route
from metrics_server.commands.simulation.cluster import NAMESPACE, Deployment, Failed, called, cluster
from metrics_server.commands.simulation.delivery import Copies, Delivery, Link, StoredSeries
from metrics_server.commands.simulation.executor import Executor
from metrics_server.commands.simulation.executor_event import batch
from metrics_server.commands.simulation.ingress import served, wrapper_metrics_served
from metrics_server.commands.simulation.outcome import outcome_of
from metrics_server.commands.simulation.server import Child, started
from metrics_server.commands.simulation.story import Story
from metrics_server.commands.simulation.traffic import Due, PastTraffic, Traffic

DESCRIPTION = (
    "Stands in for a cluster: serves models behind an ingress such as Seldon's, logs to a metrics server, and shows "
    "what that says."
)
LIVE_SECONDS, LINE_SECONDS = 1.0, 3.0  # between summaries on a terminal, and elsewhere
HOST = "127.0.0.1"
HOUR = 3600.0
PAST_HOURS = 12.0
JSON = "-H 'Content-Type: application/json'"
PREDICTION = '{"data": {"ndarray": [[5.9, 3.0, 5.1, 1.8]]}}'
FEEDBACK = '{"truth": {"data": {"ndarray": [2]}}}'


class Console:
    """Standard output: lines that stay, and on a terminal one line at the bottom that is overwritten."""

    def __init__(self) -> None:
        self._live = ""
        self.is_terminal = sys.stdout.isatty()
        self.seconds = LIVE_SECONDS if self.is_terminal else LINE_SECONDS

    def say(self, text: str) -> None:
        """Writes a line that stays, above the bottom line."""
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


@dataclass
class Play:
    """The story as it is told to a server: first the past, then what happens now."""

    options: argparse.Namespace
    deployments: dict[str, Deployment]
    link: Link
    delivery: Delivery
    executor: Executor
    console: Console
    past: PastTraffic | None = None  # while it is told

    async def run(self) -> None:
        """Plays to the end, which comes after --count calls, or never."""
        stored, now = await self.link.series(), time.time()
        due = await self._tell_past(stored, now) if self.options.past else []
        if self.options.open:
            await asyncio.to_thread(webbrowser.open, self.options.url)
        story = self._story(Random(self.options.seed), stored, now)  # noqa: S311 - a simulation
        await Traffic(story, self.executor, self.delivery, self.options.rate).run(self.options.count, due)
        await self.delivery.drain()
        if not self.options.rate:
            await asyncio.Event().wait()

    async def line(self) -> str | None:
        """Returns the line that sums up the present state; None while the server does not respond."""
        if self.past:
            return f"Telling the last {_span(self.past.seconds)} ... {self.past.share:.0%}"
        page = await self.link.page()
        if page is None:
            return None
        dropped = f"  dropped {self.delivery.dropped:,}" if self.delivery.dropped else ""
        return f"{outcome_of(page, NAMESPACE)}{dropped}"

    async def _tell_past(self, stored: list[StoredSeries], now: float) -> list[Due]:
        """Tells the past of each deployment from its last prediction on; returns the labels still to come."""
        random = Random(self.options.seed)  # noqa: S311 - a simulation
        since = dict.fromkeys(self.deployments, now - self.options.past * HOUR)
        for series in stored:
            path = series.deployment_path
            if path in since:
                since[path] = max(since[path], await self.link.last_prediction_at(series, since[path]))
        copies = Copies(self.options.repeats, random)
        self.past = past = PastTraffic(self._story(random, stored, now), since, now, copies, random)
        batches, told = past.batches(), 0
        while messages := await asyncio.to_thread(next, batches, None):
            await self.link.post(batch(messages))
            told += len(messages)
        self.past = None
        self.console.say(f"Told {told:,} events of the last {_span(past.seconds)} in {time.time() - now:.1f} s.")
        return past.due

    def _story(self, random: Random, stored: list[StoredSeries], now: float) -> Story:
        """Returns the story, which began with the first past that the server was told."""
        options = self.options
        created = [series.created_at for series in stored if series.deployment_path in self.deployments]
        drift_at = min([*created, now]) + (options.drift_after - options.past) * HOUR
        return Story(list(self.deployments.values()), random, options.label_delay, options.label_share, drift_at)


def _span(seconds: float) -> str:
    return f"{seconds / HOUR:.3g} hours" if seconds >= HOUR else f"{seconds / 60:.0f} minutes"


async def _simulate(options: argparse.Namespace, child: Child | None, console: Console, stack: ExitStack) -> None:
    console.say("Training the models ...")
    deployments = await asyncio.to_thread(cluster)
    link = Link(options.url, console.say)
    # Two, since who draws first from one depends on how fast the server answers.
    balancing, repeating = Random(options.seed), Random(options.seed)  # noqa: S311 - a simulation
    delivery = Delivery(link, Copies(options.repeats, repeating))
    executor = Executor(delivery.log, time.time_ns, balancing)
    stack.enter_context(served(options.ingress_host, options.ingress_port, deployments, executor))
    if options.metrics_port:
        stack.enter_context(wrapper_metrics_served(options.ingress_host, options.metrics_port, executor))
    if child is not None:
        await child.ready(link)
    _greet(options, child, deployments, console)
    play = Play(options, called(deployments), link, delivery, executor, console)
    delivering, playing = asyncio.create_task(delivery.run()), asyncio.create_task(play.run())
    try:
        await _watch({playing, delivering}, play, child, console)
    finally:
        for task in (playing, delivering):
            task.cancel()
        await asyncio.gather(playing, delivering, return_exceptions=True)
        console.settle()


async def _watch(tasks: set[asyncio.Task[None]], play: Play, child: Child | None, console: Console) -> None:
    """Shows the summary until a task ends; raises what it ended with, or that the server process has."""
    done: set[asyncio.Task[None]] = set()
    while not done:  # the last look is after the end
        done, _ = await asyncio.wait(tasks, timeout=console.seconds, return_when=asyncio.FIRST_COMPLETED)
        if child is not None:
            child.check()
        if line := await play.line():
            console.show(line)
    for task in done:  # delivering has no end: if it came to one, it failed
        task.result()


def _greet(
    options: argparse.Namespace, child: Child | None, deployments: dict[str, Deployment], console: Console
) -> None:
    address = _ingress_address(options.ingress_host, options.ingress_port)
    ingress = f"{address}/seldon"
    first = next(iter(deployments))
    feedback = Route.INGRESS_FEEDBACK.path(*first.split("/"))
    if child is not None:
        console.say(f"Server process {child.process.pid}, state in {options.store}, log in {child.log}")
    console.say(
        f"\n  page     {options.url}/\n  metrics  {options.url}{Route.METRICS.path()}\n"
        f"  ingress  {ingress}/NAMESPACE/DEPLOYMENT/api/v1.0/predictions of {', '.join(deployments)}\n\n"
        "Ask for a prediction, then tell what was true; they meet by Seldon-Puid:\n"
        f"  curl -H 'Seldon-Puid: mine-1' {JSON} -d '{PREDICTION}' {ingress}/{first}/api/v1.0/predictions\n"
        f"  curl -H 'Seldon-Puid: mine-1' {JSON} -d '{FEEDBACK}' {address}{feedback}\n"
    )
    own = f"{options.rate:g} calls a second" if options.rate else "No calls"
    labels = f", {options.label_share:.0%} labelled after {options.label_delay:g} s or more" if options.rate else ""
    console.say(f"{own} of our own{labels}. Ctrl-C stops.")


def _ingress_address(host: str, port: int) -> str:
    """Returns what a caller on this machine asks; where all addresses are listened at, that is the loopback."""
    named = HOST if host in ("0.0.0.0", "::") else host  # noqa: S104 - compared
    return f"http://[{named}]:{port}" if ":" in named else f"http://{named}:{port}"


async def _main(options: argparse.Namespace) -> int:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the last: the terminal was closed
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    # Tornado logs a traceback when a request fails that Ctrl-C has just cancelled; with a handler of its own it stays
    # off the console.
    logging.getLogger("tornado").addHandler(logging.NullHandler())
    console = Console()
    try:
        with ExitStack() as stack:
            child = stack.enter_context(started(options.url, options.store)) if options.serve else None
            await _simulate(options, child, console, stack)
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


def _share(text: str) -> float:
    value = _number(text)
    if value > 1:
        raise argparse.ArgumentTypeError("want a share from 0 to 1")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="metrics-server simulate", description=DESCRIPTION)

    def add(name: str, text: str, **kind: Any) -> None:
        default = " (default: %(default)s)" if "default" in kind else ""
        parser.add_argument(*dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"]), help=text + default, **kind)

    add("serve", "start a server at the port of --url, and stop it in the end", action="store_true")
    add("open", "open the server's page in a browser once there is something to see", action="store_true")
    add("url", "address of the server", default="http://127.0.0.1:8080")
    add("store", "where the server of --serve keeps its state", default="sqlite:///metrics-server.db")
    add("ingress_port", "port of the ingress", type=int, default=8003, metavar="N")
    add("ingress_host", "address that the ingress listens at; 0.0.0.0 in a container", default=HOST, metavar="HOST")
    add("metrics_port", "port of the models' custom metrics; 0: none", type=int, default=0, metavar="N")
    add(
        "past",
        f"hours to tell of before the start (default: {PAST_HOURS:g}; with --rate 0: 0)",
        type=_number,
        metavar="HOURS",
    )
    add("rate", "calls a second of our own; 0: only those to the ingress", type=_number, default=5.0, metavar="N")
    add(
        "label_delay",
        "mean time from a prediction to its label; 10 times that for diabetes",
        type=_number,
        default=3.0,
        metavar="SECONDS",
    )
    add("label_share", "share of the predictions that get a label", type=_share, default=0.8, metavar="SHARE")
    add("repeats", "share of the events that are delivered twice", type=_share, default=0.03, metavar="SHARE")
    add(
        "drift_after",
        "time from the beginning of the past until inputs of diabetes drift",
        type=_number,
        default=8.0,
        metavar="HOURS",
    )
    add("count", "stop after so many calls of our own; 0 goes on until Ctrl-C", type=int, default=0, metavar="N")
    add("seed", "makes calls, labels and delays the same in every run", type=int, metavar="N")
    return parser


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(arguments)
    options.url = options.url.rstrip("/")
    url = _url(options.url)
    if url is None:
        parser.error(f"--url {options.url}: want an address such as http://127.0.0.1:8080")
    own = [("http", host, "") for host in ("127.0.0.1", "localhost")]
    if options.serve and (url.scheme, url.hostname, url.path) not in own:
        parser.error(f"--serve listens at http://127.0.0.1, --url says {options.url}")
    if not 0 < options.ingress_port < 65536:
        parser.error(f"--ingress_port {options.ingress_port}: want 1 to 65535")
    if not 0 <= options.metrics_port < 65536:
        parser.error(f"--metrics_port {options.metrics_port}: want 0 to 65535")
    if options.count < 0 or (options.count and not options.rate):
        parser.error("--count: want at least 0, and a --rate above 0")
    if options.past is None:
        options.past = PAST_HOURS if options.rate else 0.0
    return options


def _url(text: str) -> SplitResult | None:
    """Parses the address of a server; None if it is none."""
    try:
        url = urlsplit(text)
        is_address = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:
        return None
    return url if is_address else None


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
