"""The state machine of pairing, and the plain computation that it is held against.

The oracle (`expected`) knows nothing of cases, keys or pointers: it has all events in one place and asks of each row
what is about what. The machines send the events in any order and grouping, repeat them, lose groups before their
commit, let another writer come between, and restart; after every step the net numbers are those of the oracle.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any, NamedTuple

import msgspec
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from metrics_server.ingest.cloudevent import Event
from metrics_server.ingest.normalize import observation_of
from metrics_server.ingest.slicing import Dimension, SlicingRules
from metrics_server.metrics import reward_stats as reward
from metrics_server.metrics.components import (
    COMPARED,
    LABELS,
    LOGGED,
    LOST,
    PAIRS,
    PREDICTED,
    PREDICTIONS,
    WON,
)
from metrics_server.metrics.labels import EventKind, LabelStatus
from metrics_server.metrics.prediction_stats import CLASS
from metrics_server.metrics.reward_stats import REWARDS
from metrics_server.metrics.sums import SEPARATOR, add_into, component
from metrics_server.metrics.window import (
    CUMULATIVE,
    CUMULATIVE_REAPPLIED,
    CUMULATIVE_RETRACTED,
    DAY,
    MINUTE,
    QUARTER,
    USAGE,
    Bucket,
    bucket_of,
    floor,
)
from metrics_server.pairing import usage as kept
from metrics_server.pairing.batch import Batch
from metrics_server.pairing.maintenance import Maintenance
from metrics_server.pairing.observation import Observation
from metrics_server.pairing.record import PairingRecord, decode_record, pending_rows
from metrics_server.pairing.usage import UsageLimits
from metrics_server.series.series import Labels
from metrics_server.series.totals import Totals
from metrics_server.store.interface import Store
from metrics_server.store.sqlite.store import SqliteStore
from metrics_server.telemetry import Telemetry
from tests.support.pairing_bench import CANARY, ELSEWHERE, KEEPING, MAIN, NOW, NOWHERE, OTHER_NODE
from tests.support.pairing_bench import Bench as PlainBench

ROUTER, NAMELESS = MAIN._replace(model="router"), MAIN._replace(model="")
BY_TENANT = SlicingRules(dimensions=(Dimension("tenant", "attribute", "tenant"),))
EVERYWHERE = ("", "")
WINE = ("shop", "wine")


class Sent(NamedTuple):
    """One event as a test writes it.

    Attributes:
        request: the attribute requestid, "" for none.
        kserve: whether its type is KServe's, so that without a requestid its id is that of the request.
        puids: meta.puid of the response, the request and the truth.
        scope: namespace and deployment that the event states, of a truth that comes alone.
        path: meta.requestPath of the response, logged or carried.
    """

    kind: str
    id: str
    time: float
    request: str = ""
    labels: Labels = MAIN
    scope: tuple[str, str] = WINE
    response: tuple[int | tuple[float, ...], ...] | None = None
    truth: tuple[int | None, ...] | None = None
    reward: float | None = None
    puids: tuple[str, str, str] = ("", "", "")
    kserve: bool = False
    tenant: str = ""
    source: str = "/test"
    path: tuple[str, ...] = ()

    @property
    def owner(self) -> Labels:
        """Whose the prediction in a feedback is, while none is logged: of a model on the path, as far as it tells."""
        if self.kind != EventKind.FEEDBACK or not self.path or self.labels.model in self.path:
            return self.labels
        return self.labels._replace(model=self.path[0] if len(self.path) == 1 else "")

    @property
    def candidates(self) -> set[str]:
        """The models that may have made the prediction in a feedback; any if there is none."""
        return {self.labels.model, *self.path} - {""}

    @property
    def is_flat(self) -> bool:
        """Whether its truth may be a row, or rows: it comes alone, and takes nothing back."""
        return self.response is None and self.truth is not None and len(self.truth) > 1 and None not in self.truth

    @property
    def stated(self) -> Labels:
        """What the event states of itself: a truth that comes alone narrows itself as it likes."""
        alone = self.kind == EventKind.FEEDBACK and self.response is None and self.reward is None
        return Labels(*self.scope, self.labels.predictor, self.labels.model) if alone else self.labels

    def event(self) -> Event:
        response, request, truth = ({"meta": {"puid": puid}} if puid else {} for puid in self.puids)
        if self.response is not None:
            response["data"] = {"ndarray": list(self.response)}
        if self.truth is not None:
            truth["data"] = {"ndarray": list(self.truth)}
        if self.path:
            response["meta"] = response.get("meta", {}) | {"requestPath": dict.fromkeys(self.path, "image:1")}
        data: dict[str, Any] = {EventKind.RESPONSE: response, EventKind.REQUEST: request}.get(self.kind, {})
        if self.kind == EventKind.FEEDBACK:
            parts = {"request": request, "response": response, "truth": truth, "reward": self.reward}
            data = {name: part for name, part in parts.items() if part not in (None, {})}
        names = ("namespace", "inferenceservicename", "endpoint", "modelid")
        attributes = {name: value for name, value in zip(names, self.stated, strict=True) if value}
        attributes |= {"requestid": self.request} if self.request else {}
        attributes |= {"tenant": self.tenant} if self.tenant else {}
        family = "org.kubeflow.serving" if self.kserve else "io.seldon.serving"
        kind = self.kind if self.kind == EventKind.FEEDBACK else f"inference.{self.kind}"
        return Event(
            kind=self.kind,
            id=self.id,
            source=self.source,
            type=f"{family}.{kind}",
            time=self.time,
            attributes=attributes,
            data=msgspec.json.encode(data),
        )


# The oracle

UNSCORABLE = "unscorable"

Key = tuple[str, int]  # a request id, and the row there
Where = tuple[Labels, str, Bucket]  # labels, slice ("" for the whole), bucket
Net = dict[Where, dict[str, float]]
Order = tuple[float, bytes]  # what decides which of two stands

_ITEM = re.compile(r"(.+)-item-(\d+)")


@dataclass
class Prediction:
    """What a model said about a row, as far as all events together tell."""

    labels: Labels
    at: float
    value: int | tuple[float, ...]
    tenant: str
    order: tuple[int, float, bytes]
    keys: set[Key]
    rows: int  # of its event
    candidates: list[set[str]] = field(default_factory=list)  # of a carried one, of each feedback that carried it

    def gives_way_to(self, logged: Prediction) -> bool:
        """Whether a carried prediction is this one of the log."""
        models = set().union(*self.candidates) if all(self.candidates) else {logged.labels.model}
        return alike(self.labels)[:2] == alike(logged.labels)[:2] and bool(
            logged.labels.model in models and self.keys & logged.keys
        )

    @property
    def is_alone(self) -> bool:
        """Whether its event had no id, so that nothing can ever meet it."""
        return next(iter(self.keys))[0].startswith("\0")


@dataclass
class Truth:
    keys: list[Key]  # the best first
    scope: tuple[str, str]
    value: int | None
    order: Order
    flat: tuple[int, ...] = ()  # of the first row of a flat list, all of it
    is_item: bool = False  # whether it names an item of a batch, which is one row

    def covers(self, labels: Labels) -> bool:
        return self.scope[0] in ("", labels.namespace) and self.scope[1] in ("", labels.deployment)


@dataclass
class Given:
    """A reward."""

    labels: Labels
    path: tuple[str, ...]
    at: float
    value: float
    tenant: str
    order: Order
    keys: list[Key]  # the best first
    others: set[Key]  # of rewards that are the same one


def ids_of(one: Sent) -> list[str]:
    """The ids of an event, the best first; one that has none has an id that no other has."""
    first = one.request or (one.id if one.kserve else "")
    response, request, truth = one.puids
    given = {
        EventKind.RESPONSE: [response],
        EventKind.REQUEST: [request],
        EventKind.FEEDBACK: [response, request, truth],
    }[one.kind]
    return list(dict.fromkeys(name for name in [first, *given] if name)) or [f"\0{one.source} {one.id}"]


def keys_of(one: Sent, row: int) -> list[Key]:
    """Where a row of an event joins, the best first."""
    rows = max(len(one.response or ()), len(one.truth or ()), 1)
    keys: list[Key] = []
    for name in ids_of(one):
        keys.append((name, row))
        if one.kind == EventKind.FEEDBACK and rows == 1 and (item := _ITEM.fullmatch(name)):
            keys.append((item[1], int(item[2])))
    return list(dict.fromkeys(keys))


def alike(labels: Labels) -> tuple[str, str, str]:
    return labels.namespace, labels.deployment, labels.model


def order_of(time: float, content: Any) -> Order:
    return time, msgspec.msgpack.encode(content)


def class_of(value: int | tuple[float, ...]) -> str:
    """The class that a prediction says: a number, or the largest column of a row."""
    return str(value.index(max(value)) if isinstance(value, tuple) else value)


def slices_of(tenant: str) -> list[str]:
    return [f"tenant={tenant}"] if tenant else []


class Known:
    """All that a set of events says."""

    def __init__(self, history: Iterable[Sent]) -> None:
        history = list(history)
        self.rows_of = self._standing_rows(history)
        self.logged = self._logged(history)
        self.all_carried = self._carried(history)
        self.carried = [one for one in self.all_carried if not self._gives_way(one, self.all_carried)]
        self.truths = [each for one in history for each in self._truths(one)]
        self.rewards = self._rewards(history)

    def _truths(self, one: Sent) -> Iterator[Truth]:
        """The truths of the rows of an event; of a flat list the first may turn out to be the only one."""
        scope = one.stated.namespace, one.stated.deployment
        is_item = one.is_flat and any(map(_ITEM.fullmatch, ids_of(one)))
        for row, value in enumerate(one.truth or ()):
            content = [list(one.truth or ()) if one.is_flat and not row else value, 1]
            flat = tuple(one.truth or ()) if one.is_flat and not row else ()
            if not (is_item and row):
                yield Truth(keys_of(one, row), scope, value, order_of(one.time, content), flat, is_item)  # type: ignore[arg-type]

    def _logged(self, history: list[Sent]) -> list[Prediction]:
        named: dict[str, set[str]] = {}
        for one in history:
            if one.kind == EventKind.REQUEST:
                named.setdefault(ids_of(one)[0], set()).update(ids_of(one))
        found: dict[tuple[str, Labels, int], Prediction] = {}
        for one in history:
            for row, value in enumerate(one.response or () if one.kind == EventKind.RESPONSE else ()):
                first = ids_of(one)[0]
                keys = {*keys_of(one, row), *((name, row) for name in named.get(first, ()))}
                order = len(one.path), *order_of(one.time, [one.labels, value, slices_of(one.tenant)])
                said = Prediction(one.labels, one.time, value, one.tenant, order, keys, self.rows_of[first, one.labels])
                before = found.get((first, one.labels, row), said)
                found[first, one.labels, row] = stands = max(before, said, key=lambda each: each.order)
                stands.keys |= before.keys | keys
        self.seen = Counter(labels for _, labels, _ in found)
        return [said for (first, labels, row), said in found.items() if row < self.rows_of[first, labels]]

    @staticmethod
    def _standing_rows(history: list[Sent]) -> dict[tuple[str, Labels], int]:
        """How many rows the answer of a node has: as many as there are in any response with the largest path."""
        by_node: dict[tuple[str, Labels], list[tuple[int, int]]] = {}
        for one in history:
            if one.kind == EventKind.RESPONSE:
                order = len(one.path), len(one.response or ())
                by_node.setdefault((ids_of(one)[0], one.labels), []).append(order)
        return {node: max(orders)[-1] for node, orders in by_node.items()}

    def _carried(self, history: list[Sent]) -> list[Prediction]:
        found: list[Prediction] = []
        for one in history:
            for row, value in enumerate(one.response or () if one.kind == EventKind.FEEDBACK else ()):
                labels, keys = one.owner, set(keys_of(one, row))
                order = 0, *order_of(one.time, [labels, value, slices_of(one.tenant)])
                rows = len(one.response or ())
                said = Prediction(labels, one.time, value, one.tenant, order, keys, rows, [one.candidates])
                same = [each for each in found if alike(each.labels) == alike(said.labels) and each.keys & said.keys]
                found = [each for each in found if all(each is not other for other in same)]
                latest = max([said, *same], key=lambda each: each.order)
                latest.at = min(each.at for each in [said, *same])
                latest.keys = set().union(*(each.keys for each in [said, *same]))
                latest.rows = max(each.rows for each in [said, *same])
                latest.candidates = [models for each in [said, *same] for models in each.candidates]
                found.append(latest)
        return found

    def _gives_way(self, said: Prediction, carried: list[Prediction]) -> bool:
        """To what is logged; if it is nobody's, also to what feedback carried of a candidate."""
        owned = [] if said.labels.model else [each for each in carried if each.labels.model]
        return any(said.gives_way_to(each) for each in (*self.logged, *owned))

    def _rewards(self, history: list[Sent]) -> list[Given]:
        found: list[Given] = []
        for one in history:
            if one.reward is not None:
                order = order_of(one.time, [*one.labels, one.reward, slices_of(one.tenant), one.path])
                given = Given(one.labels, one.path, one.time, one.reward, one.tenant, order, keys_of(one, 0), set())
                same = [
                    each
                    for each in found
                    if alike(each.labels) == alike(given.labels) and {*each.keys, *each.others} & {*given.keys}
                ]
                found = [each for each in found if all(each is not other for other in same)]
                ranked = sorted([given, *same], key=lambda each: each.order, reverse=True)
                latest = ranked[0]
                latest.at = min(each.at for each in ranked)
                latest.others = set().union(*({*each.keys, *each.others} for each in ranked))
                found.append(latest)
        return found

    def is_about(self, truth: Truth, said: Prediction) -> bool:
        """Whether a truth labels a prediction: what is under the first of its keys that has a logged one, else under
        any."""
        if not truth.covers(said.labels):
            return False
        for key in truth.keys:
            if any(key in each.keys and truth.covers(each.labels) for each in self.logged):
                return key in said.keys
        return not said.keys.isdisjoint(truth.keys)

    def about(self, said: Prediction) -> list[Truth]:
        return [truth for truth in self.truths if self.is_about(truth, said)]

    def standing(self, said: Prediction) -> int | str | None:
        """The class by the truth that stands for a prediction; None when there is none, or it was retracted."""
        latest = max(self.about(said), key=lambda truth: truth.order, default=None)
        if latest is None or not latest.flat:
            return None if latest is None else latest.value
        return self.read(latest, said)

    def read(self, truth: Truth, of: Prediction) -> int | str:
        """The class by a flat list: of its first row, or as one row if the predictions it is about are so wide."""
        made = [said for said in self.logged if self.is_about(truth, said)]
        made = made or [said for said in self.all_carried if self.is_about(truth, said)]
        if not truth.is_item:
            if any(said.rows > 1 for said in made):
                return truth.flat[0]
            if not any(isinstance(said.value, tuple) and len(said.value) == len(truth.flat) for said in made):
                return UNSCORABLE
        if isinstance(of.value, tuple) and len(of.value) != len(truth.flat):
            return UNSCORABLE
        return truth.flat.index(1) if sorted(truth.flat) == [*[0] * (len(truth.flat) - 1), 1] else UNSCORABLE

    def predicted(self, given: Given) -> Prediction | None:
        """The logged prediction that a reward is about: of the node that says it, else of one on the path or, without
        a path, of any; by its own keys first, in their order, then by those it shares."""
        mine = [each for each in self.logged if alike(each.labels)[:2] == alike(given.labels)[:2]]
        own = [each for each in mine if each.labels.model == given.labels.model]
        served = [each for each in mine if not given.path or each.labels.model in given.path]
        for group in (own, served):
            for keys in (*({key} for key in given.keys), given.others):
                if found := [each for each in group if keys & each.keys]:
                    return min(found, key=lambda each: (each.labels, each.at, each.tenant))
        return None

    def counted(self) -> Iterator[tuple[Given, Labels, float, str]]:
        """The rewards that count, of several about one thing the latest, each with what it is counted for."""
        standing: list[tuple[Given, Prediction | None, Labels]] = []
        for given in sorted(self.rewards, key=lambda each: each.order, reverse=True):
            said = self.predicted(given)
            served = given.labels._replace(model=given.path[0]) if len(given.path) == 1 else given.labels
            keys = {*given.keys, *given.others}
            is_counted = any(
                said is other_said
                if said is not None or other_said is not None
                else alike(served) == alike(other_served) and keys & {*other.keys, *other.others}
                for other, other_said, other_served in standing
            )
            if not is_counted:
                standing.append((given, said, served))
        for given, said, served in standing:
            yield given, *((served, given.at, given.tenant) if said is None else (said.labels, said.at, said.tenant))


