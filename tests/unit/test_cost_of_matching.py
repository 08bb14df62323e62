"""What an event costs grows no faster than what is kept of its row: nobody vouches for models, namespaces and ids."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from metrics_server.metrics.labels import EventKind
from metrics_server.pairing.batch import Batch
from tests.support.counted_work import instructions_of
from tests.support.pairing_bench import KEEPING, MAIN, NOW
from tests.support.pairing_machine import EVERYWHERE, Bench, Sent

FEW, MANY = 25, 100


def feedback_of_models(bench: Bench, number: int) -> Sent:
    """Feedback that carries its response, of one model after the other, and of one more."""
    for model in range(number):
        labels = MAIN._replace(model=f"model-{model}")
        bench.send(Sent(EventKind.FEEDBACK, f"e{model}", NOW - 60, "r", labels, response=(1,), truth=(1,)))
    return Sent(EventKind.FEEDBACK, "last", NOW, "r", MAIN, response=(1,), truth=(1,))


def feedback_of_logged_models(bench: Bench, number: int) -> Sent:
    """The same, where each of them has a logged prediction."""
    for model in range(number):
        labels = MAIN._replace(model=f"model-{model}")
        bench.send(Sent(EventKind.RESPONSE, f"p{model}", NOW - 90, "r", labels, response=(1,)))
    return feedback_of_models(bench, number)


def truth_by_two_ids(bench: Bench, number: int) -> Sent:
    """A truth by an id that is known in many namespaces, and by another one beside it."""
    for namespace in range(number):
        labels = MAIN._replace(namespace=f"namespace-{namespace}")
        ids = ("p", "", "")
        bench.send(Sent(EventKind.RESPONSE, f"e{namespace}", NOW - 60, "r", labels, response=(1,), puids=ids))
    return Sent(EventKind.FEEDBACK, "last", NOW, "r", MAIN, EVERYWHERE, truth=(1,))


def flat_truth(bench: Bench, number: int) -> Sent:
    """A flat list by an id that is known in many namespaces: whether it is one row is asked of all predictions."""
    for namespace in range(number):
        labels = MAIN._replace(namespace=f"namespace-{namespace}")
        bench.send(Sent(EventKind.RESPONSE, f"e{namespace}", NOW - 60, "r", labels, response=((0.25, 0.75),)))
    return Sent(EventKind.FEEDBACK, "last", NOW, "r", MAIN, EVERYWHERE, truth=(0, 1))


@pytest.mark.parametrize(
    "history",
    [feedback_of_models, feedback_of_logged_models, truth_by_two_ids, flat_truth],
    ids=lambda one: one.__name__,
)
def test_an_event_costs_in_proportion_to_what_is_kept_of_its_row(history: Callable[[Bench, int], Sent]) -> None:
    """Four times as many predictions of one request cost at most five times as much."""
    costs = []
    for number in (FEW, MANY):
        bench = Bench()
        observation = bench.observation(history(bench, number))
        batch = Batch(bench.store, bench.registry, KEEPING, NOW)
        costs.append(instructions_of(lambda batch=batch, one=observation: batch.apply([one])))
        assert bench.store.commit(batch.change())
    assert costs[1] < 5 * costs[0]
