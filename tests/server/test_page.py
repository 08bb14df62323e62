"""The page over HTTP: its numbers are those of /v1/metrics, nobody can write on it, and it leads where it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import pytest

from metrics_server.web import formatting
from tests.support.locks import locked
from tests.support.page_html import Html
from tests.support.pages import (
    BROWSER,
    HOSTILE,
    JSON,
    SERIES,
    hostile_server,
    html,
    statements_of_four_series,
    stocked_server,
)
from tests.support.running import PROGRAM, RESPONSE, RunningServer, ce, peer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    yield from stocked_server(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    yield from hostile_server(tmp_path_factory.mktemp("hostile"))


def _without_others(server: RunningServer, path: str) -> Html:
    """The page of a series without what it tells of other predictors and of slices."""
    text = server.get(path).body.decode()
    return Html(re.sub('<section id="(predictors|slices)">.*?</section>', "", text, flags=re.DOTALL))


def _gauges(server: RunningServer, path: str, window: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """What /v1/metrics says of a series in a window: by name and further labels."""
    named = dict(
        zip(("deployment_namespace", "deployment_name", "predictor_name", "model_name"), path.split("/"), strict=True)
    )
    wanted = {**named, "window": window}
    found = {}
    for (name, labels), value in server.samples().items():
        have = dict(labels)
        if wanted.items() <= have.items() and "slice" not in have:
            found[name, tuple(sorted((label, text) for label, text in have.items() if label not in wanted))] = value
    return found


@pytest.mark.parametrize("path", [*SERIES, "shop/beer/main/classifier"])
@pytest.mark.parametrize("window", ["1h", "1d"])
def test_the_page_of_a_series_has_the_numbers_of_the_metrics(server: RunningServer, path: str, window: str) -> None:
    """Every gauge of the window is on the page, equal to the last digit, with the interval that /v1/metrics gives."""
    gauges = _gauges(server, path, window)
    page = _without_others(server, f"/ui/models/{path}?window={window}")
    shown = {(one.name, one.labels): one.value for one in page.data}
    ends = re.compile("_(lower|upper)$")
    listed = {
        key: value
        for key, value in gauges.items()
        if not ends.search(key[0]) and key[0] != "model_predicted_class_ratio"
    }
    assert shown == listed
    assert len(listed) > 5
    for (name, labels), value in listed.items():
        if (f"{name}_lower", labels) in gauges:
            interval = gauges[f"{name}_lower", labels], gauges[f"{name}_upper", labels]
            low, high = (formatting.number(end, interval) for end in interval)
            assert f"{formatting.number(value, interval)} ({low} to {high})" in page.text, name


@pytest.mark.parametrize("window", ["1h", "1d"])
def test_the_overview_has_the_headlines_of_the_metrics(server: RunningServer, window: str) -> None:
    """Each row has the headline and the support of its series, as /v1/metrics has them."""
    text = server.get(f"/ui?window={window}").body.decode()
    for path in SERIES:
        row = Html(re.search(rf'<tr id="/v1/models/{path}".*?</tr>', text, re.DOTALL)[0])  # type: ignore[index]
        gauges = _gauges(server, path, window)
        assert [(one.name, one.value) for one in row.data] == [(one.name, gauges[one.name, ()]) for one in row.data]
        assert [one.name for one in row.data][1:] == ["model_support"]


def test_the_comparison_has_the_numbers_of_the_metrics(server: RunningServer) -> None:
    """Predictors side by side have the values of their series, in the order of their columns."""
    page = html(server, "/ui/deployments/shop/wine?window=1d")
    canary, main = (_gauges(server, f"shop/wine/{predictor}/classifier", "1d") for predictor in ("canary", "main"))
    found = [one for one in page.data if one.name == "model_accuracy_ratio"]
    assert [one.value for one in found] == [main["model_accuracy_ratio", ()], canary["model_accuracy_ratio", ()]], (
        "the baseline first"
    )
    assert "worse" in page.text


def test_the_health_page_has_the_numbers_of_the_metrics(server: RunningServer) -> None:
    """The counts of events are those of /v1/metrics."""
    shown = {
        one.labels: one.value for one in html(server, "/ui/health").data if one.name == "metrics_server_events_total"
    }
    counted = {
        tuple(sorted(labels)): value
        for (name, labels), value in server.samples().items()
        if name == "metrics_server_events_total"
    }
    assert shown == counted
    assert sum(shown.values()) > 900


def test_slices_stand_worst_first(serve: Any) -> None:
    """By the end of the interval that speaks for them: a slice with one unlucky pair does not lead the list."""
    server = serve("--store", "memory://", "--windows", "1h", "--slices", "tenant=attribute:tenant")
    rows = {"good": [True] * 40, "bad": [True] * 20 + [False] * 20, "unlucky": [False]}
    for tenant, hits in rows.items():
        for n, hit in enumerate(hits):
            headers = ce(RESPONSE, f"{tenant}{n}", f"{tenant}{n}", tenant=tenant)
            server.post({"data": {"ndarray": ["ale"]}}, headers)
            server.post({"request_id": f"{tenant}{n}", "truth": "ale" if hit else "lager"}, JSON, "/v1/feedback")
    text = server.get("/ui/models/shop/wine/main/classifier").body.decode()
    section = re.search('<section id="slices">.*?</section>', text, re.DOTALL)
    assert section is not None
    assert re.findall(r"slice=tenant%3D(\w+)", section[0]) == ["bad", "unlucky", "good"]
    sliced = _without_others(server, "/ui/models/shop/wine/main/classifier?slice=tenant%3Dbad")
    assert {one.value for one in sliced.data if one.name == "model_accuracy_ratio"} == {0.5}


def test_unlabelled_classifiers_are_compared_by_their_classes(serve: Any) -> None:
    """Predictors that nobody labels are drawn by the share of a class, and any other class can be chosen."""
    server = serve("--store", "memory://")
    for number, (predictor, label) in enumerate((("main", "cat"), ("main", "dog"), ("canary", "dog"))):
        labels = {"inferenceservicename": "pets", "endpoint": predictor, "namespace": "shop"}
        server.post({"data": {"ndarray": [label]}}, ce(RESPONSE, f"p{number}", f"r{number}", **labels))
    options = Html(server.get("/ui/deployments/shop/pets").body.decode()).all("option")
    shares = [one for one in options if one["value"].startswith("model_predicted_class_ratio")]
    assert [one["value"].partition("{")[2] for one in shares] == ['class="cat"}', 'class="dog"}']
    assert ["selected" in one for one in shares] == [True, False]


def _paths_of(word: str) -> Iterator[str]:
    part = quote(word, safe="")
    yield from (f"/ui/models/{part}/{part}/{part}/{part}", f"/ui/deployments/{part}/{part}")
    yield from (
        f"/ui/models/shop/wine/main/classifier?slice={quote('tenant=' + word)}",
        f"/ui?q={part}",
        f"/ui?window={part}",
    )
    yield from (f"/ui/models/{part}/{part}/{part}/{part}?class={part}", f"/ui/models/{part}/nothing/-/-?metric={part}")


@pytest.mark.parametrize("word", HOSTILE)
def test_nobody_can_write_on_the_page(hostile: RunningServer, word: str) -> None:
    """A name stays a name: no element, attribute, script or address on any page comes from it."""
    for path in ["/", "/ui/health", *_paths_of(word)]:
        answer = hostile.get(path, BROWSER)
        assert answer.status in (200, 400, 404), path
        page = Html(answer.body.decode())
        scripts = [given.get("src", "") for given in page.all("script")]
        assert all(re.fullmatch(r"(\.\./)*ui/static/page\.js\?v=[0-9a-f]{16}", source) for source in scripts), path
        assert all(given["src"].lstrip("./").startswith("ui/trends/") for given in page.all("img")), path
        assert not [
            given for _, given in page.elements for name in given if name.startswith("on") or name == "style"
        ], path
        assert not [link for link in page.links() if urlsplit(link).scheme or urlsplit(link).netloc], path
    figures = hostile.get(f"{next(_paths_of(word))}?figures=light")
    assert json.loads(figures.body), "strict JSON"


def test_pages_forbid_what_is_not_theirs(server: RunningServer) -> None:
    """The policy lets in nothing from elsewhere and nothing inline, with a nonce for styles that is new each time."""
    pages = [
        server.get(path, BROWSER) for path in ("/", "/", "/ui/health", f"/ui/models/{SERIES[0]}", "/ui/models/a/b/c/d")
    ]
    policies = [page.headers["Content-Security-Policy"] for page in pages]
    assert len(set(policies)) == len(policies)
    for page, policy in zip(pages, policies, strict=True):
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        nonce = re.search("'nonce-([^']+)'", rules["style-src"])
        assert nonce is not None
        assert f'nonce="{nonce[1]}"'.encode() in page.body
        assert rules["default-src"] == rules["base-uri"] == "'none'"
        assert (rules["script-src"], rules["connect-src"], rules["form-action"]) == ("'self'", "'self'", "'self'")
        assert "unsafe" not in policy
        assert (page.headers["X-Content-Type-Options"], page.headers["Referrer-Policy"]) == ("nosniff", "no-referrer")


def test_every_link_leads_somewhere(server: RunningServer) -> None:
    """From the overview every page, picture and file is reached, under any prefix, for links are relative."""
    seen: set[str] = set()
    waiting = ["/", "/ui"]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        answer = server.get(path, BROWSER)
        assert answer.status == 200, path
        if answer.headers["Content-Type"].startswith("text/html"):
            links = Html(answer.body.decode()).links()
            assert not [link for link in links if link.startswith("/")], (
                "an address from the root breaks behind a prefix"
            )
            waiting += [urljoin(path, link) for link in links]
    kinds = (
        "/ui/models/",
        "/ui/deployments/",
        "/ui/trends/",
        "/ui/health",
        "/ui/static/page.css",
        "/v1/metrics",
        "/openapi.json",
    )
    assert all(any(path.startswith(kind) for path in seen) for kind in kinds)
    assert len(seen) > 30


@pytest.mark.parametrize(
    ("accept", "is_page"),
    [
        (BROWSER["Accept"], True),
        ("text/html", True),
        ("*/*", False),
        ("", False),
        ("application/json", False),
        ("text/html;q=0, */*", False),
    ],
)
def test_only_a_browser_gets_the_page_at_the_root(server: RunningServer, accept: str, is_page: bool) -> None:
    """Probes and scripts still hear `Alive`."""
    answer = server.get("/", {"Accept": accept} if accept else {})
    assert (answer.body == b"Alive") is not is_page
    assert "Accept" in answer.headers["Vary"]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/ui?window=2h", 400, "window: want one of 1h, 1d"),
        ("/ui?windw=1h", 400, "windw: no such parameter"),
        ("/ui?page=0", 400, "page: want a whole number"),
        (f"/ui/models/{SERIES[0]}?threshold=7", 400, "threshold: want a number from 0 to 1"),
        ("/ui/models/a/b/c/d", 404, "there is no such series"),
        ("/ui/deployments/a/b", 404, "there is no such deployment"),
        ("/ui/deployments/shop/wine?baseline=x", 404, "no such predictor"),
    ],
)
def test_errors_are_pages_too(server: RunningServer, path: str, status: int, words: str) -> None:
    """Who follows an old link reads what is wrong, and finds the way back."""
    answer = server.get(path, BROWSER)
    assert answer.status == status
    page = Html(answer.body.decode())
    assert words in page.text
    assert "All models" in page.text


@pytest.mark.parametrize(
    "asked", ["metric=model_r2", "class=9", "metric=model_ndcg%7Bk%3D%2210%22%7D", "slice=", "threshold=0.999"]
)
def test_a_page_that_stays_open_never_turns_into_an_error(server: RunningServer, asked: str) -> None:
    """A metric or a class that is not there, or is no longer, gives way to the one that is shown first."""
    assert "accuracy in 1h" in html(server, f"/ui/models/{SERIES[0]}?{asked}").text
    assert "Side by side" in html(server, "/ui/deployments/shop/wine?model=x&metric=y").text


def test_headlines_with_labels_have_their_pages(serve: Any, tmp_path: Path) -> None:
    """A ranking, whose headline is nDCG at k, has its page, its trend and its comparison, over time too."""
    config = tmp_path / "models.yaml"
    config.write_text("deployments:\n  - deployment: search\n    storage_uri: cm_models.ranking.Ranking\n")
    server = serve("--store", "memory://", "--config", str(config))
    rows = [
        {"deployment": "search", "predictor": predictor, "prediction": [0.9, 0.2, 0.4], "truth": truth}
        for predictor in ("main", "canary")
        for truth in ([1, 0, 0], [0, 1, 0])
    ]
    assert server.post(rows * 20, JSON, "/v1/feedback").status == 200
    page = html(server, "/ui/models/-/search/main/-")
    assert "ndcg" in page.text.lower()
    key = next(given["value"] for given in page.all("option") if "selected" in given)
    assert re.fullmatch(r'model_ndcg\{k="\d+"\}', key)
    other = next(given["value"] for given in page.all("option") if given["value"].startswith("model_hit_ratio"))
    for path in ("/ui/models/-/search/main/-", "/ui/deployments/-/search"):
        for metric in (key, other):
            page = html(server, f"{path}?metric={quote(metric)}")
            assert [given["value"] for given in page.all("option") if "selected" in given][0] == metric
            assert any(given.get("data-chart", "").endswith("_over_time") for given in page.all("figure"))
    assert b"<circle" in server.get("/ui/trends/-/search/main/-").body


@pytest.mark.parametrize("name", [".", "..", "-", "--", "-.", "a/../b", " c"])
def test_any_name_has_its_page(serve: Any, name: str) -> None:
    """Also one that would mean something else in a path."""
    server = serve("--store", "memory://")
    pairs = [
        {**dict.fromkeys(("namespace", "deployment", "predictor", "model"), name), "prediction": "a", "truth": "a"}
    ] * 3
    assert server.post(pairs, JSON, "/v1/feedback").status == 200
    (row,) = [link for link in html(server, "/").links() if link.startswith("ui/models/")]
    path = urljoin("/", row)
    assert path.startswith("/ui/models/")
    assert {one.value for one in html(server, path).data if one.name == "model_support"} == {3.0}
    assert server.get(path.replace("/ui/", "/v1/").partition("?")[0]).status == 200


def test_a_store_in_trouble_leaves_the_page_standing(tmp_path: Path) -> None:
    """What is in memory is shown with a word on what is missing; a past that cannot be read takes nothing with it but
    its charts."""
    server = RunningServer(tmp_path, "--store", "sqlite:///state.db")
    paths = ("/ui", f"/ui/models/{SERIES[0]}", "/ui/deployments/shop/wine", "/ui/health")
    try:
        assert server.post(list(statements_of_four_series(3)), JSON, "/v1/feedback").status == 200
        assert 'data-chart="metric_over_time"' in server.get(f"{paths[1]}?window=1h").body.decode()
        with locked(tmp_path / "state.db"):
            assert server.post({"deployment": "x", "truth": 1, "prediction": 1}, JSON, "/v1/feedback").status == 503
            assert all("The store cannot be used" in html(server, path).text for path in paths)
        for file in tmp_path.glob("state.db*"):  # who opens it from now on finds no database
            file.rename(file.with_suffix(".away"))
        (tmp_path / "state.db").write_text("no database" * 100)
        for path in paths[1:3]:
            page = html(server, f"{path}?window=1d")
            assert {one.name for one in page.data} > {"model_accuracy_ratio", "model_log_loss"}
            assert "over time" not in " ".join(
                given.get("data-chart", "").replace("_", " ") for given in page.all("figure")
            )
    finally:
        server.process.kill()
        server.process.wait()


def test_the_empty_page_says_what_to_do(serve: Any, tmp_path: Path) -> None:
    """Its commands, pasted into a shell, fill the page."""
    server = serve("--store", "memory://")
    page = html(server, "/")
    assert "No data yet" in page.text
    text = server.get("/", BROWSER).body.decode()
    commands = [
        re.sub(r"&#39;|&#x27;", "'", code).replace("&quot;", '"')
        for code in re.findall(r"<code>(curl.*?)</code>", text, re.DOTALL)
    ]
    assert len(commands) == 3
    for command in commands:
        ran = subprocess.run(
            [peer("bash"), "-c", f"{command} --fail -sS"], env=os.environ, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
    deadline = time.monotonic() + 10
    while ("model_support", 2.0) not in {
        (one.name, one.value) for one in html(server, "/").data
    }:  # shared for a second
        assert time.monotonic() < deadline
    assert {one.value for one in html(server, "/").data if one.name == "model_accuracy_ratio"} == {1.0}


def test_without_bokeh_the_page_shows_the_data(serve: Any, tmp_path: Path) -> None:
    """The extra is not needed: tables stand open in the place of charts, and nothing is asked for that is not there."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['bokeh'] = None\n")
    server = serve("--store", "memory://", environment={"PYTHONPATH": str(tmp_path)}, program=PROGRAM)
    assert server.post(list(statements_of_four_series(2)), JSON, "/v1/feedback").status == 200
    page = html(server, f"/ui/models/{SERIES[0]}")
    assert page.all("body") == [{"data-bokeh": ""}]
    assert all("open" in given for given in page.all("details"))
    assert len(page.all("details")) >= 5
    assert server.get("/ui/static/bokeh.min.js").status == 404


def test_files_of_the_page_may_be_kept(server: RunningServer) -> None:
    """Under their digest for ever, otherwise not; compressed where the client takes it; and there are no others."""
    for link in ("ui/static/page.css", "ui/static/page.js", "ui/static/bokeh.min.js"):
        name = next(
            (
                at
                for at in [*html(server, "/").links(), html(server, "/").all("body")[0]["data-bokeh"]]
                if at.startswith(link)
            ),
            "",
        )
        kept, plain = server.get(f"/{name}", {"Accept-Encoding": "gzip"}), server.get(f"/{link}")
        assert "immutable" in kept.headers["Cache-Control"]
        assert plain.headers["Cache-Control"] == "no-cache"
        assert kept.headers["Content-Encoding"] == "gzip"
        assert len(kept.body) < len(plain.body)
    for name in ("", "..", "../render.py", "%2e%2e%2fhandlers.py", "page.html", "bokeh.js"):
        assert server.get(f"/ui/static/{name}").status == 404
