"""The example with metrics of its own in Seldon's real Python wrapper: what the wrapper exposes, the server exposes."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as prometheus

from tests.conftest import Serve
from tests.support.peers.environments import SELDON, programs_of
from tests.support.peers.executor import PREDICTOR, Executor, Node, executing
from tests.support.peers.programs import Program
from tests.support.running import ROOT, free_port

pytestmark = pytest.mark.long

EXAMPLES = ROOT / "deploy/examples/seldon"
DEPLOYMENT, NODE = "house-price", "regressor"
HOUSES = b'{"data":{"names":["area","rooms"],"ndarray":[[80,3],[120,4]]}}'
OF_PROCESS = {"worker_id"}


@pytest.fixture
def executor() -> Iterator[Executor]:
    with executing() as running:
        yield running


@pytest.fixture
def wrapper(tmp_path: Path, executor: Executor) -> Iterator[str]:
    """The microservice of the example; the URL of its metrics."""
    program = programs_of(*SELDON) / "seldon-core-microservice"
    http, metrics = free_port(), free_port()
    ports = [f"--http-port={http}", f"--grpc-port={free_port()}", f"--metrics-port={metrics}"]
    running = Program(
        tmp_path / "wrapper.log",
        [program, "house_price.HousePrice", "--service-type", "MODEL", *ports],
        PYTHONPATH=str(EXAMPLES),
        PREDICTIVE_UNIT_ID=NODE,
        PREDICTOR_ID=PREDICTOR,
        SELDON_DEPLOYMENT_ID=DEPLOYMENT,
    )
    try:
        running.await_answer(f"http://127.0.0.1:{http}/health/ping")
        executor.graphs[DEPLOYMENT] = Node(NODE, f"http://127.0.0.1:{http}")
        yield f"http://127.0.0.1:{metrics}/metrics"
    finally:
        running.stop()


def own_samples(text: str) -> dict[tuple[str, frozenset[Any]], float]:
    """The example's samples of calls of `predict`, without what belongs to a process, a start or a namespace."""
    left_out = OF_PROCESS | {"seldon_deployment_namespace"}
    return {
        (sample.name, frozenset((name, value) for name, value in sample.labels.items() if name not in left_out)): (
            sample.value
        )
        for family in prometheus(text)
        for sample in family.samples
        if sample.name.startswith("house_price_") and sample.labels["method"] == "predict"
    }


def test_the_server_exposes_what_the_wrapper_does(wrapper: str, executor: Executor, serve: Serve) -> None:
    """The example answers in the real wrapper, rows of whole numbers too, and the server shows its metrics with the
    names, the labels and the values of the wrapper, however often the log is delivered."""
    server = serve("--store", "memory://", "--custom_metrics", "*")
    for puid in ("a", "b", "c"):
        answer = json.loads(executor.predict(DEPLOYMENT, puid, HOUSES))
        assert answer["data"]["ndarray"] == [244_000, 352_000]
    for event in executor.take():
        headers = event.headers()
        for _ in range(2):
            assert server.post(event.body, headers).status == 200
    with urllib.request.urlopen(wrapper, timeout=20) as answered:
        wanted = own_samples(answered.read().decode())
    assert {(name, value) for (name, _), value in wanted.items()} == {
        ("house_price_calls_total", 3),
        ("house_price_last_mean", 298_000),
    }
    assert own_samples(server.get("/v1/metrics").body.decode()) == wanted
