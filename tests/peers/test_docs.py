"""The documentation says what the code does: tables, names, commands, examples and links."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Serve
from tests.support.docs_pages import DOCS, PAGES, README, blocks, page
from tests.support.numbers import assert_same_text
from tests.support.postgres import shared_postgres
from tests.support.running import FEEDBACK, REQUEST, RESPONSE, RunningServer, ce, peer
from tests.support.waiting import until

CHOICE = DOCS / "how-to/choose-a-metric-model.md"
ADDRESS = "127.0.0.1:8080"
# What a declared objective has, some of it after an hour; see tests/server/test_objective.py.
OF_OBJECTIVES = {
    "model_objective",
    "model_degraded",
    "model_degradation_evidence",
    "model_degraded_since_timestamp_seconds",
}


def _families(server: RunningServer) -> Iterator[tuple[str, str]]:
    """Name and type of the families on the page; `_created` are part of their counter."""
    for family in text_string_to_metric_families(server.get("/v1/metrics").body.decode()):
        if not family.name.endswith("_created"):
            yield (f"{family.name}_total" if family.type == "counter" else family.name), family.type


def test_every_family_of_a_real_page_is_documented(serve: Serve, tmp_path: Path) -> None:
    """Whatever all tasks, corrections and rewards bring to the page has a line in the reference, with its type."""
    config = tmp_path / "models.yaml"
    config.write_text(f"{_configuration()}  - deployment: churn\n    value_matrix: {{right: 1, wrong: -5}}\n")
    grouping = ("--slices", "tenant=attribute:tenant", "--groups", "tenant=a", "--expose_groups")
    server = serve(
        "--store", shared_postgres().fresh(), "--kafka_brokers", "127.0.0.1:1", "--config", str(config), *grouping
    )
    server.post({"data": {"ndarray": [[5.1, 3.5, 1.4, 0.2]]}}, ce(REQUEST, "0", "r"))
    server.post({"data": {"ndarray": [[0.1, 0.2, 0.7]]}}, ce(RESPONSE, "1", "r"))
    for number, truth in enumerate((1, 2, None)):
        server.post({"truth": {"data": {"ndarray": [truth]}}, "reward": 1}, ce(FEEDBACK, f"2-{number}", "r"))
    for number, (truth, row) in enumerate(((0, [0.7, 0.2, 0.1]), (1, [0.5, 0.3, 0.2]), (2, [0.1, 0.2, 0.7]))):
        body = {"response": {"data": {"ndarray": [row]}}, "truth": {"data": {"ndarray": [truth]}}, "reward": 1}
        server.post(body, ce(FEEDBACK, f"3-{number}", f"w{number}"))
    for number, (tenant, truth) in enumerate((("a", "ale"), ("b", "ale"), ("b", "stout"))):
        body = {"response": {"data": {"ndarray": ["ale"]}}, "truth": {"data": {"ndarray": [truth]}}}
        server.post(body, ce(FEEDBACK, f"6-{number}", f"g{number}", inferenceservicename="beer", tenant=tenant))
    for number, (sold, price) in enumerate(((14.5, 12.5), (20.0, 21.0), (18.5, 19.0), (9.5, 11.0))):
        names = {"inferenceservicename": "houses"}
        server.post({"data": {"ndarray": [price]}}, ce(RESPONSE, f"4-{number}", f"price{number}", **names))
        server.post({"truth": {"data": {"ndarray": [sold]}}}, ce(FEEDBACK, f"5-{number}", f"price{number}", **names))
    now = time.time()
    statements: list[dict[str, Any]] = [
        *(
            {"deployment": "rents", "truth": 500.5, "prediction": 500.5 + n} for n in range(400)
        ),  # the 0.99 quantile has an interval
        *({"deployment": "churn", "truth": t, "prediction": p} for t, p in ((0, 0.1), (1, 0.9), (0, 0.8), (1, 0.2))),
        *({"deployment": "photos", "truth": t, "prediction": [0.9, 0.2, 0.4]} for t in ([1, 0, 1], [0, 1, 0])),
        *({"deployment": "search", "truth": t, "prediction": [0.9, 0.2, 0.4]} for t in (0, [1, 2, 0])),
        *(
            {"deployment": "assistant", "request_id": "a", "truth": t, "prediction": 0, "labelled_at": now - at}
            for at, t in ((2, "down"), (1, "up"))
        ),
        *({"deployment": "assistant", "truth": truth, "prediction": 0} for truth in ("up", "up", "down")),
        {"deployment": "flowers", "truth": "versicolor", "prediction": 1},
        *(
            {"deployment": "tea", "predictor": predictor, "truth": "green", "prediction": said}
            for predictor, said in (("main", "green"), ("canary", "green"), ("canary", "black"))
        ),
    ]
    assert server.post(statements, {"Content-Type": "application/json"}, "/v1/feedback").status == 200
    text = page("reference/metrics.md")
    until(lambda: "model_canary_difference" in dict(_families(server)), 20, "no scrape shows a verdict")
    found = dict(_families(server))
    for name, kind in found.items():
        assert f"| `{name}` | {kind} |" in text
    documented = set(
        re.findall(r"^\| `((?:model|seldon|metrics_server)_\w+)` \| (?:counter|gauge|histogram) \|", text, re.MULTILINE)
    )
    assert documented - OF_OBJECTIVES == set(found), "the page of this test shows every family there is"


def _configuration() -> str:
    """The configuration that the page on the choice of a metric model shows."""
    return next(code for language, code in blocks(page("how-to/choose-a-metric-model.md")) if language == "yaml")


@pytest.mark.parametrize(
    ("model", "family", "value"),
    [
        ("missed_cost.MissedCost", "model_mean_cost", 50.0),
        ("within_tolerance.WithinTolerance", "seldon_metric_out_of_tolerance_total", 1.0),
    ],
)
def test_the_examples_serve(serve: Serve, model: str, family: str, value: float) -> None:
    """Both are loaded from PYTHONPATH by --storage_uri and bring their own series."""
    server = serve(
        "--store",
        "memory://",
        "--windows",
        "1h",
        "--storage_uri",
        model,
        environment={"PYTHONPATH": f"{DOCS / 'examples'}"},
    )
    assert server.post({"response": {"data": {"ndarray": [0.2]}}, "truth": {"data": {"ndarray": [1]}}}).status == 200
    assert server.value(family) == value


@pytest.mark.parametrize(
    "name",
    [
        "how-to/choose-a-metric-model.md",
        "how-to/groups.md",
        "how-to/value.md",
        "how-to/write-a-metric-model.md",
        "reference/settings.md",
    ],
)
def test_yaml_in_the_pages_is_a_configuration(name: str, tmp_path: Path, serve: Serve) -> None:
    """A server starts with each file of settings that a page shows."""
    for number, code in enumerate(code for language, code in blocks(page(name)) if language == "yaml"):
        path = tmp_path / f"{number}.yaml"
        path.write_text(code)
        serve("--store", "memory://", "--config", str(path), environment={"PYTHONPATH": str(DOCS / "examples")})


def test_promql_in_the_pages_is_understood(tmp_path: Path) -> None:
    """promtool takes every query, and each names series that the reference has."""
    queries: list[str] = []
    for path in PAGES:
        for language, code in blocks(path.read_text()):
            if language == "promql":
                queries += re.sub(r"\n\s+", " ", code).splitlines()
    rules = "".join(f"  - record: query:{number}\n    expr: {query!r}\n" for number, query in enumerate(queries))
    (tmp_path / "rules.yml").write_text(f"groups:\n- name: docs\n  rules:\n{rules}")
    assert queries
    checked = subprocess.run(
        [peer("promtool"), "check", "rules", str(tmp_path / "rules.yml")], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    for name in re.findall(r"\b(?:model|metrics_server|seldon_metric)_\w+", " ".join(queries)):
        if name not in ("model_name", "model_image", "model_version"):  # labels
            assert f"| `{name}` |" in page("reference/metrics.md")


@pytest.mark.parametrize(
    "path",
    [DOCS / "tutorial.md", DOCS / "how-to/send-feedback.md", CHOICE, *([README] if README.exists() else [])],
    ids=lambda path: path.name,
)
def test_the_commands_of_the_page_work(path: Path, serve: Serve, tmp_path: Path) -> None:
    """Every curl is answered 200, and prints what the page says; where the page restarts the server, so does the
    test."""
    bash, status = peer("bash"), tmp_path / "status"
    wrapper = tmp_path / "bin" / "curl"
    wrapper.parent.mkdir()
    wrapper.write_text(
        f"#!{bash}\nexec {peer('curl')} --write-out '%{{stderr}}%{{http_code}}\\n' \"$@\" 2>'{status}'\n"
    )
    wrapper.chmod(0o755)
    environment = {**os.environ, "PATH": f"{wrapper.parent}{os.pathsep}{os.environ['PATH']}"}
    config = tmp_path / "models.yaml"
    config.write_text(_configuration())
    server = serve(*(("--config", str(config)) if path == CHOICE else ()))
    ran = 0
    found = blocks(path.read_text())
    for (language, code), (following, output) in zip(found, [*found[1:], ("", "")], strict=True):
        if language != "sh":
            continue
        if ".venv/bin/metrics-server\n" in code:
            assert server.stop() == 0
            server = serve()
        for command in _commands(code):
            if "curl" not in command or ADDRESS not in command:
                continue
            line = command.replace(ADDRESS, f"127.0.0.1:{server.port}")
            result = subprocess.run(
                [bash, "-c", line], env=environment, capture_output=True, text=True, check=False, timeout=20
            )
            assert status.read_text().split()[-1:] == ["200"], command
            ran += 1
            printed = result.stdout
        if ADDRESS in code and following == "text":
            assert_same_text(printed, output)
    assert ran


def _commands(code: str) -> list[str]:
    """The commands of a block, each with its continued lines and those of a quoted text."""
    found: list[str] = []
    for line in code.replace("\\\n", " ").splitlines():
        if found and found[-1].count("'") % 2:
            found[-1] += f"\n{line}"
        elif line.strip():
            found.append(line)
    return found


def test_backups_are_complete(serve: Serve, tmp_path: Path) -> None:
    """Both commands of the page copy the state of a running server, and a server starts from the copy."""
    sqlite = Path(peer("sqlite3"))
    commands = [
        code.strip() for language, code in blocks(page("how-to/operate.md")) if language == "sh" and "sqlite3" in code
    ]
    assert len(commands) == 2
    server = serve()
    server.post({"response": {"data": {"ndarray": [[0.1, 0.9]]}}, "truth": {"data": {"ndarray": [1]}}})
    for command in commands:
        (tmp_path / "copy.db").unlink(missing_ok=True)
        subprocess.run(
            [peer("bash"), "-c", command.replace("sqlite3", str(sqlite), 1)], cwd=tmp_path, check=True, timeout=20
        )
        (tmp_path / "restored").mkdir(exist_ok=True)
        shutil.copy(tmp_path / "copy.db", tmp_path / "restored" / f"{len(command)}.db")
        copy = serve("--store", f"sqlite:///restored/{len(command)}.db")
        assert copy.value("model_support", window="1h") == 1
