"""Where a run is, on standard error: one line that is written over on a terminal, a line each elsewhere."""

from __future__ import annotations

import sys


def progress(text: str) -> None:
    """Shows what is being done now; "" when all is done."""
    if sys.stderr.isatty():
        print(text, end="\033[K\r", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)
