"""Rows that a node's own output has and the answer of its graph has not."""

from __future__ import annotations

from itertools import permutations

from metrics_server.metrics.components import UNPREDICTED_SINCE
from metrics_server.metrics.labels import EventKind
from tests.support.pairing_bench import MAIN, NOW
from tests.support.pairing_machine import Bench, Sent


def test_truths_of_withdrawn_rows_are_not_in_vain() -> None:
    """They wait, but under an id that predictions have: nobody is told to send another id, in any order."""
    own = Sent(EventKind.RESPONSE, "own", NOW, "r", MAIN, response=(1, 2, 0), path=("classifier",))
    answer = Sent(EventKind.RESPONSE, "answer", NOW, "r", MAIN, response=(1,), path=("classifier", "below"))
    truth = Sent(EventKind.FEEDBACK, "truth", NOW, "r", MAIN, truth=(1, 2, 0))
    for order in permutations((own, answer, truth)):
        bench = Bench()
        for one in order:
            bench.send(one)
        kept = bench.kept()
        assert not [name for name in kept if name.startswith(UNPREDICTED_SINCE)], order
        assert kept["pending/truths"] == 2, order