def compared_with(labels: Labels, what: str) -> str:
    """The component of a comparison with a predictor, by its name, where a store has the id of its series."""
    return component("server/paired", labels.predictor, what)


def expected(history: Iterable[Sent]) -> Net:
    """The net numbers in the plainest way: all events in one place, what stands of them, then counted."""
    known = Known(history)
    result: dict[Where, Counter[str]] = {}

    def count(labels: Labels, at: float, tenant: str, counts: dict[str, float]) -> None:
        bucket = bucket_of(at, NOW, KEEPING.history)
        assert bucket is not None
        for name in ("", *slices_of(tenant)):
            result.setdefault((labels, name, bucket), Counter()).update(counts)

    for said in known.logged:
        count(said.labels, said.at, said.tenant, {LOGGED: 1, CLASS + class_of(said.value): 1})
    labelled: list[tuple[Prediction, bool]] = []
    for said in (*known.logged, *known.carried):
        truth = known.standing(said)
        if truth is not None and truth != UNSCORABLE:
            predicted = class_of(said.value)
            labelled.append((said, str(truth) == predicted))
            pair = {PAIRS: 1.0, "pairs": 1.0, component("confusion", str(truth), predicted): 1.0}
            count(said.labels, said.at, said.tenant, pair | ({"correct": 1.0} if str(truth) == predicted else {}))
    for (said, is_right), (other, is_other_right) in permutations(labelled, 2):
        is_of_one_row = alike(said.labels) == alike(other.labels) and not said.keys.isdisjoint(other.keys)
        if is_of_one_row and said.labels.predictor != other.labels.predictor:
            alone = {WON: float(is_right > is_other_right), LOST: float(is_right < is_other_right)}
            counts = {compared_with(other.labels, what): number for what, number in {COMPARED: 1.0, **alone}.items()}
            count(said.labels, said.at, "", counts)
    for given, labels, at, tenant in known.counted():
        count(labels, at, tenant, reward.increments(given.value))
    return {
        where: kept
        for where, counts in result.items()
        if (kept := {name: value for name, value in counts.items() if value})
    }


