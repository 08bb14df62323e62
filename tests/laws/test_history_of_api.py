"""Histories: their steps, and that one who asks for a long one holds up nobody."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_server.api.history import MAX_POINTS, Steps, checked_steps, steps_of
from metrics_server.api.parameters import label_of, segment_of
from metrics_server.errors import BadRequest, Unavailable
from metrics_server.http.worker_pools import READ_SECONDS, WAIT_SECONDS, Deadline
from metrics_server.metrics.sums import add_into
from metrics_server.metrics.window import DAY, HOUR, MINUTE, QUARTER, Bucket, bucket_of, roll_ups
from metrics_server.store.interface import Change, Store
from metrics_server.store.memory import MemoryStore
from metrics_server.store.sqlite.store import SqliteStore
from tests.support.endless_store import WINE, Endless


@given(st.text())
def test_parts_of_paths_are_told_apart(label: str) -> None:
    """Every label has one spelling as a part of a path, never an empty one, and is read back from it."""
    assert segment_of(label)
    assert label_of(segment_of(label)) == label


NOW = 20_000 * DAY + 7 * HOUR + 123.4
HISTORY = 400 * DAY


ages = st.one_of(st.integers(0, 500 * DAY), st.integers(5 * HOUR, 7 * HOUR), st.integers(7 * DAY, 9 * DAY))


@given(
    ages, st.integers(1, 500 * DAY), st.one_of(st.integers(1, 90).map(lambda n: n * MINUTE), st.integers(1, 40 * DAY))
)
def test_no_bucket_lies_in_two_steps(age: int, length: int, step: int) -> None:
    """Steps that are taken are whole, cover what was asked for as far as it is kept, and no bucket that is kept of then
    straddles two."""
    since = NOW - age
    try:
        steps = steps_of(since, since + length, step, NOW, HISTORY)
    except BadRequest:
        return
    assert steps.step == step
    assert steps.since % step == steps.until % step == 0
    assert steps.number <= MAX_POINTS
    oldest = max(since, NOW - HISTORY)
    assert steps.since <= oldest
    assert steps.until >= min(since + length, steps.until)
    for at in (*range(steps.since, steps.since + 2 * step, max(1, step // 50)), steps.until - 1):
        bucket = bucket_of(at, NOW, HISTORY)
        assert bucket is None or bucket.start // step == (bucket.start + bucket.width - 1) // step


@given(st.integers(0, 399 * DAY), st.integers(1, 399 * DAY))
def test_the_server_finds_a_step(age: int, length: int) -> None:
    """Whatever time is asked for, there is a step for it, and about a hundred of them at most."""
    steps = steps_of(NOW - age, NOW - age + length, None, NOW, HISTORY)
    assert steps.number <= 101
    assert steps_of(NOW - age, NOW - age + length, steps.step, NOW, HISTORY) == steps


STORES: dict[str, Callable[[Path], Store]] = {
    "memory": lambda directory: MemoryStore(),
    "sqlite": lambda directory: SqliteStore(str(directory / "state.db")),
}


@pytest.mark.parametrize("name", STORES)
def test_a_roll_up_does_not_change_the_history(name: str, tmp_path: Path) -> None:
    """A question that may be asked before and after a roll-up has the same answer."""
    store = STORES[name](tmp_path)
    sums: dict[tuple[int, Bucket], dict[str, float]] = {}
    for minute in range(0, 9 * 24 * 60, 7):
        at = NOW - minute * MINUTE
        bucket = bucket_of(at, at, HISTORY)  # as it came, long before what is newer
        assert bucket is not None
        add_into(sums.setdefault((1, bucket), {}), {"n": 1.0, f"at {minute}": 1.0})
    store.commit(Change(sums=dict(sums)))

    def asked() -> Iterator[tuple[Any, ...]]:
        for age, step in ((5 * HOUR, MINUTE), (7 * DAY, QUARTER), (7 * DAY, HOUR), (9 * DAY, DAY), (9 * DAY, 2 * DAY)):
            steps = steps_of(NOW - age, NOW, step, NOW, HISTORY)
            yield tuple(checked_steps(store.steps(1, *steps), steps))

    before = list(asked())
    for fine, coarse, until in roll_ups(NOW):
        while store.roll_up(fine, coarse, until):
            pass
    assert {bucket.width for bucket in store.history(1, 0)} == {MINUTE, QUARTER, DAY}
    assert list(asked()) == before
    assert all(len(points) > 4 for points in before)
    with pytest.raises(BadRequest):
        list(checked_steps(store.steps(1, 0, int(NOW), MINUTE), Steps(0, int(NOW), MINUTE)))
    store.close()


def test_a_long_reading_holds_up_nobody_else() -> None:
    """While one reads the past, lists and windows are answered, and of too many who wait for the past the last are told
    to come again."""

    async def run() -> None:
        endless = Endless()
        await endless.start()
        pasts = [endless.ask(f"{WINE}?step=1h") for _ in range(40)]
        await endless.begun()
        done, _ = await asyncio.wait(pasts, return_when=asyncio.FIRST_COMPLETED)
        refusal = done.pop().result()
        assert (refusal.status, refusal.headers["Retry-After"]) == (503, "1")
        assert (await endless.ask("/v1/models")).status == 200
        assert (await endless.ask(WINE)).status == 200
        assert not endless.store.ended.is_set(), "the first is still at it"
        started = time.monotonic()
        assert await endless.server.stop()
        assert time.monotonic() - started < 2, "of 30 s to drain"
        assert {answer.status for answer in await asyncio.gather(*pasts)} == {503}

    asyncio.run(run())


def test_a_stop_does_not_wait_for_the_past() -> None:
    """Who reads the past when the server is told to stop gets a 503 at once, and the server ends as drained."""

    async def run() -> None:
        endless = Endless()
        await endless.start()
        past = endless.ask(f"{WINE}?step=1h")
        await endless.begun()
        started = time.monotonic()
        assert await endless.server.stop()
        assert time.monotonic() - started < 2, "of 30 s to drain"
        answer = await past
        assert (answer.status, json.loads(answer.body)["error"]["detail"]) == (503, "the server is stopping")

    asyncio.run(run())


def test_patience_ends() -> None:
    """A question that waited too long for its turn is not begun, and one that takes too long says what to ask
    instead."""
    now = 0.0
    waited, slow = Deadline(lambda: now), Deadline(lambda: now)
    slow.begin()
    slow.limit(READ_SECONDS)
    now = WAIT_SECONDS + 0.1
    with pytest.raises(Unavailable):
        waited.begin()
    assert slow.is_over()
    with pytest.raises(BadRequest, match="want less time between"):
        slow.check()


def test_an_answer_has_a_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """A history of more values than one answer may hold is refused, and says what to ask instead."""
    monkeypatch.setattr("metrics_server.api.service.MAX_VALUES", 10)

    async def run() -> None:
        endless = Endless()
        endless.store.steps = partial(MemoryStore.steps, endless.store)  # type: ignore[method-assign] # as any other
        await endless.start()
        answer = await endless.ask(f"{WINE}?step=1h")
        assert answer.status == 400
        assert "want longer steps" in json.loads(answer.body)["error"]["detail"]
        await endless.server.stop()

    asyncio.run(run())
