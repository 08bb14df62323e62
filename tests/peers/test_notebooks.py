"""The notebooks run from a clean kernel, say what is stored, and are stored so that a code host can show them."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import NAMES
from tests.support.kubernetes_api import running_cluster
from tests.support.numbers import assert_same_text
from tests.support.running import ROOT, free_port, peer
from tests.support.waiting import until

NOTEBOOKS = ROOT / "notebooks"
BUILD = NOTEBOOKS / "build.py"
FILES = sorted(NOTEBOOKS.glob("*.ipynb"))
SECONDS = 240  # a kernel takes long to start on a busy machine
MOST_BYTES = 400_000
KUBECTL = """#!/bin/sh
echo "$*" >> "$KUBECTL_LOG"
case "$*" in
  *" -f -") grep -E '^kind:' >> "$KUBECTL_LOG";;
  *" logs "*) cat "$SERVER_LOGS"/metrics-server-*.log;;
esac
"""


def build(notebook: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Builds a notebook in place, in an environment that says nothing of clusters."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in ("CLUSTER", "INGRESS_URL", "METRICS_URL", "IMAGE")
    }
    command = [sys.executable, str(BUILD), str(notebook)]
    return subprocess.run(command, env={**clean, **environment}, capture_output=True, text=True, timeout=SECONDS)


def built(name: str, directory: Path, **environment: str) -> dict[str, Any]:
    """What a notebook is when it is built now."""
    copy = shutil.copy(NOTEBOOKS / f"{name}.ipynb", directory)
    done = build(Path(copy), **environment)
    assert done.returncode == 0, done.stderr
    return read(Path(copy))


def read(path: Path) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(path.read_text())
    return notebook


def code_cells(notebook: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (cell for cell in notebook["cells"] if cell["cell_type"] == "code")


def printed(notebook: dict[str, Any], only: str = "") -> str:
    """The cells, or one of them, with the streams each wrote to and what it wrote."""
    return "".join(
        f"[{cell['id']}] {output['name']}:\n{''.join(output['text'])}"
        for cell in code_cells(notebook)
        for output in cell["outputs"]
        if output["output_type"] == "stream" and only in ("", cell["id"])
    )


def shown(notebook: dict[str, Any], kind: str) -> list[tuple[str, str]]:
    """What was shown in this form, by cell."""
    return [
        (cell["id"], "".join(output["data"][kind]))
        for cell in code_cells(notebook)
        for output in cell["outputs"]
        if kind in output.get("data", {})
    ]


@pytest.mark.long
def test_the_report_says_what_is_stored(tmp_path: Path) -> None:
    """A clean run of the report prints and writes what is stored, and makes as many pictures."""
    next(filter(None, map(shutil.which, NAMES)), None) or peer(NAMES[0])
    now, stored = built("report", tmp_path), read(NOTEBOOKS / "report.ipynb")
    assert_same_text(printed(now), printed(stored))
    assert_same_text(str(shown(now, "text/markdown")), str(shown(stored, "text/markdown")))
    assert [cell for cell, _ in shown(now, "image/png")] == [cell for cell, _ in shown(stored, "image/png")]


@pytest.mark.long
def test_the_walkthrough_says_what_is_stored(tmp_path: Path) -> None:
    """A clean run of the walkthrough prints what is stored; its charts, of hours that are others now, are as many, and
    interactive."""
    peer("curl")
    peer("prometheus")
    now, stored = built("walkthrough", tmp_path, NOTEBOOK_CHARTS="bokeh"), read(NOTEBOOKS / "walkthrough.ipynb")
    assert_same_text(printed(now), printed(stored))
    assert not shown(now, "image/png")
    figures = shown(now, "application/vnd.bokehjs_exec.v0+json")
    assert [cell for cell, _ in figures] == [cell for cell, _ in shown(stored, "image/png")]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def _simulated_cluster(directory: Path) -> Iterator[dict[str, str]]:
    """The simulation with its server, whose log is in the directory; yields what the walkthrough has to know of it."""
    log, server, ingress = directory / "simulate.log", free_port(), free_port()
    options = ["--serve", "--rate", "0", "--store", "memory://", "--url", f"http://127.0.0.1:{server}"]
    with log.open("w") as output:
        simulation = subprocess.Popen(
            [sys.executable, "-m", "metrics_server", "simulate", *options, "--ingress_port", str(ingress)],
            stdout=output,
            stderr=output,
            env={**os.environ, "TMPDIR": str(directory)},
        )
    try:
        until(lambda: all(map(_listens, (server, ingress))), 60, "the simulated cluster did not come up")
        yield {"INGRESS_URL": f"http://localhost:{ingress}", "METRICS_URL": f"http://127.0.0.1:{server}"}
    finally:
        simulation.terminate()
        assert simulation.wait(30) == 0, log.read_text()


@pytest.mark.long
def test_the_walkthrough_talks_to_a_cluster(tmp_path: Path) -> None:
    """With a cluster it applies the manifests in their order, sends the same requests to its ingress, looks for the
    feedback in the log of the server's pods, and deletes what it applied."""
    peer("curl")
    kubectl, calls = tmp_path / "kubectl", tmp_path / "calls"
    kubectl.write_text(KUBECTL)
    kubectl.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    with _simulated_cluster(tmp_path) as addresses:
        said = {"KUBECTL_LOG": str(calls), "SERVER_LOGS": str(tmp_path), "PATH": path, **addresses}
        now = built("walkthrough", tmp_path, NOTEBOOK_CHARTS="bokeh", CLUSTER="knative", **said)
    assert_same_text(printed(now, "late-correct"), printed(read(NOTEBOOKS / "walkthrough.ipynb"), "late-correct"))
    assert not shown(now, "text/markdown")[2:], "no made-up past in a cluster"
    steps = [line.removeprefix("--namespace seldon ").removeprefix("kind: ") for line in calls.read_text().splitlines()]
    steps = [step for step, _ in groupby(step.split(" --")[0] for step in steps)]  # the log is read until it is there
    model, parts = ["SeldonDeployment"], ["Service", "Broker", "Trigger"]
    assert steps == [
        *("apply -f -", *model, "wait seldondeployment/multiclass-model"),
        *("apply -f -", *parts, "wait ksvc/feedback-metrics-server", "wait trigger/feedback-metrics-server"),
        "logs",
        *("delete -f -", *parts, "delete -f -", *model),
    ]


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("kubernetes", ["Deployment/feedback-metrics-server", "Service/feedback-metrics-server"]),
        (
            "knative",
            ["Service/feedback-metrics-server", "Broker/default", "Trigger/feedback-metrics-server"],
        ),
    ],
)
def test_the_walkthrough_is_run_by_a_real_kubectl(tmp_path: Path, kind: str, parts: list[str]) -> None:
    """kubectl takes what the walkthrough asks of it: it makes the objects at an API, waits for them, finds the line of
    the feedback in the log of a pod, and deletes all."""
    peer("curl")
    peer("kubectl")
    with _simulated_cluster(tmp_path) as addresses, running_cluster(tmp_path) as (cluster, configuration):
        said = {"KUBECONFIG": str(configuration), **addresses}
        now = built("walkthrough", tmp_path, NOTEBOOK_CHARTS="bokeh", CLUSTER=kind, **said)
    assert "PROCESSING Feedback Event." in printed(now, "feedback-log-check")
    model = "SeldonDeployment/multiclass-model"
    assert [step for step, _ in groupby(cluster.done)] == [
        *(f"create {name}" for name in (model, *parts)),
        "log",
        *(f"delete {name}" for name in (*parts, model)),
    ]
    assert not cluster.objects


