# ruff: noqa: INP001, T201 - a command beside what it reads
"""Asks for known vulnerabilities of the packages that the image locks: `make audit`.

Fails on a version that is known to be vulnerable. Where the service that knows them cannot be asked, it says so and
does not fail: nothing was learnt, neither good nor bad.

    python deploy/image/audit.py [words for pip-audit, such as --vulnerability-service osv]
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

IMAGE = Path(__file__).resolve().parent
LOCKS = [IMAGE / name for name in ("requirements.txt", "requirements-demo.txt", "requirements-build.txt")]
SECONDS = "15"  # for one answer of the service


def asked(words: list[str]) -> list[dict[str, Any]] | str:
    """What the service says of each locked package, or why it could not be asked."""
    locks = [word for lock in LOCKS for word in ("--requirement", str(lock))]
    shape = ["--format", "json", "--progress-spinner", "off", "--timeout", SECONDS]
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", *shape, *locks, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except ValueError:
        return done.stderr.strip().rpartition("\n")[2] or f"pip-audit ended with {done.returncode}"
    return found


def told(found: list[dict[str, Any]]) -> tuple[list[str], int]:
    """A line for each vulnerability, and the number of packages that nothing was said about.

    >>> told([{"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}])
    (['a 1: PYSEC-1, mended in 2'], 0)
    """
    lines = [
        f"{one['name']} {one['version']}: {known['id']}, mended in {' or '.join(known['fix_versions']) or 'no version'}"
        for one in found
        for known in one.get("vulns", ())
    ]
    return lines, sum("skip_reason" in one for one in found)


def main(words: list[str]) -> int:
    """1 when a locked version is known to be vulnerable."""
    found = asked(words)
    if isinstance(found, str):
        print(f"audit: the service could not be asked, so that nothing is known of vulnerabilities: {found}")
        return 0
    lines, silent = told(found)
    for line in lines:
        print(f"audit: {line}")
    if silent:
        print(
            f"audit: the service said nothing about {silent} of {len(found)} packages, so that nothing is known of them"
        )
    if not lines and silent < len(found):
        print(f"audit: {len(found) - silent} packages, none of them known to be vulnerable")
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
