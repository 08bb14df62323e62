"""Imports go one way: an import against an arrow, or a package away from its home, fails here."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Each module may import those above it in this list, never those below.
LAYERS = [
    "",
    "errors sums volume simulation simulation.executor_event web",
    "window json answer interval catalogue web.wording web.asset web.recent web.figure.look",
    "distribution logarithmic store.statements",
    "model",
    "task",
    "store.interface store.past output reward body",
    "store.memory store.sqlite store series event",
    "case totals scorer latency query catalog payload.rows payload.reading payload.registry payload.pb",
    "pairing kept selection history payload.openai payload.tensorflow payload.v2 payload.pb.tensorflow_pb2 payload.pb.inference_pb2",
    "payload.seldon payload.pb.seldon_pb2 ledger",
    "payload.protobuf readings",
    "payload cabinet oblivion api_answer",
    "half comparison listing web.measure web.chart.form web.figure.form",
    "kafka_record statement ingress api web.links web.chart.history web.chart.decision web.chart.distribution web.chart.health",
    "group openapi web.question web.chart web.figure.timeline web.figure.decision web.figure.distribution",
    "telemetry web.attention web.figure",
    "upkeep web.pulse web.render web.sparkline web.deployment_page web.model_page web.overview",
    "writer reply exposition web.health_page web.trend",
    "ingest exchange document",
    "connection elasticsearch",
    "router handlers settings kafka_offer kafka_trouble",
    "kafka kafka_config desk",
    "api_handlers web.handlers",
    "app",
    "simulation.cluster simulation.outcome replay_file replay_answer",
    "simulation.executor simulation.delivery",
    "simulation.ingress simulation.server simulation.story",
    "simulation.traffic",
    "simulation.command replay",
    "replay_command",
    "__main__",
    "",
]

# Packages from outside, and where they are at home.
HOMES = {
    "tornado": {
        "app",
        "web.handlers",
        "web.render",
        "handlers",
        "router",
        "exchange",
        "reply",
        "elasticsearch",
        "simulation.delivery",
        "simulation.ingress",
    },
    "httptools": {"connection"},
    "uvloop": {"__main__"},
    "cloudevents": {"reply"},
    "prometheus_client": {"exposition", "telemetry", "simulation.outcome"},
    "sqlite3": {"store.past", "store.sqlite", "store.statements"},
    "yaml": {"settings"},
    "google": {"payload.protobuf", "payload.pb.seldon_pb2", "payload.pb.tensorflow_pb2", "payload.pb.inference_pb2"},
    "confluent_kafka": {"kafka"},
    "tqdm": {"replay_command"},
    "pyarrow": {"replay_file"},
    "bokeh": {"web.figure", "web.figure.form", "web.figure.timeline", "web.figure.decision", "web.figure.distribution"},
    "sklearn": {"simulation.cluster"},
    "asyncio": {
        "app",
        "handlers",
        "api_handlers",
        "desk",
        "web.handlers",
        "connection",
        "exchange",
        "reply",
        "elasticsearch",
        "kafka_offer",
        "simulation.delivery",
        "simulation.server",
        "simulation.traffic",
        "simulation.command",
        "__main__",
    },
}


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def _modules(package: str) -> dict[str, set[str]]:
    root = ROOT / package
    names = {path: ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__") for path in root.rglob("*.py")}
    return {name: _imports(path) for path, name in names.items() if name != "__init__"}


SERVER = _modules("metrics_server")
RANK = {name: rank for rank, line in enumerate(LAYERS) for name in line.split()}


@pytest.mark.parametrize("module", sorted(SERVER))
def test_imports_go_one_way(module: str) -> None:
    """A module imports only from layers above its own."""
    assert module in RANK, f"{module} has no place in LAYERS"
    for name in SERVER[module]:
        inner = name.removeprefix("metrics_server.")
        if name.startswith("metrics_server.") and inner in RANK:
            assert RANK[inner] < RANK[module] or inner.startswith("store"), f"{module} imports {inner}"


@pytest.mark.parametrize("package", sorted(HOMES))
def test_each_outside_package_has_one_home(package: str) -> None:
    """What we stand on is seen only where it is at home."""
    users = {module for module, names in SERVER.items() if any(name.split(".")[0] == package for name in names)}
    assert users <= HOMES[package]


def test_metric_models_stand_on_the_arithmetic_alone() -> None:
    """A family of metrics knows no server."""
    allowed = {f"metrics_server.{name}" for name in ("interval", "logarithmic", "model", "sums")}
    for module, names in _modules("cm_models").items():
        ours = {name for name in names if name.startswith("metrics_server")}
        assert all(any(name.startswith(home) for home in allowed) for name in ours), module


def test_the_server_knows_no_metric_family() -> None:
    """Models are found by their dotted paths; nothing of the server imports one."""
    assert not [module for module, names in SERVER.items() if any(name.startswith("cm_models") for name in names)]


def test_no_module_is_too_long() -> None:
    """Every module of the two packages has at most 300 lines, every function at most 50."""
    for path in [*ROOT.glob("metrics_server/**/*.py"), *ROOT.glob("cm_models/*.py")]:
        text = path.read_text()
        assert len(text.splitlines()) <= 300, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert (node.end_lineno or 0) - node.lineno < 50, f"{path}: {node.name}"
