"""Imports go one way: an import against the order of packages, or an outside package away from its home, fails here."""

from __future__ import annotations

import ast
import importlib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

# Ten packages and four modules: each may import those before it, never those behind it.
ORDER = (
    "errors",
    "metrics",
    "store",
    "series",
    "telemetry",
    "pairing",
    "http",
    "ingest",
    "api",
    "web",
    "settings",
    "commands",
    "app",
    "__main__",
)

# What we stand on, and where it is at home.
HOMES = {
    "tornado": ("http", "api.handlers", "web.handlers", "web.render", "ingest.router", "ingest.reply",
                "ingest.elasticsearch.lookup", "commands.simulation.delivery", "commands.simulation.ingress",
                "app"),
    "httptools": ("http.connection",),
    "uvloop": ("__main__",),
    "cloudevents": ("ingest.reply",),
    "prometheus_client": ("telemetry", "api.exposition", "api.worker_counts", "commands.simulation"),
    "psycopg": ("store.postgres",),
    "sqlite3": ("store.sqlite",),
    "yaml": ("settings.loading",),
    "google": ("ingest.payload.protobuf", "ingest.payload.pb"),
    "confluent_kafka": ("ingest.kafka.consumer",),
    "tqdm": ("commands.replay.command", "commands.migrate"),
    "pyarrow": ("commands.replay.location", "commands.replay.source"),
    "bokeh": ("web.figure",),
    "sklearn": ("commands.simulation.cluster",),
}  # fmt: skip


@cache
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
    names = {path: ".".join(path.relative_to(root).with_suffix("").parts) for path in root.rglob("*.py")}
    return {name.removesuffix(".__init__"): _imports(path) for path, name in names.items() if name != "__init__"}


def _inner(names: set[str]) -> set[str]:
    """The modules of ours among imported names, without the package's own name."""
    return {name.removeprefix("metrics_server.") for name in names if name.startswith("metrics_server.")}


SERVER = _modules("metrics_server")


def test_the_top_level_is_ten_packages_and_four_modules() -> None:
    """The first look at the house shows it whole, and every package says in a sentence what it is for."""
    top = {name.partition(".")[0] for name in SERVER}
    assert top == set(ORDER)
    packages = [name for name in ORDER if (ROOT / "metrics_server" / name).is_dir()]
    assert len(packages) == 10
    for path in (ROOT / "metrics_server").rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), f"{path} does not say what its package is for"


@pytest.mark.parametrize("module", sorted(SERVER))
def test_imports_go_one_way(module: str) -> None:
    """A module imports from its own package and from those before it."""
    rank = ORDER.index(module.partition(".")[0])
    for name in _inner(SERVER[module]):
        package = name.partition(".")[0]
        assert package not in ORDER or ORDER.index(package) <= rank, f"{module} imports {name}"


def test_there_is_no_circle() -> None:
    """Modules can be put in a row in which each imports only earlier ones."""
    rest = {
        name: {other for other in _inner(names) if other in SERVER and other != name} for name, names in SERVER.items()
    }
    while free := [name for name, needed in rest.items() if not needed & rest.keys()]:
        for name in free:
            del rest[name]
    assert not rest, f"these import each other: {sorted(rest)}"


@pytest.mark.parametrize("package", sorted(HOMES))
def test_each_outside_package_has_one_home(package: str) -> None:
    """What we stand on is seen only where it is at home."""
    users = {module for module, names in SERVER.items() if any(name.split(".")[0] == package for name in names)}
    assert users
    for module in users:
        assert any(module == home or module.startswith(f"{home}.") for home in HOMES[package]), module


def test_the_core_knows_no_sockets() -> None:
    """What decodes, pairs and counts can be tested without an event loop, and but for a store without a network."""
    for module, names in SERVER.items():
        is_core = module.partition(".")[0] in ("metrics", "store", "series", "pairing")
        if is_core and not module.startswith("store.postgres."):
            assert not {"asyncio", "socket", "ssl"} & {name.split(".")[0] for name in names}, module


def test_metric_models_stand_on_the_algebra_alone() -> None:
    """A family of metrics imports from `metrics_server.metrics` and from nowhere deeper, and knows no server."""
    public = importlib.import_module("metrics_server.metrics").__all__
    allowed = {"metrics_server.metrics", *(f"metrics_server.metrics.{name}" for name in public)}
    for module, names in _modules("cm_models").items():
        assert {name for name in names if name.startswith("metrics_server")} <= allowed, module


def test_the_server_knows_no_metric_family() -> None:
    """Models are found by their dotted paths; nothing of the server imports one."""
    assert not [module for module, names in SERVER.items() if any(name.startswith("cm_models") for name in names)]


def test_no_function_is_too_long() -> None:
    """Every function of the two packages has at most 50 lines."""
    for path in [*ROOT.glob("metrics_server/**/*.py"), *ROOT.glob("cm_models/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert (node.end_lineno or 0) - node.lineno < 50, f"{path}: {node.name}"


TEST_FILES = sorted((ROOT / "tests").rglob("*.py"))


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_test_file_is_imported(path: Path) -> None:
    """What tests share is in tests/support; a test file can be read, moved and run by itself."""
    assert not [name for name in _imports(path) if any(part.startswith("test_") for part in name.split("."))]


@pytest.mark.parametrize(
    "path", [path for path in TEST_FILES if path.parent.name in ("unit", "contract")], ids=lambda path: path.stem
)
def test_what_is_fast_starts_no_server(path: Path) -> None:
    """Tests of `make fast` start no server process and no peer program."""
    started = {f"tests.support.{name}" for name in ("browser", "kafka_broker", "live_server", "monitoring", "raw_http")}
    started |= {f"tests.support.running.{name}" for name in ("RunningServer", "launch", "peer")} | {
        "tests.conftest.Serve"
    }
    assert not _imports(path) & started
