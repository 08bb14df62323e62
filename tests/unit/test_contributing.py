"""CONTRIBUTING.md leads a newcomer to what is there: every path, package and command that it names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import metrics_server

ROOT = Path(metrics_server.__file__).resolve().parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
PACKAGES = sorted(path.parent for path in (ROOT / "metrics_server").glob("*/**/__init__.py"))

_LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)\s]*)?\)")
_SENTENCE = re.compile(r".*?\.(?=\s|$)")
_TARGET = re.compile(r"^([a-z-]+):", re.MULTILINE)


def _section(title: str) -> str:
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def _purpose(package: Path) -> str:
    """The first sentence of the docstring of a package."""
    words = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    found = _SENTENCE.match(" ".join(words.split()))
    assert found, f"{package} does not say what it is for"
    return found[0]


def test_every_path_exists() -> None:
    """Each file and directory that is linked, or named with its path, is there."""
    named = set(_LINK.findall(TEXT)) | set(re.findall(r"`((?:metrics_server|cm_models|deploy|docs)/[^`\s]*)`", TEXT))
    assert len(named) > 40
    assert not sorted(name for name in named if not (ROOT / name).exists())


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_map_has_every_package(package: Path) -> None:
    """Each package stands in the map with the sentence that it says of itself."""
    name = package.relative_to(ROOT)
    assert f"| [{name}/]({name}) | {_purpose(package)} |" in _section("The map").splitlines()


def test_the_map_has_nothing_else() -> None:
    """A package that is gone is not on the map."""
    assert len(re.findall(r"^\| \[", _section("The map"), re.MULTILINE)) == len(PACKAGES)


def test_every_command_is_a_target() -> None:
    """`make` knows each command that is named, and each command that it knows is named."""
    targets = set(_TARGET.findall((ROOT / "Makefile").read_text()))
    assert set(re.findall(r"`make ([a-z-]+)`", TEXT)) == targets
