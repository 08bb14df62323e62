"""The verdict on a canary, of a real server: by route, page and scrape the same, also after a restart."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.conftest import Serve
from tests.support.exposed import samples_of
from tests.support.page_html import Html
from tests.support.running import RunningServer
from tests.support.waiting import until

DECLARED = "deployments: [{namespace: shop, deployment: pets, baseline: main, margin: 0.02}]"
ROUTE = "/v1/models/shop/pets/verdict"
PAGE = "/ui/deployments/shop/pets"


def _feed(server: RunningServer, predictor: str, right: int, wrong: int, at: float | None = None) -> None:
    item = {"namespace": "shop", "deployment": "pets", "predictor": predictor, "model": "net", "prediction": "cat"}
    items = [{**item, "truth": truth} for truth, number in (("cat", right), ("dog", wrong)) for _ in range(number)]
    if at is not None:
        items = [{**one, "predicted_at": at} for one in items]
    assert server.post(items, {"Content-Type": "application/json"}, "/v1/feedback").status == 200


def _verdicts(server: RunningServer, query: str = "") -> list[Any]:
    response = server.get(ROUTE + query)
    assert response.status == 200, response.body
    return list(json.loads(response.body)["verdicts"])


def _exposed(server: RunningServer) -> dict[str, float]:
    page = server.get("/v1/metrics").body.decode()
    lines = "".join(f"{line}\n" for line in page.splitlines() if line.startswith("model_canary"))
    return {sample.name + sample.labels.get("verdict", ""): sample.value for sample in samples_of(lines)}


def test_a_verdict_from_the_first_event_to_after_a_restart(serve: Serve, tmp_path: Path) -> None:
    """First it is undecided, then worse, and a restart changes no number of it."""
    (tmp_path / "models.yaml").write_text(DECLARED)
    words = "--store", f"sqlite:///{tmp_path}/state.db", "--config", "models.yaml"
    server = serve(*words)
    _feed(server, "main", 300, 0, time.time() - 3600)
    assert _verdicts(server) == []
    _feed(server, "canary", 1, 0)
    (first,) = _verdicts(server)
    assert (first["verdict"], first["margin"], first["predictor"], first["baseline"]) == (
        "undecided",
        0.02,
        "canary",
        "main",
    )
    since = first["since"]
    _feed(server, "main", 270, 30, since + 61)
    _feed(server, "canary", 119, 180, since + 61)
    (found,) = _verdicts(server)
    assert found["verdict"] == "worse"
    assert found["lower"] < found["difference"] == -0.5 < found["upper"] < -0.02
    assert [(arm["predictor"], arm["support"]) for arm in found["arms"]] == [("canary", 300), ("main", 300)]
    server.stop()
    server = serve(*words)
    assert _verdicts(server) == [found]
    exposed = until(lambda: _exposed(server), 20, "no scrape shows a verdict")
    assert exposed.pop("model_canary_difference") == -0.5
    assert exposed.pop("model_canary_difference_lower") == found["lower"]
    assert exposed.pop("model_canary_difference_upper") == found["upper"]
    assert {name for name, value in exposed.items() if value} == {"model_canary_verdictworse"}
    assert len(exposed) == 5


def test_the_page_says_what_to_do(serve: Serve) -> None:
    """The head of the page says it in a sentence, with the numbers it rests on."""
    server = serve("--store", "memory://")
    _feed(server, "main", 1, 0)
    _feed(server, "canary", 1, 0)
    assert "Wait with canary: " in Html(server.get(PAGE).body.decode()).text
    since = _verdicts(server)[0]["since"]
    _feed(server, "main", 269, 30, since + 61)
    _feed(server, "canary", 119, 180, since + 61)
    until(lambda: "Roll" in server.get(PAGE).body.decode(), 20, "the page stays as it was")
    text = Html(server.get(PAGE).body.decode()).text
    assert "Roll canary back: it is worse than main. Accuracy 0.50 worse (" in text
    assert "at every look). Labels since " in text
    assert "300 of canary and 300 of main." in text
    assert "Promote main: it is better than canary." in Html(server.get(f"{PAGE}?baseline=canary").body.decode()).text


def test_what_may_be_asked(serve: Serve) -> None:
    """Who is compared with whom, of what metric and within what margin may be asked; what is none of it is refused."""
    server = serve("--store", "memory://")
    assert server.get(ROUTE).status == 404
    _feed(server, "main", 9, 1)
    (unseen,) = _verdicts(server, "?predictor=canary")
    assert (unseen["verdict"], unseen["since"], unseen["baseline"]) == ("undecided", None, "main")
    assert _verdicts(server, "?predictor=main")[0]["detail"].startswith("it is the baseline")
    _feed(server, "canary", 9, 1)
    _feed(server, "third", 9, 1)
    assert [one["predictor"] for one in _verdicts(server)] == ["canary", "third"]
    assert [one["predictor"] for one in _verdicts(server, "?predictor=third")] == ["third"]
    assert [one["predictor"] for one in _verdicts(server, "?baseline=third&model=net")] == ["canary", "main"]
    assert _verdicts(server, "?model=other") == []
    assert _verdicts(server, "?metric=model_f1_macro_ratio&margin=0.5")[0]["margin"] == 0.5
    for wrong in ("?margin=-1", "?margin=much", "?metric=model_mean", "?since=yesterday", "?window=1h"):
        assert server.get(ROUTE + wrong).status == 400, wrong
    assert server.get(f"{ROUTE}?baseline=nobody").status == 404
