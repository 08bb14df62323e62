"""Servers whose pages have something to show, and a name that harms whoever writes it down as it is."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.page_html import Html
from tests.support.running import RESPONSE, RunningServer, ce

JSON = {"Content-Type": "application/json"}
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    '"><script>alert(1)</script>',
    "$$x^2$$",
    "a&amp;b 'c' {{ 1 + 1 }}",
    "javascript:alert(1)",
)
SERIES = ("shop/wine/main/classifier", "shop/wine/canary/classifier", "bank/fraud/main/tree", "shop/houses/main/forest")


def statements_of_four_series(seed: int) -> Iterator[dict[str, Any]]:
    """Pairs of four series: probabilities of three classes from two predictors, scores, and numbers."""
    rng, now = random.Random(seed), time.time()
    for n in range(1, 301):  # the first is of main: the baseline is what was seen first
        at, truth = now - rng.random() * 3000, rng.randrange(3)
        given = [rng.random() + (2 * (column == truth) if n % 4 else 0) for column in range(3)]
        row = [round(score / sum(given), 4) for score in given]
        names = {
            "namespace": "shop",
            "deployment": "wine",
            "predictor": "main" if n % 4 else "canary",
            "model": "classifier",
        }
        yield {**names, "prediction": row, "truth": truth, "predicted_at": at}
        fraud = rng.random() < 0.3
        names = {"namespace": "bank", "deployment": "fraud", "predictor": "main", "model": "tree"}
        yield {
            **names,
            "prediction": round(rng.betavariate(4, 2) if fraud else rng.betavariate(2, 4), 3),
            "truth": int(fraud),
        }
        price = rng.gauss(200, 50)
        names = {"namespace": "shop", "deployment": "houses", "predictor": "main", "model": "forest"}
        yield {**names, "prediction": price + rng.gauss(3, 20), "truth": price, "predicted_at": at}


def stocked_server(directory: Path) -> Iterator[RunningServer]:
    """A server that knows four series, one of them in slices, and a prediction without its label."""
    running = RunningServer(directory, "--windows", "1h,1d", "--slices", "tenant=attribute:tenant")
    try:
        assert running.post(list(statements_of_four_series(1)), JSON, "/v1/feedback").status == 200
        for n in range(12):
            headers = ce(RESPONSE, f"p{n}", f"r{n}", namespace="shop", inferenceservicename="beer", tenant="ab"[n % 2])
            assert running.post({"data": {"ndarray": [["ale", "lager"][n % 3 == 0]]}}, headers).status == 200
            truth = {"request_id": f"r{n}", "truth": "ale"}
            assert n == 11 or running.post(truth, JSON, "/v1/feedback").status == 200
        yield running
    finally:
        running.stop()


def html(server: RunningServer, path: str) -> Html:
    answer = server.get(path, BROWSER)
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    return Html(answer.body.decode())


def hostile_server(directory: Path) -> Iterator[RunningServer]:
    """A server whose labels, classes and slices were chosen by somebody who means harm."""
    running = RunningServer(directory, "--store", "memory://", "--slices", "tenant=attribute:tenant")
    try:
        for word in HOSTILE:
            names = dict.fromkeys(("namespace", "deployment", "predictor", "model"), word)
            rows = [
                {**names, "prediction": said, "truth": truth}
                for said in (word, "b")
                for truth in (word, "b")
                for _ in range(3)
            ]
            assert running.post(rows, JSON, "/v1/feedback").status == 200
            message = {"data": {"ndarray": [word]}}
            latin = word.encode("ascii", "ignore").decode()
            running.post(message, ce(RESPONSE, f"p{word}", f"r{latin}", tenant=latin))
            running.post({"request_id": f"r{latin}", "truth": word}, JSON, "/v1/feedback")
            running.post("{", ce(RESPONSE, latin, latin))
        yield running
    finally:
        running.stop()
