"""The sums of a canary and its baseline since both were there: the same however events arrive and time goes on."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_server.api.verdict import EVER
from metrics_server.metrics.labels import EventKind
from metrics_server.metrics.window import DAY, HOUR, MINUTE, floor, roll_ups
from metrics_server.series.series import Labels
from tests.support.pairing_bench import CANARY, MAIN, NOW, Bench, Sent

OWN = MAIN.namespace, MAIN.deployment
BEGAN = NOW + 7 * MINUTE + 12.0  # of the canary, within a quarter of an hour
SPLIT = floor(BEGAN, MINUTE)


def _prediction(name: str, at: float, labels: Labels, value: int) -> Sent:
    return Sent(EventKind.RESPONSE, f"p{name}", at, name, labels, ("", ""), (value,))


def _truth(name: str, number: int, at: float, value: int | None) -> Sent:
    return Sent(EventKind.FEEDBACK, f"t{name}-{number}", at, name, MAIN, OWN, truth=(value,))


def _roll_up(bench: Bench, now: float) -> None:
    for widths_and_mark in roll_ups(now):
        while bench.store.roll_up(*widths_and_mark, bench.registry.splits()):
            pass


def _since(bench: Bench, labels: Labels, second: int) -> dict[str, float]:
    series = bench.registry.find(labels)
    assert series is not None
    steps = list(bench.store.steps(series.id, second, EVER, EVER))
    return {} if not steps else dict(steps[0].sums)


@st.composite
def _outcomes(draw: st.DrawFn) -> list[tuple[str, float, Labels, int, list[int | None]]]:
    """Requests: name, when predicted, by whom, as what, and the truths that come of it one after the other."""
    found = []
    for number in range(draw(st.integers(1, 12))):
        at = BEGAN + draw(st.integers(-9, 12)) * MINUTE + draw(st.sampled_from([0.0, 17.5, 48.0]))
        labels = draw(st.sampled_from([MAIN, CANARY]))
        truths = draw(st.lists(st.none() | st.integers(0, 2), max_size=3))
        found.append((str(number), at, labels, draw(st.integers(0, 2)), truths))
    return found


@settings(deadline=None)
@given(_outcomes(), st.lists(st.sampled_from([HOUR, 7 * HOUR, DAY, 9 * DAY]), min_size=3, max_size=3), st.booleans())
def test_no_roll_up_moves_the_beginning(
    outcomes: list[tuple[str, float, Labels, int, list[int | None]]], pauses: list[int], restarts: bool
) -> None:
    """Truths come, are corrected and retracted before and after roll-ups and a restart: what is said of both since the
    canary began is what it would be had all come at once and nothing been rolled up."""
    bench, at_once = Bench(), Bench()
    for one in bench, at_once:
        one.send(_prediction("first", NOW, MAIN, 0), now=NOW)
        one.send(_prediction("canary", BEGAN, CANARY, 0), now=BEGAN)
        one.send(*(_prediction(name, at, labels, value) for name, at, labels, value, _ in outcomes), now=BEGAN + HOUR)
    now = BEGAN + HOUR
    for round_, pause in enumerate(pauses):
        truths = [
            _truth(name, round_, BEGAN + HOUR + round_, of[round_])
            for name, _, _, _, of in outcomes
            if len(of) > round_
        ]
        at_once.send(*truths, now=BEGAN + HOUR)
        bench.send(*truths, now=now)
        now += pause
        _roll_up(bench, now)
        if restarts:
            bench.restart()
    for labels in (MAIN, CANARY):
        assert _since(bench, labels, SPLIT) == pytest.approx(_since(at_once, labels, SPLIT))
        assert _since(bench, labels, 0) == pytest.approx(_since(at_once, labels, 0))
