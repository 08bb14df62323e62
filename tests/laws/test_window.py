"""Windows: every pair counts in exactly those windows that reach back to it, whatever has been rolled up, restored or
repaired."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from metrics_server.errors import BadConfiguration
from metrics_server.metrics.model import load
from metrics_server.metrics.sums import Sums
from metrics_server.metrics.window import (
    COARSEST,
    DAY,
    FUTURE_TOLERANCE,
    HOUR,
    LEVELS,
    MINUTE,
    QUARTER,
    Bucket,
    bucket_of,
    check_window,
    edge_of,
    floor,
    oldest_start,
    roll_ups,
    seconds_of,
    width_at,
)
from metrics_server.pairing.maintenance import Maintenance
from metrics_server.pairing.usage import UsageLimits
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.series import Scoring
from metrics_server.series.totals import Totals
from metrics_server.store.interface import Change, Store
from metrics_server.store.memory import MemoryStore
from metrics_server.store.sqlite.store import SqliteStore
from metrics_server.telemetry import Telemetry

MIDNIGHT = 20_000 * DAY
HISTORY = 400 * DAY
WIDTHS = (MINUTE, QUARTER, DAY)
WINDOWS = {name: seconds_of(name) for name in ("1m", "1h", "6h", "375m", "1d", "8d", "9d", "30d", "400d")}
STORES: dict[str, Callable[[Path], Store]] = {
    "memory": lambda directory: MemoryStore(),
    "sqlite": lambda directory: SqliteStore(str(directory / "state.db")),
}

moments = st.one_of(
    st.integers(MIDNIGHT, MIDNIGHT + 2 * DAY).map(float),
    st.floats(MIDNIGHT, MIDNIGHT + 2 * DAY, allow_nan=False),
    st.builds(
        lambda quarter, off: MIDNIGHT + quarter * QUARTER + off,
        st.integers(0, 200),
        st.sampled_from([-1, -0.25, 0, 0.25, 1, 60]),
    ),
)
ages = st.one_of(
    st.builds(
        lambda level, off: level + off,
        st.sampled_from([0, MINUTE, HOUR, 6 * HOUR, DAY, 8 * DAY, 30 * DAY, HISTORY]),
        st.one_of(
            st.sampled_from([-QUARTER, -MINUTE, -1, -0.5, 0, 0.5, 1, MINUTE, QUARTER, DAY]),
            st.integers(-2 * DAY, 2 * DAY),
        ),
    ),
    st.floats(-FUTURE_TOLERANCE, 7 * HOUR),
    st.floats(0, 402 * DAY),
).map(lambda age: max(age, -FUTURE_TOLERANCE))


# The rules


def test_widths() -> None:
    """Each width divides the next and every level's length is made of the next width, so that a roll-up only adds."""
    assert (*(width for width, _ in LEVELS), COARSEST) == WIDTHS
    assert LEVELS == ((MINUTE, 6 * HOUR), (QUARTER, 8 * DAY))
    for (width, kept), outer in zip(LEVELS, WIDTHS[1:], strict=True):
        assert outer % width == kept % outer == 0


@pytest.mark.parametrize(
    ("age", "width"),
    [
        (0, MINUTE),
        (6 * HOUR, MINUTE),
        (6 * HOUR + 1, QUARTER),
        (8 * DAY, QUARTER),
        (8 * DAY + 1, DAY),
        (400 * DAY, DAY),
    ],
)
def test_boundaries_of_levels(age: int, width: int) -> None:
    """At a full day, what is exactly 6 h old is still in a minute, exactly 8 d in a quarter of an hour, exactly 400 d
    in a day."""
    assert bucket_of(MIDNIGHT - age, MIDNIGHT, HISTORY) == Bucket(width, floor(MIDNIGHT - age, width))
    assert width_at(age) == width