# The server's core


class Bench(PlainBench):
    """A server's core without sockets or threads, on any store, with slices by tenant."""

    def __init__(self, store: Store | None = None, selection: SlicingRules = BY_TENANT) -> None:
        super().__init__()
        self.selection = selection
        if store is not None:
            self.store = store  # type: ignore[assignment]
            self.restart()

    def observation(self, one: Sent, now: float = NOW) -> Observation:
        return observation_of(one.event(), NOWHERE, now, self.selection)

    def send(self, *sent: Sent, now: float = NOW) -> list[Any]:  # type: ignore[override]
        return self.committed([self.observation(one, now) for one in sent], now)

    def committed(self, observations: Sequence[Observation], now: float = NOW) -> list[Any]:
        """What became of a batch, once it is stored."""
        outcomes, change = self.taken(observations, now)
        assert self.store.commit(change)
        return outcomes

    def taken(self, observations: Sequence[Observation], now: float = NOW) -> tuple[list[Any], Any]:
        """A batch before its commit."""
        batch = Batch(self.store, self.registry, KEEPING, now)
        return batch.apply(observations), batch.change()

    def numbers(self) -> Net:
        """What stands, by series, slice and bucket; without what came to nothing, and without the distribution of
        outputs."""
        return {
            (series.labels, series.identity.slice, bucket): kept
            for series in self.registry.current()
            for bucket, sums in self.store.history(series.id, 0).items()
            if (
                kept := {
                    self._with_name_of_predictor(name): value
                    for name, value in sums.items()
                    if value and (name.startswith(CLASS) or not name.startswith("output"))
                }
            )
        }

    def _with_name_of_predictor(self, name: str) -> str:
        prefix, *rest = name.split(SEPARATOR)
        if prefix != "server/paired":
            return name
        series = self.registry.get(int(rest[0]))
        assert series is not None
        return compared_with(series.labels, rest[1])

    def whole(self, labels: Labels = MAIN) -> dict[str, float]:
        """What stands in one series, over all time."""
        found: Counter[str] = Counter()
        for (whose, name, _), sums in self.numbers().items():
            if whose == labels and not name:
                found.update({each: value for each, value in sums.items() if not each.startswith(CLASS)})
        return dict(found)

    def confusion(self, labels: Labels = MAIN) -> dict[str, float]:
        """The pairs that stand in one series, such as {"2 1": 1.0}: truth, prediction."""
        prefix = component("confusion", "")
        cells = {
            name.removeprefix(prefix): value for name, value in self.whole(labels).items() if name.startswith(prefix)
        }
        return {name.replace("\x1f", " "): value for name, value in cells.items()}

    def records(self) -> dict[bytes, bytes]:
        if isinstance(self.store, SqliteStore):
            return dict(self.store._connection.execute("SELECT key, value FROM records").fetchall())  # type: ignore[union-attr]
        return {key: record.value for key, (record, _) in self.store._records.items()}

    def kept(self) -> dict[str, float]:
        return {name: value for name, value in self.store.cumulative(USAGE).get(0, {}).items() if value}

    def recount(self) -> dict[str, float]:
        """What the ledger of what is kept has to say, from the records themselves."""
        sums: dict[str, float] = {}
        for key, value in self.records().items():
            if len(key) == 16:
                add_into(sums, {kept.EVENT_KEY_COUNT: 1.0})
                continue
            add_into(sums, {kept.RECORD_COUNT: 1.0, kept.RECORD_BYTES: float(len(value) + kept.OVERHEAD_BYTES)})
            if isinstance(case := decode_record(value), PairingRecord):
                predictions, truths = pending_rows(case)
                quarter = str(floor(case.received_at, QUARTER))
                since, unpredicted = (component(f"pending/{name}", quarter) for name in ("since", "unpredicted_since"))
                add_into(
                    sums,
                    {
                        kept.PENDING_PREDICTIONS: predictions,
                        kept.PENDING_TRUTHS: truths,
                        since: predictions + truths,
                        unpredicted: 0 if case.predictions or case.withdrawn else truths,
                    },
                )
        return sums

    def upkeep(self, now: float = NOW, limits: UsageLimits | None = None) -> Telemetry:
        """All that is due at `now`."""
        totals, telemetry = Totals({"1h": 3600}), Telemetry()
        totals.rebuild(self.store, now)
        times = {"history": KEEPING.history, "retention": KEEPING.retention, "series_retention": 400 * DAY}
        upkeep = Maintenance(self.store, self.registry, totals, telemetry, limits or UsageLimits(), **times)
        upkeep.run_due(now)
        while upkeep.is_busy:
            upkeep.run_due(now)
        return telemetry