@pytest.mark.long
def test_an_assertion_of_the_report_can_fail(tmp_path: Path) -> None:
    """A replay that scores otherwise than scikit-learn does stops the notebook, and nothing is stored."""
    copy = tmp_path / "report.ipynb"
    text = (NOTEBOOKS / "report.ipynb").read_text()
    assert text.count("threshold=THRESHOLD") == 1
    copy.write_text(broken := text.replace("threshold=THRESHOLD", "threshold=0.5"))
    done = build(copy, NOTEBOOK_CHARTS="bokeh")
    assert done.returncode == 1
    assert "AssertionError" in done.stderr
    assert copy.read_text() == broken


@pytest.mark.long
def test_a_failed_cell_leaves_no_process(tmp_path: Path) -> None:
    """What a notebook started ends with its kernel, though the cell that ends it was never reached."""
    copy, pid = tmp_path / "failing.ipynb", tmp_path / "pid"
    notebook = read(NOTEBOOKS / "report.ipynb")
    first = next(code_cells(notebook))
    first["source"] = f"""from pathlib import Path
from process import start
Path({str(pid)!r}).write_text(str(start("sleep", "600", log=Path({str(tmp_path / "log")!r})).pid))
raise SystemError"""
    copy.write_text(json.dumps({**notebook, "cells": [first]}))
    done = build(copy)
    assert "SystemError" in done.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_is_stored_was_built(path: Path) -> None:
    """Nobody changed a cell and forgot `make notebooks`; the cells ran in their order, once."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import build, nbformat; "
        "print(build.source_digest(nbformat.read(sys.argv[2], 4)))"
    )
    digest = subprocess.run(
        [sys.executable, "-c", code, NOTEBOOKS, path], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    notebook = read(path)
    assert notebook["metadata"]["built_from"] == digest.strip(), "run `make notebooks`"
    counts = [cell["execution_count"] for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_is_stored_can_be_read_on_a_code_host(path: Path) -> None:
    """Small, of text and pictures alone, each picture with its words; no script, no path, port or time of the machine
    that built it."""
    assert path.stat().st_size < MOST_BYTES
    notebook = read(path)
    assert notebook["metadata"].keys() == {"kernelspec", "language_info", "built_from"}
    assert not any(cell["metadata"] for cell in notebook["cells"])
    outputs = [output for cell in code_cells(notebook) for output in cell["outputs"]]
    assert outputs
    for output in outputs:
        assert output["output_type"] != "error"
        assert output.get("name") != "stderr"
        data = output.get("data", {})
        assert data.keys() <= {"text/plain", "text/markdown", "image/png"}
        if "image/png" in data:
            assert len("".join(data.pop("text/plain"))) > 50
            data.pop("image/png")
        assert not re.search(r"bokeh|/tmp|/root|/home|127\.0\.0\.1|localhost:", json.dumps(output))


@pytest.mark.parametrize("path", [*FILES, NOTEBOOKS / "README.md"], ids=lambda path: path.stem)
def test_links_lead_somewhere(path: Path) -> None:
    """Every link of the prose is to a file of the repository."""
    cells = read(path)["cells"] if path in FILES else [{"cell_type": "markdown", "source": path.read_text()}]
    prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    links = re.findall(r"\]\(([^)#]+)", prose)
    assert links
    for link in links:
        assert (NOTEBOOKS / link).is_file(), link