def test_boundary_of_the_history() -> None:
    """At a full day, what is exactly 400 d old is kept, and what is a second older is not; later the whole day goes at
    once."""
    assert bucket_of(MIDNIGHT - HISTORY, MIDNIGHT, HISTORY) == Bucket(DAY, MIDNIGHT - HISTORY)
    assert bucket_of(MIDNIGHT - HISTORY - 1, MIDNIGHT, HISTORY) is None
    for now in (MIDNIGHT + 0.5, MIDNIGHT + DAY - 0.5):
        assert bucket_of(MIDNIGHT - HISTORY, now, HISTORY) == Bucket(DAY, MIDNIGHT - HISTORY)
        assert bucket_of(MIDNIGHT - HISTORY - 1, now, HISTORY) is None
    assert bucket_of(MIDNIGHT - HISTORY, MIDNIGHT + DAY, HISTORY) is None
    assert oldest_start(MIDNIGHT + DAY - 1, HISTORY) == MIDNIGHT - HISTORY
    assert oldest_start(MIDNIGHT + DAY, HISTORY) == MIDNIGHT - HISTORY + DAY


@pytest.mark.parametrize("history", [DAY, 2 * DAY, 8 * DAY])
def test_a_short_history_is_kept_to(history: int) -> None:
    """With a history shorter than the finer levels are kept, what is older than it is dropped as well."""
    assert bucket_of(MIDNIGHT - history, MIDNIGHT, history) is not None
    assert bucket_of(MIDNIGHT - history - 2 * DAY, MIDNIGHT, history) is None


def test_what_is_folded_when() -> None:
    """Minutes are folded into quarters after 6 h and quarters into days after 8 d, whole coarse buckets only."""
    assert roll_ups(MIDNIGHT) == [(MINUTE, QUARTER, MIDNIGHT - 6 * HOUR), (QUARTER, DAY, MIDNIGHT - 8 * DAY)]
    assert roll_ups(MIDNIGHT + 899.9) == roll_ups(MIDNIGHT)
    assert roll_ups(MIDNIGHT + 900)[0] == (MINUTE, QUARTER, MIDNIGHT - 6 * HOUR + 900)
    assert roll_ups(MIDNIGHT + DAY - 1)[1] == (QUARTER, DAY, MIDNIGHT - 8 * DAY)


@pytest.mark.parametrize(
    ("length", "now", "edge"),
    [
        (HOUR, MIDNIGHT + 59.9, MIDNIGHT - HOUR),
        (HOUR, MIDNIGHT + 60, MIDNIGHT - HOUR + 60),
        (6 * HOUR, MIDNIGHT + 899, MIDNIGHT - 6 * HOUR + 840),
        (DAY, MIDNIGHT + 899, MIDNIGHT - DAY),
        (8 * DAY, MIDNIGHT + 900, MIDNIGHT - 8 * DAY + 900),
        (30 * DAY, MIDNIGHT + DAY - 0.5, MIDNIGHT - 30 * DAY),
        (400 * DAY, MIDNIGHT + DAY, MIDNIGHT - 399 * DAY),
    ],
)
def test_edges_of_windows(length: int, now: float, edge: int) -> None:
    """A window's far edge is aligned down to the width of the buckets at that age."""
    assert edge_of(length, now) == edge


@given(now=moments, age=ages)
def test_buckets_hold_their_moment(now: float, age: float) -> None:
    """A bucket holds the moment it is for, is aligned, and is not due to be folded or forgotten at the same moment."""
    at = now - age
    bucket = bucket_of(at, now, HISTORY)
    if bucket is None:
        assert floor(at, DAY) + DAY <= now - HISTORY
        return
    assert bucket.width in WIDTHS
    assert bucket.start % bucket.width == 0
    assert bucket.start <= at < bucket.start + bucket.width
    assert not any(bucket.width == fine and bucket.start < before for fine, _, before in roll_ups(now))
    assert bucket.start >= oldest_start(now, HISTORY) or bucket.width < COARSEST


@given(now=moments, name=st.sampled_from(sorted(WINDOWS)))
def test_windows_cover_their_length_and_less_than_a_bucket_more(now: float, name: str) -> None:
    """A window covers its length, and less than one bucket of its far edge more."""
    length = WINDOWS[name]
    assert length <= now - edge_of(length, now) < length + width_at(length)


