"""`make fuzz`: searches for input that breaks what reads others' bytes: anything but a value or an error of ours, in
bounded time and memory.

    python -m tests.fuzz [--seconds N] [TARGET ...]

Each target has half its time for Hypothesis and half for atheris, which is left out where it is not installed. What is
found stands in `.fuzz/<target>/crashes`, is tried first by the next run, and belongs into a regression test.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.search import ENGINES, EXECUTIONS

NAMES = ("connection", "events", "feedback", "payloads", "records", "replay", "configuration")
FOLDER = Path(__file__).resolve().parents[2] / ".fuzz"
_SHOWN_LINES = 25  # of what a search says when it fails


class Search(NamedTuple):
    """How a search ended."""

    executions: int
    failure: str


def search(engine: str, name: str, seconds: float, folder: Path) -> Search:
    """Runs a search in a process of its own, which may die of what it finds, and shows how far it is."""
    command = [sys.executable, "-m", "tests.fuzz.search", engine, name, str(seconds), str(folder)]
    executions, said = 0, []
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as one:
        assert one.stderr is not None
        for line in one.stderr:
            if found := re.match(rf"#(\d+)|{EXECUTIONS}\s*(\d+)", line):
                executions = int(found[1] or found[2])
                print(f"\r{name}: {executions:,} by {engine} ", end="", flush=True)
            else:
                said.append(line)
    return Search(executions, "".join(said[-_SHOWN_LINES:]) if one.returncode else "")


def main(arguments: list[str]) -> int:
    """Searches all targets, or those that are named; 1 when something is found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each target (default: 20)")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(NAMES)} (default: all)")
    options = parser.parse_args(arguments)
    if unknown := set(options.targets) - set(NAMES):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    engines = [engine for engine in ENGINES if engine != "atheris" or importlib.util.find_spec("atheris")]
    if "atheris" not in engines:
        print("atheris is not installed, so that nothing is searched by coverage; see the extra fuzz in pyproject.toml")
    failed = [name for name in options.targets or NAMES if not _holds(name, options.seconds / len(engines), engines)]
    print(f"found something in: {', '.join(failed)}" if failed else "nothing found")
    return bool(failed)


def _holds(name: str, seconds: float, engines: list[str]) -> bool:
    """Searches one target by all engines."""
    searches = {engine: search(engine, name, seconds, FOLDER / name) for engine in engines}
    counts = ", ".join(f"{one.executions:,} by {engine}" for engine, one in searches.items())
    print(f"\r{name}: {counts}")
    for one in searches.values():
        print(one.failure, end="")
    return not any(one.failure for one in searches.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
