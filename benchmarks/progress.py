"""The progress of a run on standard error: one line that is overwritten on a terminal, a line each elsewhere."""

from __future__ import annotations

import sys


def progress(text: str) -> None:
    """Shows the present step; "" in the end."""
    if sys.stderr.isatty():
        print(text, end="\033[K\r", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)