@given(now=moments, later=ages.map(abs), name=st.sampled_from(sorted(WINDOWS)))
def test_no_window_cuts_a_bucket(now: float, later: float, name: str) -> None:
    """No edge of a window, at any later moment, lies within a bucket that may be there at that moment."""
    edge = edge_of(WINDOWS[name], now + later)
    assert edge % MINUTE == 0
    for _, coarse, before in roll_ups(now + later):
        assert edge >= before or edge % coarse == 0


@pytest.mark.parametrize(
    ("name", "length"),
    [
        ("60s", 60),
        ("1m", 60),
        ("90m", 5400),
        ("6h", 21600),
        ("375m", 22500),
        ("24h", DAY),
        ("8d", 8 * DAY),
        ("400d", HISTORY),
    ],
)
def test_good_windows(name: str, length: int) -> None:
    """A window that is made of whole buckets of its far edge is taken."""
    assert check_window(name, HISTORY) == length


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("90s", "no multiple of 60 s"),
        ("361m", "no multiple of 900 s"),
        ("193h", "no multiple of 86400 s"),
        ("401d", "longer than --history"),
        ("0m", "not a duration"),
        ("1w", "not a duration"),
        ("", "not a duration"),
        ("-1h", "not a duration"),
        ("1.5h", "not a duration"),
    ],
)
def test_bad_windows(name: str, says: str) -> None:
    """A window that cannot be kept exactly is refused with the reason."""
    with pytest.raises(BadConfiguration, match=says):
        check_window(name, HISTORY)


# The numbers


@dataclass
class World:
    """A store with running totals and upkeep as the writer has them, a clock, and the plain list of all pairs."""

    store: Store
    now: float
    totals: Totals = field(default_factory=lambda: Totals(WINDOWS))
    pairs: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        registry = SeriesRegistry(lambda labels: Scoring(), lambda path, parameters: load(path, parameters), 10)
        self.upkeep = Maintenance(
            self.store,
            registry,
            self.totals,
            Telemetry(),
            UsageLimits(),
            history=HISTORY,
            retention=35 * DAY,
            series_retention=30 * DAY,
        )
        self.totals.rebuild(self.store, self.now)

    def take(self, at: float, count: int) -> None:
        """A pair predicted at `at`, or with a negative count one taken back."""
        bucket = bucket_of(at, self.now, HISTORY)
        if bucket is not None:
            change = Change(sums={(1, bucket): {"n": float(count)}})
            assert self.store.commit(change)
            self.totals.add(change.sums)
            self.pairs.append((at, count))

    def look_after(self, steps: int) -> None:
        """Some steps of the upkeep at this moment, not always all that is due."""
        for _ in range(steps):
            self.upkeep.run_due(self.now)

    def finish_upkeep(self) -> None:
        self.upkeep.run_due(self.now)
        while self.upkeep.is_busy:
            self.upkeep.run_due(self.now)

    def running(self) -> dict[str, float]:
        return {name: sums.get("n", 0.0) for name, sums in self.totals.series_totals(1).windows.items()}

    def rebuilt(self) -> dict[str, float]:
        fresh = Totals(WINDOWS)
        fresh.rebuild(self.store, self.now)
        return {name: sums.get("n", 0.0) for name, sums in fresh.series_totals(1).windows.items()}

    def expected(self) -> dict[str, float]:
        """The plain sum over the pairs from each window's edge on, written down anew: down to a whole bucket of its far
        end."""
        result = {}
        for name, length in WINDOWS.items():
            width = MINUTE if length <= 6 * HOUR else QUARTER if length <= 8 * DAY else DAY
            edge = (self.now - length) // width * width
            result[name] = float(sum(count for at, count in self.pairs if at >= edge))
        return result

    def check(self) -> None:
        self.look_after(1)
        assert self.rebuilt() == self.expected()
        assert self.running() == self.expected()


