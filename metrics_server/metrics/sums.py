"""Sums: the whole state of every metric, and the only thing that is ever stored, merged or read.

A `Sums` maps the name of a component to a number; an absent component is 0. Under `add` they form a commutative group:

    add(a, {}) == a      add(a, b) == add(b, a)      add(add(a, b), c) == add(a, add(b, c))      add(a, b) - b == a

exactly for counts (up to 2**53), to rounding for real sums. Update, merge, window, restart, replica and correction are
therefore all the same operation, and no metric can get them wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping

Sums = Mapping[str, float]

# Joins the parts of a component's name. No label holds it: labels with control characters are refused on arrival.
SEPARATOR = "\x1f"

# Larger magnitudes are refused: beyond this a float sum loses the small terms beside it, so that one outlier and its
# correction would erase what was there (ulp(1e24) is 1.3e8 when squares are summed).
LARGEST = 1e12

# What is left of real sums after all that was added is taken back: less than this share of it. Of counts nothing is
# left.
ROUNDING = 1e-12


def component(*parts: str) -> str:
    """The name of a component made of several parts, such as ("confusion", truth, prediction)."""
    return SEPARATOR.join(parts)


def add_into(target: MutableMapping[str, float], sums: Sums, sign: int = 1) -> None:
    """Adds `sums`, or with sign -1 subtracts it, leaving out what comes to exactly 0."""
    for name, value in sums.items():
        if total := target.get(name, 0.0) + sign * value:
            target[name] = total
        else:
            target.pop(name, None)


def total(parts: Iterable[Sums]) -> dict[str, float]:
    """The sum of all parts; of none, the empty Sums."""
    result: dict[str, float] = {}
    for part in parts:
        add_into(result, part)
    return result
