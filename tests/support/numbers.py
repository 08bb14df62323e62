"""Texts that differ in the last digits of a number only."""

from __future__ import annotations

import math
import re

# What has a point or an exponent was measured or computed; a whole number is a count, and text.
_COMPUTED = re.compile(r"-?\d+(?:\.\d+(?:[eE][+-]?\d+)?|[eE][+-]?\d+)")


def assert_same_text(printed: str, expected: str) -> None:
    """The texts are equal but for the last digits of computed numbers, which another processor may round otherwise:
    it may add in another order, or have another `exp`."""
    assert _COMPUTED.split(printed) == _COMPUTED.split(expected)
    for got, wanted in zip(_COMPUTED.findall(printed), _COMPUTED.findall(expected), strict=True):
        assert math.isclose(float(got), float(wanted), rel_tol=1e-9), f"{got}, not {wanted}, in:\n{printed}"