ticks = st.one_of(
    st.sampled_from([0.5, 1, 59, 60, 61, QUARTER, HOUR, 6 * HOUR, DAY, 8 * DAY, 30 * DAY, 400 * DAY]),
    st.floats(0, 10 * HOUR),
    st.floats(0, 40 * DAY),
)
steps = st.one_of(
    st.tuples(st.just("pair"), ages),
    st.tuples(st.just("pair"), ages),
    st.tuples(st.just("take back"), st.integers(0, 20)),
    st.tuples(st.just("tick"), ticks),
    st.tuples(st.just("upkeep"), st.integers(1, 4)),
    st.tuples(st.just("all upkeep"), st.none()),
    st.tuples(st.just("restore"), st.none()),
    st.tuples(st.just("check"), st.none()),
)


def _do(world: World, what: str, how: float) -> None:
    if what == "pair":
        world.take(world.now - how, 1)
    elif what == "take back" and world.pairs:
        at, count = world.pairs[int(how) % len(world.pairs)]
        world.take(at, -count)
    elif what == "tick":
        world.now += how
    elif what == "upkeep":
        world.look_after(int(how))
    elif what == "all upkeep":
        world.finish_upkeep()
    elif what == "restore":
        world.totals.rebuild(world.store, world.now)
    elif what == "check":
        world.check()


@pytest.mark.parametrize("name", STORES)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(now=moments, taken=st.lists(steps, max_size=30))
@example(
    now=MIDNIGHT + 840.0,
    taken=[
        ("pair", 6 * HOUR - 30),
        ("tick", 60),
        ("upkeep", 1),
        ("pair", 6 * HOUR),
        ("tick", QUARTER),
        ("all upkeep", None),
    ],
)
@example(
    now=MIDNIGHT,
    taken=[("pair", 8 * DAY), ("all upkeep", None), ("tick", DAY), ("upkeep", 2), ("take back", 0), ("check", None)],
)
@example(
    now=MIDNIGHT,
    taken=[("pair", HISTORY), ("check", None), ("tick", DAY), ("check", None), ("take back", 0), ("all upkeep", None)],
)
def test_windows_equal_the_plain_sum(name: str, now: float, taken: list[tuple[str, float]]) -> None:
    """Slid along, rebuilt from the store, or summed over the pairs: at any moment and after any upkeep a window is the
    same."""
    with tempfile.TemporaryDirectory() as directory:
        world = World(STORES[name](Path(directory)), now)
        for what, how in taken:
            _do(world, what, how)
        world.check()
        world.finish_upkeep()
        world.check()
        kept = world.store.history(1, 0)
        assert all(
            bucket.start >= oldest_start(world.now, HISTORY) for bucket, sums in kept.items() if any(sums.values())
        )
        world.store.close()


@pytest.fixture(params=STORES)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return World(STORES[request.param](tmp_path), MIDNIGHT)


@pytest.mark.parametrize("length", [name for name in WINDOWS if name != "1m"])
def test_a_pair_leaves_a_window_when_its_bucket_does(world: World, length: str) -> None:
    """A pair counts in a window up to the moment at which the edge passes its bucket, and not from then on."""
    seconds = WINDOWS[length]
    width = width_at(seconds)
    at = MIDNIGHT + width - 0.5
    world.now = MIDNIGHT + width
    world.take(at, 1)
    for offset, counts in ((-1.0, 1.0), (0.0, 1.0), (width - 0.5, 1.0), (width, 0.0), (width + 1, 0.0)):
        world.now = max(world.now, MIDNIGHT + seconds + offset)
        world.check()
        world.finish_upkeep()
        assert world.running()[length] == counts, offset
    world.store.close()


def test_a_late_label_repairs_its_time(world: World) -> None:
    """A label that comes days later goes to the time of its prediction, and into no shorter window."""
    world.take(MIDNIGHT - 3 * DAY, 1)
    world.finish_upkeep()
    world.take(MIDNIGHT - 3 * DAY + 100, 1)
    assert world.store.history(1, 0) == {Bucket(QUARTER, MIDNIGHT - 3 * DAY): {"n": 2.0}}
    assert world.running() == {"1m": 0, "1h": 0, "6h": 0, "375m": 0, "1d": 0, "8d": 2, "9d": 2, "30d": 2, "400d": 2}
    world.check()
    world.take(MIDNIGHT - 3 * DAY + 100, -1)
    assert world.store.history(1, 0) == {Bucket(QUARTER, MIDNIGHT - 3 * DAY): {"n": 1.0}}
    world.check()
    world.store.close()


