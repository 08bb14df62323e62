"""The events of one request in every order of arrival, each order at a deployment of its own, and what all orders must
come to."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tests.support.deployments import Deployment, Page, ago
from tests.support.peers.ledger import Ledger, net, standings_on
from tests.support.running import FEEDBACK, REQUEST, RESPONSE, RunningServer

Arrival = Callable[[Deployment], None]
Rows = list[Any]

NOW = ago(0)  # one moment for all events of a process, so that delays are exact
PREDICTED, ANSWERED, LABELLED = 600, 590, 300  # seconds before it
IMAGE = "registry.example/node:1.0"


def message(rows: Rows | None, *path: str) -> dict[str, Any]:
    """A SeldonMessage; with a path as wrapped models write it: the image of each model on the way."""
    body: dict[str, Any] = {} if rows is None else {"data": {"ndarray": rows}}
    return {**body, "meta": {"requestPath": dict.fromkeys(path, IMAGE)}} if path else body


def asked(model: str, request_id: str = "r") -> Arrival:
    """A request event of a node."""

    def arrive(shop: Deployment) -> None:
        shop.send(REQUEST, message([[5.1, 3.5]]), request_id, NOW - PREDICTED, modelid=model)

    return arrive


def logged(model: str, rows: Rows, *path: str, request_id: str = "r", at: float = ANSWERED, **more: str) -> Arrival:
    """A response event of a node."""

    def arrive(shop: Deployment) -> None:
        shop.send(RESPONSE, message(rows, *path), request_id, NOW - at, modelid=model, **more)

    return arrive


def feedback(model: str, body: dict[str, Any], request_id: str = "r", at: float = LABELLED, **more: str) -> Arrival:
    """A feedback event of a node; of none where `model` is empty, and then without the header."""

    def arrive(shop: Deployment) -> None:
        headers = shop.headers(FEEDBACK, request_id, NOW - at, modelid=model, **more)
        if not model:
            del headers["Ce-Modelid"]
        answer = shop.server.post(body, headers)
        assert (answer.status, answer.body) == (200, b""), answer.body

    return arrive


class Outcome(NamedTuple):
    """What a page says after one order of arrival."""

    order: str
    page: Page


def in_every_order(server: RunningServer, *events: Arrival) -> Iterator[Outcome]:
    """Sends the events in each order to a deployment that nobody knows yet, and reads the page when all are there."""
    orders = list(itertools.permutations(range(len(events))))
    shops = [Deployment(server) for _ in orders]
    for order, shop in zip(orders, shops, strict=True):
        for number in order:
            events[number](shop)
    text = server.get("/v1/metrics").body.decode()
    for order, shop in zip(orders, shops, strict=True):
        yield Outcome(f"order {order}", Page(text, shop.name))


def assert_comes_to(server: RunningServer, ledger: Ledger, *events: Arrival) -> None:
    """In every order gauges, net counters, statuses, coverage and rewards are those of plain counting."""
    for order, page in in_every_order(server, *events):
        assert standings_on(page) == ledger.standings(), order
        assert_agrees(page, ledger, order)


def assert_agrees(page: Page, ledger: Ledger, order: str) -> None:
    """What counters tell, less what was taken back of it, is what the gauges tell."""
    for (predictor, model), standing in ledger.standings().items():
        labels = {"predictor_name": predictor, "model_name": model}
        pairs = sum(standing["pairs"].values())
        right = sum(count for (truth, prediction), count in standing["pairs"].items() if truth == prediction)
        assert (page("model_support", window="1h", **labels) or 0) == pairs, order
        assert net(page, "model_decisions", correct="true", **labels) == right, order
        assert net(page, "model_decisions", correct="false", **labels) == pairs - right, order
        assert net_statuses(page, **labels).get("matched", 0) == pairs, order


def net_statuses(page: Page, **labels: str) -> dict[str, int]:
    """Truths by what became of them, less what was taken back."""
    statuses = page.statuses(**labels)
    found = {status: net(page, "model_labels", status=status, **labels) for status in statuses}
    return {status: count for status, count in found.items() if count}
