"""The package as others get it: built, installed elsewhere, and started there."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from metrics_server import __version__
from tests.support.running import ROOT, RunningServer

NAME = f"feedback_metrics_server-{__version__}"


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make build` makes, with what builds it taken from this environment, so that no network is needed."""
    directory = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(directory), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    return directory


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment with our wheel in it, which finds what the wheel depends on in this one."""
    directory = tmp_path_factory.mktemp("environment")
    venv.create(directory, with_pip=False)
    python = directory / "bin" / "python"
    here = sysconfig.get_paths(vars={"base": str(directory), "platbase": str(directory)})["purelib"]
    command = [sys.executable, "-m", "pip", f"--python={python}", "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*command, str(dist / f"{NAME}-py3-none-any.whl")], check=True, timeout=100, env=_plain())
    (Path(here) / "dependencies.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n")
    return python


def _plain() -> dict[str, str]:
    """This process' environment without what would lead Python to our sources."""
    return {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }


def test_setup_py_tells_the_version() -> None:
    """Tools that still ask setup.py get the version of the package."""
    command = [sys.executable, "setup.py", "--version"]
    asked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.split() == [__version__]


@pytest.mark.long
def test_the_wheel_has_all_that_a_server_needs_and_no_tests(dist: Path) -> None:
    """Both packages with their types, the page's templates and files, the schemas of protobuf; nothing of the tests."""
    with zipfile.ZipFile(dist / f"{NAME}-py3-none-any.whl") as wheel:
        files = {name for name in wheel.namelist() if not name.startswith(f"{NAME}.dist-info/")}
    sources = {
        str(path.relative_to(ROOT))
        for package in ("metrics_server", "cm_models")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files == sources
    for suffix in ("py.typed", ".proto", ".pyi", ".html", ".css", ".js"):
        assert any(name.endswith(suffix) for name in files), suffix


@pytest.mark.long
def test_the_source_distribution_builds_the_same(dist: Path) -> None:
    """The wheel was made from the sdist, which holds what names, licenses and builds the package."""
    with tarfile.open(dist / f"{NAME}.tar.gz") as archive:
        names = {name.removeprefix(f"{NAME}/") for name in archive.getnames()}
    assert {"pyproject.toml", "setup.py", "README.md", "LICENSE", "metrics_server/py.typed"} <= names


@pytest.mark.long
def test_the_installed_server_starts_anywhere(installed: Path, tmp_path: Path) -> None:
    """From another directory, with nothing of the repository in sight, its command serves events and its own page."""
    server = RunningServer(tmp_path, program=(str(installed.parent / "metrics-server"),))
    try:
        assert server.get("/healthz").status == 200
        assert server.get("/ui", {"Accept": "text/html"}).status == 200
        where = "import metrics_server, cm_models; print(metrics_server.__file__, cm_models.__file__)"
        found = subprocess.run([installed, "-c", where], cwd=tmp_path, capture_output=True, text=True, env=_plain())
        assert all(Path(path).is_relative_to(installed.parent.parent) for path in found.stdout.split()), found
    finally:
        assert server.stop() == 0