def test_history_is_forgotten(world: World) -> None:
    """Days that have left the history are deleted, and a label for them changes no window."""
    for day in range(5):
        world.take(MIDNIGHT - HISTORY + day * DAY, 1)
    world.now = MIDNIGHT + 3 * DAY
    world.finish_upkeep()
    assert sorted(world.store.history(1, 0)) == [
        Bucket(DAY, MIDNIGHT - HISTORY + 3 * DAY),
        Bucket(DAY, MIDNIGHT - HISTORY + 4 * DAY),
    ]
    world.take(MIDNIGHT - HISTORY, 1)
    assert world.running()["400d"] == 2.0
    world.check()
    world.store.close()


def test_upkeep_goes_in_steps(world: World) -> None:
    """Upkeep folds one bucket a step, says while there is more, and rests when all is done."""
    for minute in range(30):
        world.take(MIDNIGHT - minute * MINUTE, 1)
    world.now = MIDNIGHT + 7 * HOUR
    world.look_after(1)
    fine = [bucket for bucket in world.store.history(1, 0) if bucket.width == MINUTE]
    assert len(fine) == 29
    assert world.upkeep.is_busy
    world.check()
    world.finish_upkeep()
    assert {bucket.width for bucket in world.store.history(1, 0)} == {QUARTER}
    assert not world.upkeep.is_busy
    world.check()
    world.store.close()


@pytest.mark.parametrize("make", [lambda path: MemoryStore(), lambda path: SqliteStore(str(path / "state.db"))])
def test_an_outlier_that_leaves_a_window_takes_no_digits_along(make: Callable[[Path], Store], tmp_path: Path) -> None:
    """After a huge squared error has left the window, the small ones beside it read as after a restart."""
    store = make(tmp_path)
    edge_of_now = 1_790_000_040.0
    totals = Totals({"1h": 3600})
    totals.rebuild(store, edge_of_now)
    for at, value in ((edge_of_now, 2.25e22), (edge_of_now + 120, 11.5)):
        sums = {(1, Bucket(60, int(at // 60) * 60)): {"squared_error": value}}
        assert store.commit(Change(sums=sums))
        totals.add(sums)
    totals.slide(store, edge_of_now + 3600 + 90)
    assert totals.series_totals(1).windows["1h"] == {"squared_error": 11.5}
    store.close()


class Watched(MemoryStore):
    """A memory store that looks at the running totals whenever it is asked for sums, as a scrape may at any moment."""

    totals_seen: Totals | None = None
    versions: dict[object, list[Mapping[str, Sums]]]

    def totals(self, since: int, until: int | None = None) -> Mapping[int, Sums]:
        found = super().totals(since, until)
        if self.totals_seen is not None:
            self.versions.setdefault(self.totals_seen.version(1), []).append(self.totals_seen.series_totals(1).windows)
        return found


def test_no_scrape_sees_digits_that_an_outlier_swallowed() -> None:
    """While an outlier leaves a window, whoever reads sees what was before or what is after, and each has a version of
    its own."""
    store, now = Watched(), 1_790_000_040.0 + 30
    totals = Totals({"1h": 3600})
    totals.rebuild(store, now)
    for at, value in ((now - 3600, 1e20), (now - 60, 0.1)):
        change = Change(sums={(1, Bucket(MINUTE, floor(at, MINUTE))): {"x": value}})
        assert store.commit(change)
        totals.add(change.sums)
    store.totals_seen, store.versions = totals, {}
    totals.slide(store, now + 60)
    store.totals(0)
    assert [list(map(dict, {str(w): w for w in seen}.values())) for seen in store.versions.values()] == [
        [{"1h": {"x": 1e20}}],
        [{"1h": {"x": 0.1}}],
    ]
