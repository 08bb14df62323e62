"""Cells of tables: texts that are JSON, or else stand for themselves."""

from __future__ import annotations

from typing import Any

import msgspec

# Cells that are not JSON: Python, and so pandas, begins booleans with a capital.
_WORDS = {"True": True, "False": False}

_decode = msgspec.json.Decoder().decode


def parsed(text: str) -> Any:
    """Reads a cell as JSON, or else as text."""
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return _WORDS.get(text, text)
