"""The page over HTTP: its numbers are those of /v1/metrics, nobody can write on it, and it leads where it says."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import pytest

from metrics_server.api.schema import History, MetricValue, Point, SeriesSummary, WindowSummary
from metrics_server.web import formatting
from metrics_server.web.notices import BAD, NOTE, WARN, ranked
from metrics_server.web.sparkline import sparkline
from metrics_server.web.ttl_cache import TtlCache
from tests.page_html import Html
from tests.running import RESPONSE, RunningServer, ce, peer
from tests.test_faults import locked

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


def _statements(seed: int) -> Iterator[dict[str, Any]]:
    """Pairs of four series: probabilities of three classes from two predictors, scores, and numbers."""
    rng, now = random.Random(seed), time.time()
    for n in range(300):
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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that knows four series, one of them in slices, and a prediction without its label."""
    running = RunningServer(
        tmp_path_factory.mktemp("page"), "--windows", "1h,1d", "--slices", "tenant=attribute:tenant"
    )
    try:
        assert running.post(list(_statements(1)), JSON, "/v1/feedback").status == 200
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


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose labels, classes and slices were chosen by somebody who means harm."""
    running = RunningServer(
        tmp_path_factory.mktemp("hostile"), "--store", "memory://", "--slices", "tenant=attribute:tenant"
    )
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
        assert server.post(list(_statements(3)), JSON, "/v1/feedback").status == 200
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


def test_who_looks_at_the_same_shares_it() -> None:
    """What was made a moment ago is not made again; later it is, and no more is kept than that."""
    now, made = [0.0], list[int]()

    def make() -> int:
        made.append(len(made))
        return made[-1]

    recent: TtlCache[int] = TtlCache(1.0, 2, lambda: now[0])
    assert [recent.get("a", make), recent.get("a", make), recent.get("b", make)] == [0, 0, 1]
    now[0] = 0.9
    assert recent.get("a", make) == 0
    now[0] = 1.0
    assert [recent.get("a", make), recent.get("b", make), recent.get("c", make), recent.get("a", make)] == [2, 3, 4, 5]


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
    server = serve("--store", "memory://", environment={"PYTHONPATH": str(tmp_path)})
    assert server.post(list(_statements(2)), JSON, "/v1/feedback").status == 200
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


def _value(
    value: float, lower: float, upper: float, name: str = "model_accuracy_ratio", support: float = 100
) -> MetricValue:
    return MetricValue(name=name, labels={}, value=value, lower=lower, upper=upper, support=support)


def _entry(
    predictor: str, headline: MetricValue | None, support: float, predictions: float = 0.0, **more: Any
) -> SeriesSummary:
    longest = more.pop("longest", headline)
    counts = {"support": support, "predictions": predictions, "rewards": more.pop("rewards", 0.0)}
    standing = WindowSummary(**counts, headline=headline)
    given = {
        "namespace": "shop",
        "deployment": "wine",
        "predictor": predictor,
        "model": "classifier",
        "path": "/v1/models/…",
        "slices": [],
        "task": "multiclass",
        "metric_model": "m",
        "created_at": 0.0,
        "last_prediction_at": 900.0,
        "last_label_at": 900.0,
        "labels": {},
    }
    windows = {"1h": standing, "1d": WindowSummary(**counts, headline=longest)}
    return SeriesSummary(**{**given, "windows": windows, **more})


@pytest.mark.parametrize(
    ("entry", "severity", "words"),
    [
        (_entry("main", _value(0.9, 0.85, 0.93), 500), None, ""),
        (
            _entry("main", _value(0.7, 0.66, 0.74), 500, longest=_value(0.9, 0.89, 0.91)),
            BAD,
            "accuracy 0.700 is worse than the 0.900 of 1d",
        ),
        (_entry("main", _value(0.95, 0.94, 0.96), 500, longest=_value(0.9, 0.89, 0.91)), None, ""),
        (
            _entry(
                "main",
                _value(5, 4.5, 5.5, "model_mean_absolute_error"),
                500,
                longest=_value(3, 2.9, 3.1, "model_mean_absolute_error"),
            ),
            BAD,
            "worse",
        ),
        (
            _entry(
                "main", _value(5, 4.5, 5.5, "model_output_mean"), 500, longest=_value(3, 2.9, 3.1, "model_output_mean")
            ),
            None,
            "",
        ),
        (_entry("main", None, 0, 60, last_label_at=None), WARN, "no labels yet for 60 predictions; none has ever come"),
        (_entry("main", None, 0, 60), NOTE, "no labels yet for 60 predictions; the last came 1.7 min ago"),
        (
            _entry("main", None, 0, 60, last_label_at=-4000.0),
            WARN,
            "no labels yet for 60 predictions; the last came 1.4 h ago",
        ),
        (_entry("main", None, 0, 60, rewards=9.0), None, ""),
        (_entry("main", None, 0, 0, rewards=9.0), None, ""),
        (_entry("main", None, 0, 49), None, ""),
        (_entry("main", None, 0, 0), WARN, "no prediction was made in 1h; the last event came 1.7 min ago"),
        (_entry("main", _value(0.9, 0.85, 0.93), 40, 500), WARN, "only 8.0 % of the predictions are labelled"),
        (_entry("main", _value(0.9, 0.5, 0.99), 9, 9), NOTE, "few labels: 9"),
        (
            _entry("main", _value(0.9, 0.85, 0.93), 500, labels={"task_mismatch": 3.0}),
            WARN,
            "3 truths so far did not fit the task multiclass",
        ),
        (
            _entry("main", _value(0.9, 0.85, 0.93), 500, labels={"task_mismatch": 3.0, "matched": 500.0}),
            NOTE,
            "--storage_uri",
        ),
        (_entry("main", _value(0.0, 0.0, 0.79, support=1), 1, longest=_value(0.9, 0.89, 0.91)), NOTE, "few labels: 1"),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_what_deserves_a_look(entry: SeriesSummary, severity: int | None, words: str) -> None:
    """Each notice has its cause, its severity and its words; a change that chance explains has none."""
    ((_, notices),) = ranked([entry], "1h", {"1h": 3600, "1d": 86400}, 1000.0)
    assert [notice.severity for notice in notices] == ([] if severity is None else [severity])
    assert words in "".join(notice.text for notice in notices)


def test_a_worse_predictor_leads_the_list() -> None:
    """It is compared with the predictor of the most labels, and the series are in the order of their gravest
    notices."""
    fine = _entry("main", _value(0.9, 0.89, 0.91), 500)
    worse = _entry("canary", _value(0.6, 0.5, 0.7), 100)
    quiet = _entry("other", None, 0, deployment="beer")
    order = ranked([fine, quiet, worse], "1h", {"1h": 3600, "1d": 86400}, 1000.0)
    assert [one.series for one in order] == [worse, quiet, fine]
    assert "accuracy is 0.30 (95 %: 0.20 to 0.40) lower than that of predictor main" in order[0].notices[0].text
    few = _entry("canary", _value(0.0, 0.0, 0.4, support=5), 5)
    assert [
        notice.severity for _, notices in ranked([fine, few], "1h", {"1h": 3600}, 1000.0) for notice in notices
    ] == [NOTE]


@pytest.mark.parametrize(
    ("value", "interval", "text"),
    [
        (0.91377, (0.858, 0.949), "0.914"),
        (0.91377, None, "0.914"),
        (0.9996, (0.9991, 0.9998), "0.99960"),
        (1.0, (0.2, 1.0), "1.00"),
        (36.987, (36.0, 37.9), "37.0"),
        (123456.7, (123000.0, 124000.0), "123,457"),
        (0.0, None, "0"),
        (1500.0, None, "1,500"),
        (2.5e-7, None, "2.5e-07"),
        (3e12, None, "3e+12"),
        (-0.333, (-0.37, -0.3), "-0.333"),
        (None, None, "–"),
    ],
)
def test_numbers_have_the_digits_that_mean_something(
    value: float | None, interval: tuple[float, float] | None, text: str
) -> None:
    """Two digits of the interval's width, three without one."""
    assert formatting.number(value, interval) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.004, "4 ms"), (1, "1 s"), (59, "59 s"), (90, "1.5 min"), (7200, "2.0 h"), (86400 * 35, "35 d")],
)
def test_durations_have_a_unit_that_fits(seconds: float, text: str) -> None:
    """One unit, the largest that is not a fraction."""
    assert formatting.duration(seconds) == text


def _history(values: dict[int, float]) -> History:
    points = [
        Point(since=60.0 * step, until=60.0 * step + 60, support=9, values=[_value(value, value - 0.1, value + 0.1)])
        for step, value in values.items()
    ]
    return History(since=0, until=600, step=60, points=points)


def test_a_trend_does_not_bridge_what_is_missing() -> None:
    """Steps that follow each other are one line, a step by itself is a dot, and nothing is an empty picture."""
    text = sparkline(_history({0: 0.9, 1: 0.8, 2: 0.7, 5: 0.9, 8: 0.9, 9: 0.8})).decode()
    assert (text.count("<polyline"), text.count("<circle"), text.count("<polygon")) == (2, 1, 3)
    first = re.search(r'<polyline points="([^"]+)"', text)
    assert first is not None
    spots = [tuple(map(float, spot.split(","))) for spot in first[1].split()]
    assert [x for x, _ in spots] == sorted(x for x, _ in spots)
    assert [y for _, y in spots] == sorted(y for _, y in spots), "downwards is larger in a picture"
    assert "<p" not in sparkline(_history({})).decode()
