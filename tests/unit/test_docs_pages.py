"""What the pages state is what the code says, they are linked, and they are finished."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from metrics_server.commands.replay.command import _parser as replay_parser
from metrics_server.errors import Reason
from metrics_server.metrics.labels import LabelStatus, Outcome
from metrics_server.metrics.task import TASKS
from metrics_server.settings import HELP, OPTIONS
from metrics_server.telemetry import LOOK_UP_OUTCOMES, REPLY_OUTCOMES
from tests.support.docs_pages import DOCS, FENCE, PAGES, README, blocks, page
from tests.support.running import ROOT

SHOWN = [*PAGES, *([README] if README.exists() else [])]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def test_the_generated_tables_are_those_of_the_code() -> None:
    """`make docs` would change nothing. In a process of its own: tests here load metric models of their own."""
    words = [sys.executable, str(DOCS / "generate.py"), "--check"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, f"run `make docs`; not up to date: {done.stdout}{done.stderr}"


def test_every_setting_is_documented() -> None:
    """Each option stands in the reference with its variable."""
    text = page("reference/settings.md")
    for name in OPTIONS:
        assert f"`--{name}`" in text
        assert f"`METRICS_SERVER_{name.upper()}`" in text
    assert set(HELP) - set(OPTIONS) == {"deployments", "objectives"}
    assert "`deployments:`" in text


def test_every_option_that_a_page_names_exists() -> None:
    """No page tells of an option that the command line does not know."""
    known = {f"--{name}" for name in OPTIONS} | {f"--no-{name}" for name in OPTIONS} | {"--config", "--help"}
    known |= set(re.findall(r"--[a-z_-]+", replay_parser().format_help()))
    for path in PAGES:
        prose = FENCE.sub("", path.read_text())
        named = {word.removesuffix("_") for word in re.findall(r"(?<![\w-])--[a-z][a-z_-]+", prose)}
        assert named - {"--http-port"} <= known, path.name


def test_every_reason_is_documented() -> None:
    """Each reason stands in the reference with its status."""
    text = page("reference/errors.md")
    for reason in Reason:
        assert f"| `{reason.label}` | {reason.status} |" in text


def test_every_status_and_outcome_is_documented() -> None:
    """The values of labels with a fixed set are explained one by one."""
    text = page("reference/metrics.md")
    for word in (*LabelStatus, *Outcome):
        assert f"| `{word}` | " in text
    for word in (*REPLY_OUTCOMES, *LOOK_UP_OUTCOMES):
        assert f"`{word}`" in text


def test_every_task_is_documented() -> None:
    """The page on metric models says which arrays each task brings."""
    text = page("how-to/write-a-metric-model.md")
    for task in TASKS:
        assert f'| `"{task}"`' in text


def _messages() -> Iterator[str]:
    """The text of everything that the server logs."""
    for path in (ROOT / "metrics_server").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and ast.unparse(node.func.value) in ("logger", "self._outages")
            ):
                yield from (
                    word.value
                    for word in ast.walk(node.args[0])
                    if isinstance(word, ast.Constant) and isinstance(word.value, str)
                )


def test_every_log_message_is_documented() -> None:
    """The page for operators has each message, with names in the place of what varies."""
    text = page("how-to/operate.md")
    shown = [
        re.sub(r"<[^>]*>", "%", message) for message in re.findall(r"^\| [IWE] \| `([^`]*)` \|", text, re.MULTILINE)
    ]
    logged = {re.sub(r"%[a-z]", "%", message) for message in _messages()}
    assert len(logged) > 10
    assert sorted(shown) == sorted(logged)


def test_the_examples_in_the_guide_are_the_files() -> None:
    """Both forms of a metric model are shown as they are in docs/examples."""
    shown = [code for language, code in blocks(page("how-to/write-a-metric-model.md")) if language == "python"]
    for name in ("missed_cost.py", "within_tolerance.py"):
        assert (DOCS / "examples" / name).read_text() in shown


def test_python_in_the_guide_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block of Python runs as it stands."""
    monkeypatch.syspath_prepend(str(DOCS / "examples"))
    for language, code in blocks(page("how-to/write-a-metric-model.md")):
        if language == "python":
            exec(compile(code, "write-a-metric-model.md", "exec"), {"__name__": "guide"})  # noqa: S102 - our own page


def _anchors(path: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    """Every relative link names a file that is there, and a heading in it."""
    for link in LINK.findall(FENCE.sub("", path.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = unquote(link).partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        if anchor:
            assert anchor in _anchors(target), link


def test_the_index_leads_to_every_page() -> None:
    """docs/README.md links each page."""
    linked = {(DOCS / link.partition("#")[0]).resolve() for link in LINK.findall(page("README.md"))}
    assert set(PAGES) - {DOCS / "README.md"} <= linked


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_are_finished(path: Path) -> None:
    """No page holds a note to its author, or prose wider than the code."""
    text = path.read_text()
    assert not re.search(r"\b(TODO|FIXME|XXX|TBD|WIP)\b|lorem ipsum", text, re.IGNORECASE)
    assert text.endswith("\n")
    assert not [line for line in text.splitlines() if len(line) > 140 and not line.startswith("|")]
