"""Rows that stand alone so far: with a request id, but told by one line only, with prediction and truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from metrics_server.commands.replay.pairs import Run


class StandingAlone:
    """The lines of rows that were counted without a record, by the digest of their request id.

    A record is made of such a line when another one names the same request. That is rare, and a line is a fifth of a
    record, which would have to be encoded, and decoded by the next.
    """

    def __init__(self) -> None:
        self._bodies: dict[bytes, bytes] = {}
        self._recorded: set[bytes] = set()

    def named_again(self, runs: Iterable[Run], named: Collection[bytes]) -> set[bytes]:
        """Finds the requests in runs that other lines name too, in these runs, among `named` or earlier."""
        digests = [digest for run in runs for digest in run.digests]
        seen = set(digests)
        if (
            len(seen) == len(digests)
            and seen.isdisjoint(named)
            and self._recorded.isdisjoint(seen)
            and self._bodies.keys().isdisjoint(seen)
        ):
            return set()
        several = {digest for digest, times in Counter(digests).items() if times > 1}
        return several | seen.intersection(named) | (seen & self._recorded) | (seen & self._bodies.keys())

    def take(self, run: Run) -> None:
        """Keeps the lines of a run that was counted."""
        self._bodies.update(zip(run.digests, run.bodies, strict=True))

    def give(self, digests: Collection[bytes]) -> list[bytes]:
        """Returns, and forgets, the lines of these requests, which have records from now on."""
        self._recorded.update(digests)
        return [self._bodies.pop(digest) for digest in digests if digest in self._bodies]