# The machines

NAMES = ("a", "b", "x", "x-item-1")
PATHS = ((), (), ("classifier",), ("transformer",), ("transformer", "classifier"))
CLIENT_NAMES = ("", "", "", "p", "x", "x-item-1")
TIMES = [NOW - MINUTE * minutes for minutes in (0, 0.25, 0.5, 1, 2, 3, 60 * 25, 60 * 25 + 16)]


@st.composite
def events(draw: st.DrawFn) -> Sent:
    """An event over few ids, rows, labels and times, so that they meet, tie and contradict each other. Its id is given
    later."""
    kind = draw(
        st.sampled_from(
            [
                EventKind.REQUEST,
                EventKind.RESPONSE,
                EventKind.RESPONSE,
                EventKind.FEEDBACK,
                EventKind.FEEDBACK,
                EventKind.FEEDBACK,
            ]
        )
    )
    puids = [draw(st.sampled_from(CLIENT_NAMES)) for _ in range(3)]
    request = draw(st.sampled_from([*NAMES, *NAMES, ""]))
    rows = draw(st.sampled_from([1, 1, 2]))
    classes = st.tuples(*[st.integers(0, 2)] * rows)
    truths = st.tuples(*[st.sampled_from([0, 0, 1, 1, 2, None])] * rows)
    made = st.one_of(classes, st.just(((0.25, 0.75),)), st.just(((0.5, 0.25, 0.25),))) if rows == 1 else classes
    response = (
        draw(made) if kind == EventKind.RESPONSE or (kind == EventKind.FEEDBACK and draw(st.booleans())) else None
    )
    reward = float(draw(st.integers(-2, 2))) if kind == EventKind.FEEDBACK and draw(st.integers(0, 3)) == 0 else None
    truth = draw(truths) if kind == EventKind.FEEDBACK and (reward is None or draw(st.booleans())) else None
    can_join = request or any(puids)
    if kind == EventKind.FEEDBACK and response is None and reward is None and not can_join:
        request = "a"  # a truth alone that names nothing is refused
    if rows > 1 and truth is not None and response is None:  # a flat list under no id that another names an item of
        request = {"x": "a", "x-item-1": "b", "": "a"}.get(request, request)
        puids = [name if name == "p" else "" for name in puids]
    labels = [MAIN, MAIN, CANARY, OTHER_NODE, ELSEWHERE, *([ROUTER, NAMELESS] if kind == EventKind.FEEDBACK else [])]
    return Sent(
        kind,
        "",
        draw(st.sampled_from(TIMES)),
        request,
        draw(st.sampled_from(labels)),
        draw(st.sampled_from([EVERYWHERE, WINE, WINE, ("shop", ""), ("lab", "wine")])),
        response,
        truth,
        reward,
        (
            puids[0] if kind in (EventKind.RESPONSE, EventKind.FEEDBACK) else "",
            puids[1] if kind != EventKind.RESPONSE else "",
            puids[2] if truth is not None else "",
        ),
        draw(st.booleans()),
        draw(st.sampled_from(["", "red", "blue"])),
        path=draw(st.sampled_from(PATHS)) if response is not None else (),
    )


