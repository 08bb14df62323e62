"""The pages of the documentation."""

from __future__ import annotations

import re

from tests.support.running import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
README = ROOT / "README.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def page(name: str) -> str:
    return (DOCS / name).read_text()


def blocks(text: str) -> list[tuple[str, str]]:
    """Language and content of each fenced block."""
    return FENCE.findall(text)
