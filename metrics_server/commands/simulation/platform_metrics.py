"""Metrics of the platform: what Seldon's executor serves at `/prometheus`, and the Python wrapper on its metrics port.

Names, labels and buckets are those of Seldon Core 1.17: executor/api/metric, python/seldon_core/metrics.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from metrics_server import __version__
from metrics_server.commands.simulation.feedback_counts import NAMES

IMAGE_NAME = "metrics-server-simulator"
PATH = "/prometheus"
# The wrapper's process that answers; it has a label of its own.
WORKER_ID = "1"
_SERVER_LABELS = ("deployment_name", "predictor_name", "predictor_version", "service", "method", "code")
_MODEL_LABELS = ("model_name", "model_image", "model_version")
_WRAPPER_LABELS = ("deployment_name", *_MODEL_LABELS, "predictor_name", "predictor_version", "worker_id")
_EXECUTOR_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_TIMER_BUCKETS = tuple(np.logspace(-3, np.log10(30), 50).tolist())
# The executor's name of a service, and the path by which it asks the model.
SERVICES = {"predictions": "/predict", "feedback": "/send-feedback"}


class Unit(NamedTuple):
    """Whose metrics they are: a node of the graph of a predictor."""

    deployment: str
    predictor: str
    model: str


class ExecutorMetrics:
    """Durations of the calls that executors got, and of those that they made of their models."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        name, about = "seldon_api_executor_%s_requests_seconds", "A histogram of latencies for %s"
        self._server = Histogram(
            name % "server",
            about % "executor server",
            _SERVER_LABELS,
            buckets=_EXECUTOR_BUCKETS,
            registry=self.registry,
        )
        self._client = Histogram(
            name % "client",
            about % "client calls from executor",
            (*_SERVER_LABELS, *_MODEL_LABELS),
            buckets=_EXECUTOR_BUCKETS,
            registry=self.registry,
        )

    def observe(self, unit: Unit, service: str, code: int, seconds: float) -> None:
        """Notes a call of a service, and that of the model behind it, which took nearly as long."""
        of_call = (unit.deployment, unit.predictor, "")
        self._server.labels(*of_call, service, "post", code).observe(seconds)
        model = (unit.model, IMAGE_NAME, __version__)
        self._client.labels(*of_call, SERVICES[service], "post", code, *model).observe(seconds)


class WrapperMetrics:
    """Custom metrics as models return them: one of each type, and what one of them counts of its feedback."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._rows = Counter("simulated_rows", "", _WRAPPER_LABELS, registry=self.registry)
        self._output = Gauge("simulated_output", "", _WRAPPER_LABELS, registry=self.registry)
        self._timer = Histogram(
            "simulated_predict", "", _WRAPPER_LABELS, buckets=_TIMER_BUCKETS, registry=self.registry
        )
        self._counts = {name: Gauge(name, "", _WRAPPER_LABELS, registry=self.registry) for name in NAMES}

    def observe(self, unit: Unit, outputs: NDArray[np.float64], seconds: float, counts: Mapping[str, int]) -> None:
        """Counts rows (COUNTER), keeps the latest mean output and counts (GAUGE), and times the model (TIMER)."""
        labels = (unit.deployment, unit.model, IMAGE_NAME, __version__, unit.predictor, "", WORKER_ID)
        self._rows.labels(*labels).inc(len(outputs))
        self._output.labels(*labels).set(float(outputs.mean()))
        self._timer.labels(*labels).observe(seconds)
        for name, count in counts.items():
            self._counts[name].labels(*labels).set(count)


class PlatformMetrics:
    """Both, of all deployments of the cluster."""

    def __init__(self) -> None:
        self.executor, self.wrapper = ExecutorMetrics(), WrapperMetrics()