class Pairing(RuleBasedStateMachine):
    """Any history of events, and all that may happen to a server meanwhile."""

    sent = Bundle("sent")

    def __init__(self) -> None:
        super().__init__()
        self.bench = self.opened()
        self.history: dict[str, Sent] = {}
        self.grown: dict[tuple[int, Bucket], dict[str, float]] = {}

    def opened(self) -> Bench:
        return Bench()

    def reopened(self) -> None:
        self.bench.restart()

    def numbered(self, drawn: Sequence[Sent]) -> list[Sent]:
        """Events of their own; a KServe event's id is also the request's, so that only its source tells it from
        others."""
        found = []
        for number, one in enumerate(drawn, len(self.history)):
            reward = None if one.reward is None else one.reward + number / 64  # none is equal to that of another event
            found.append(
                one._replace(
                    id=("b", "x")[number % 2] if one.kserve else f"event-{number}",
                    source=f"/test/{number}",
                    reward=reward,
                )
            )
        return found

    def noted(self, found: Sequence[Sent], outcomes: Sequence[Any]) -> None:
        assert all(outcome in ("accepted", "pending") for outcome in outcomes)
        self.history |= {one.source: one for one in found}

    @rule(target=sent, drawn=events())
    def send_one(self, drawn: Sent) -> Sent:
        found = self.numbered([drawn])
        self.noted(found, self.bench.send(*found))
        return found[0]

    @rule(target=sent, drawn=st.lists(events(), min_size=2, max_size=5))
    def send_several_at_once(self, drawn: list[Sent]) -> Any:
        found = self.numbered(drawn)
        self.noted(found, self.bench.send(*found))
        return multiple(*found)

    @rule(one=sent)
    def send_again(self, one: Sent) -> None:
        assert self.bench.send(one) == ["duplicate"]

    @rule(target=sent, one=sent, drawn=events())
    def send_again_among_others(self, one: Sent, drawn: Sent) -> Sent:
        (other,) = self.numbered([drawn])
        outcomes = self.bench.send(one, other, other, one)
        self.noted([other], outcomes[1:2])
        assert [outcomes[index] for index in (0, 2, 3)] == ["duplicate"] * 3
        return other

    @rule(target=sent, one=sent)
    def say_the_same_again(self, one: Sent) -> Sent:
        """Another event with the content and time of an earlier one, such as a client's retry."""
        (again,) = self.numbered([one])
        self.noted([again], self.bench.send(again))
        return again

    @rule(target=sent, drawn=st.lists(events(), min_size=2, max_size=6))
    def lose_a_batch_before_its_commit(self, drawn: list[Sent]) -> Any:
        """As after a failed commit: what is in memory is read anew, and the same observations come again."""
        found = self.numbered(drawn)
        observations = [self.bench.observation(one) for one in found]
        self.bench.taken(observations)
        self.bench.registry.restore(self.bench.store.series())
        self.noted(found, self.bench.committed(observations))
        return multiple(*found)

    @rule(drawn=st.lists(events(), min_size=1, max_size=4))
    def give_a_batch_up(self, drawn: list[Sent]) -> None:
        self.bench.taken([self.bench.observation(one) for one in self.numbered(drawn)])
        self.bench.registry.restore(self.bench.store.series())

    @rule(
        target=sent, mine=st.lists(events(), min_size=1, max_size=3), others=st.lists(events(), min_size=1, max_size=3)
    )
    def let_another_writer_come_between(self, mine: list[Sent], others: list[Sent]) -> Any:
        found = self.numbered([*mine, *others])
        mine, others = found[: len(mine)], found[len(mine) :]
        observations = [self.bench.observation(one) for one in mine]
        outcomes, change = self.bench.taken(observations)
        other = Bench(self.bench.store)
        self.noted(others, other.send(*others))
        if not self.bench.store.commit(change):
            self.bench.registry.restore(self.bench.store.series())
            outcomes, change = self.bench.taken(observations)
            assert self.bench.store.commit(change)
        self.bench.registry.restore(self.bench.store.series())
        self.noted(mine, outcomes)
        return multiple(*found)

    @rule()
    def restart(self) -> None:
        self.reopened()

    @rule()
    def look_after(self) -> None:
        self.bench.upkeep()

    @invariant()
    def the_net_numbers_are_those_of_the_set(self) -> None:
        assert self.bench.numbers() == expected(self.history.values())

    @invariant()
    def what_is_kept_is_counted(self) -> None:
        counts = self.bench.kept()
        assert counts == self.bench.recount()
        assert all(value >= 0 for value in counts.values())
        known = Known(self.history.values())
        unlabelled = sum(known.standing(said) is None for said in known.logged if not said.is_alone)
        assert counts.get(kept.PENDING_PREDICTIONS, 0) == unlabelled
        idle = [
            truth
            for truth in known.truths
            if not any(known.is_about(truth, said) for said in (*known.logged, *known.carried))
        ]
        assert counts.get(kept.PENDING_TRUTHS, 0) <= len(
            {(truth.scope, *truth.keys) for truth in idle if truth.value is not None}
        )

    @invariant()
    def the_counters_only_grow_and_their_difference_stands(self) -> None:
        ledgers = {
            ledger: self.bench.store.cumulative(ledger)
            for ledger in (CUMULATIVE, CUMULATIVE_RETRACTED, CUMULATIVE_REAPPLIED)
        }
        for ledger, by_series in ledgers.items():
            for series_id, sums in by_series.items():
                before = self.grown.get((series_id, ledger), {})
                assert all(sums.get(name, 0.0) >= value for name, value in before.items())
                self.grown[series_id, ledger] = dict(sums)
        stands = self.bench.store.totals(0)
        known = Known(self.history.values())
        predictions = (*known.logged, *known.carried)
        unscorable = Counter(said.labels for said in predictions if known.standing(said) == UNSCORABLE)
        for series in self.bench.registry.current():
            ever, retracted, again, net = (by.get(series.id, {}) for by in (*ledgers.values(), stands))
            cells = {name for sums in (ever, net) for name in sums if name.startswith("confusion")} | {"correct"}
            assert all(ever.get(name, 0.0) - retracted.get(name, 0.0) == net.get(name, 0.0) for name in cells)
            pairs = sum(value for name, value in net.items() if name.startswith("confusion"))
            matched = LABELS + LabelStatus.MATCHED
            assert ever.get(matched, 0.0) - retracted.get(matched, 0.0) == pairs
            assert all(value <= ever.get(name, 0.0) for name, value in again.items())
            rewards = {name for name in ever if name in (REWARDS, *map(reward.component_of, range(-3, 4)))}
            assert all(ever[name] - retracted.get(name, 0.0) == net.get(name, 0.0) for name in rewards)
            for label in "012":
                classes = ever.get(PREDICTED + label, 0.0) - retracted.get(PREDICTED + label, 0.0)
                assert classes == net.get(CLASS + label, 0.0)
            if not series.identity.slice:
                failed = LABELS + LabelStatus.UNSCORABLE
                assert ever.get(failed, 0.0) - retracted.get(failed, 0.0) == unscorable[series.labels]
                assert ever.get(PREDICTIONS, 0.0) == known.seen[series.labels]


def histories(examples: int, steps: int) -> settings:
    """How much is tried; of several failures one is shown, and what made it smaller is not explained, which takes
    minutes."""
    phases = [phase for phase in Phase if phase is not Phase.explain]
    return settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, report_multiple_bugs=False, phases=phases
    )
