"""What the simulated cluster says of itself, in the names and labels of Seldon's executor and Python wrapper."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from metrics_server import __version__
from metrics_server.commands.simulation.cluster import Deployment, HeldOut, Predictor
from metrics_server.commands.simulation.executor import Call, Executor

IMAGE = {"model_image": "metrics-server-simulator", "model_version": __version__}
OF_CALL = {"deployment_name": "houses", "predictor_name": "default", "predictor_version": "", "method": "post"}
SERVER, CLIENT = (f"seldon_api_executor_{side}_requests_seconds" for side in ("server", "client"))


@pytest.fixture
def executor() -> Executor:
    """One that has answered two predictions, refused one, and taken feedback."""
    predictor = Predictor("default", "regressor", lambda rows: rows.sum(axis=1))
    houses = Deployment("seldon", "houses", (predictor,), HeldOut(["area"], np.ones((1, 1)), [1.0]))
    executor = Executor(lambda message: None, lambda: 0, Random(1))
    for body in (b'{"data":{"ndarray":[[2.0],[4.0]]}}', b'{"data":{"ndarray":[[5.0]]}}', b"{"):
        executor.predict(houses, Call(body))
    executor.feedback(houses, Call(b'{"reward": 1}'))
    return executor


def _value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def test_an_executor_times_its_calls(executor: Executor) -> None:
    """By service and status, with the buckets of Seldon's executor."""
    registry = executor.metrics.executor.registry
    counts = {
        (service, code): _value(registry, f"{SERVER}_count", **OF_CALL, service=service, code=code)
        for service, code in (("predictions", "200"), ("predictions", "400"), ("feedback", "200"), ("feedback", "400"))
    }
    assert list(counts.values()) == [2, 1, 1, None]
    bounds = [
        sample.labels["le"]
        for family in registry.collect()
        for sample in family.samples
        if sample.name == f"{SERVER}_bucket" and sample.labels["code"] == "400"
    ]
    assert bounds == [
        *("0.005", "0.01", "0.025", "0.05", "0.075", "0.1", "0.25", "0.5", "0.75"),
        *("1.0", "2.5", "5.0", "7.5", "10.0", "+Inf"),
    ]


def test_an_executor_times_the_calls_of_its_models(executor: Executor) -> None:
    """By the path that it asks, with the model, its image and its version."""
    registry, model = executor.metrics.executor.registry, {"model_name": "regressor", **IMAGE}
    for service, count in (("/predict", 2), ("/send-feedback", 1)):
        assert _value(registry, f"{CLIENT}_count", **OF_CALL, **model, service=service, code="200") == count


def test_custom_metrics_have_the_labels_of_the_wrapper(executor: Executor) -> None:
    """A counter of rows, a gauge with the latest output, and a timer of the answers; what failed moves none."""
    registry = executor.metrics.wrapper.registry
    labels = {
        "deployment_name": "houses",
        "predictor_name": "default",
        "predictor_version": "",
        "model_name": "regressor",
        "worker_id": "1",
        **IMAGE,
    }
    assert _value(registry, "simulated_rows_total", **labels) == 3
    assert _value(registry, "simulated_output", **labels) == 5.0
    assert _value(registry, "simulated_predict_count", **labels) == 2
