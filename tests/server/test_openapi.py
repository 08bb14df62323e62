"""The OpenAPI document: schemathesis finds no answer that it does not describe."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import requests
import schemathesis

from metrics_server.api.openapi import document
from metrics_server.api.routes import Route
from tests.conftest import Serve
from tests.support.running import RESPONSE, RunningServer, ce

TOKEN = "s3cret"
# What is read by anyone: it says nothing of models.
OPEN = {Route.HEALTHZ, Route.READYZ, Route.PROTOCOL, Route.OPENAPI, Route.FEEDBACK_SCHEMA, Route.STATIC}
OWNER = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}


def test_the_document_is_served(serve: Serve) -> None:
    """/openapi.json is the document of this server, with its own windows; with tokens for senders or readers the routes
    that are for them ask for one."""
    server = serve("--store", "memory://", "--windows", "5h,2d")
    answer = server.get("/openapi.json")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.body == document(["5h", "2d"])
    described = json.loads(answer.body)
    assert described["openapi"] == "3.1.0"
    asked = {
        parameter["name"]: parameter
        for parameter in described["paths"]["/v1/models/{namespace}/{deployment}"]["get"]["parameters"]
    }
    assert asked["window"]["schema"]["enum"] == ["5h", "2d"]
    secured = {
        who: {
            (path, method)
            for path, item in json.loads(document(["1h"], guarded=[who]))["paths"].items()
            for method, operation in item.items()
            if "security" in operation
        }
        for who in ("owner", "sender", "reader")
    }
    assert secured["owner"] == {(route.template, "delete") for route in (Route.MODEL, Route.REQUEST)}
    sent = {(route.template, "post") for route in Route if "post" in route.operations}
    assert secured["sender"] - secured["owner"] == sent
    assert secured["reader"] - secured["owner"] == {
        (route.template, "get") for route in Route if "get" in route.operations and route not in OPEN
    } - {(path, "get") for path, method in sent if path != "/"}


def test_every_reference_leads_somewhere() -> None:
    """Each schema that the document refers to is in it, and each that is in it is referred to."""
    text = document(["1h"], guarded=["sender", "reader"]).decode()
    referred = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert referred == set(json.loads(text)["components"]["schemas"])


# All checks there are, but:
CONFIGURATION = """
[[operations]]
# A schema cannot say all that is wanted of feedback (a truth without its prediction needs a request id, say), nor of
# events, whose form depends on the content type; so some of what fits the schema is refused.
include-method = "POST"
checks.positive_data_acceptance.enabled = false

[[operations]]
# OpenAPI cannot say that parameters exclude or need each other.
include-path-regex = "^/v1/models/"
include-method = "GET"
checks.positive_data_acceptance.enabled = false
"""


@pytest.fixture
def filled(serve: Serve, tmp_path: Path) -> RunningServer:
    """A server with a token that holds two predictors of a deployment, a regression and a slice."""
    (tmp_path / "token").write_text(TOKEN)
    server = serve(
        "--store", "memory://", "--token_file", str(tmp_path / "token"), "--slices", "tenant=attribute:tenant"
    )
    labels = {"namespace": "0", "deployment": "0", "predictor": "0", "model": "0"}
    told = [{**labels, "truth": n % 2, "prediction": n / 20} for n in range(20)]
    told += [{**labels, "predictor": "1", "truth": n % 3, "prediction": 1} for n in range(9)]
    told += [{**labels, "deployment": "1", "truth": 1.5 * n, "prediction": 2.5} for n in range(5)]
    assert server.post(told, OWNER, "/v1/feedback").status == 200
    server.post({"data": {"ndarray": ["a"]}}, {**OWNER, **ce(RESPONSE, "1", "r", tenant="b 7")})
    server.post({"data": {}}, {**OWNER, **ce(RESPONSE, "2", "r")})
    return server


SERIES = "/v1/models/{namespace}/{deployment}/{predictor}/{model}"
DEPLOYMENT = "/v1/models/{namespace}/{deployment}"
ANSWERS = [
    ("/v1/models", "/v1/models"),
    (DEPLOYMENT, "/v1/models/0/0"),
    (DEPLOYMENT, "/v1/models/0/0?compare=predictor&window=1d&baseline=1"),
    (SERIES, "/v1/models/0/0/0/0?tables=true&cost_false_positive=1&cost_false_negative=2"),
    (SERIES, "/v1/models/0/1/0/0"),
    (SERIES, "/v1/models/shop/wine/main/classifier?slice=tenant=b%207"),
    (SERIES, "/v1/models/0/0/0/0?step=1h"),
    (SERIES, "/v1/models/0/0/0/0?step=1s"),
    (SERIES, "/v1/models/0/0/0/none"),
    ("/v1/rejected", "/v1/rejected"),
    ("/openapi.json", "/openapi.json"),
    ("/protocol", "/protocol"),
]


def test_full_answers_fit_the_document(filled: RunningServer) -> None:
    """Answers that hold everything an answer can hold are as the document has them; a generator seldom gets there."""
    described = schemathesis.openapi.from_url(f"{filled.url}/openapi.json")
    for path, asked in ANSWERS:
        answer = requests.get(filled.url + asked, timeout=10)
        described[path]["GET"].validate_response(answer)
        assert answer.status_code == {"none": 404, "step=1s": 400}.get(re.split("[/?]", asked)[-1], 200), asked


@pytest.mark.long
def test_schemathesis_finds_nothing(filled: RunningServer, tmp_path: Path) -> None:
    """Whatever fits the document, and what does not, gets an answer that the document describes, from a server that
    holds data."""
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    options = ("--max-examples", "40", "--generation-deterministic", "--no-shrink")
    words = (
        "--continue-on-failure",
        "-H",
        f"Authorization: Bearer {TOKEN}",
        "--phases",
        "examples,coverage,fuzzing,stateful",
    )
    run = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", f"{filled.url}/openapi.json", *options, *words, "--no-color"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    counted = re.search(r"(\d+) generated, (\d+) passed", run.stdout)
    assert counted, run.stdout[-3000:]
    assert int(counted[1]) == int(counted[2]) > 500, run.stdout[-3000:]
