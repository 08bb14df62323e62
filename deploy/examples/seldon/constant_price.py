# ruff: noqa: INP001 - Seldon's wrapper is given the file
"""A model that is broken in a way that no status code shows: whatever the house, its price is 100."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

PRICE = 100.0


class ConstantPrice:
    """Answers as fast and as well-formed as the model that it would replace."""

    def predict(self, rows: Sequence[Sequence[float]], names: Sequence[str], meta: Any = None) -> list[float]:
        """The same price for each row."""
        return [PRICE for _ in rows]
