"""Custom metrics of responses, from the bytes to what is committed: who is taken, what is dropped, what it comes to."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from metrics_server.errors import BadConfiguration
from metrics_server.ingest.cloudevent import Event
from metrics_server.ingest.normalize import observation_of
from metrics_server.ingest.payload.meta_metrics import MOST_BYTES, MOST_OF_RESPONSE
from metrics_server.ingest.payload.pb import seldon_pb2
from metrics_server.ingest.sender_rules import SenderRules
from metrics_server.metrics.custom_metric import MOST_IN_SERIES, MOST_KEYS, CustomMetric, CustomType, metric_of
from metrics_server.metrics.duration_histogram import cumulated
from metrics_server.metrics.labels import DroppedMetric, EventKind, Outcome
from metrics_server.metrics.window import CUMULATIVE
from metrics_server.pairing.batch import Batch
from metrics_server.pairing.observation import Observation
from metrics_server.series.series import Labels
from metrics_server.settings import load
from metrics_server.store.interface import Register
from tests.support.pairing_bench import CANARY, KEEPING, MAIN, NOW, NOWHERE, Bench

COUNTER, GAUGE, TIMER = CustomType.COUNTER, CustomType.GAUGE, CustomType.TIMER
EVERYTHING = SenderRules(custom_metrics=frozenset("*"))
CALL = {"key": "calls", "value": 1}


def response(metrics: Any, number: int = 0, time: float = NOW, labels: Labels = MAIN, **attributes: str) -> Event:
    """A response event with these metrics in its body."""
    body = {"data": {"ndarray": [1]}, "meta": {"metrics": metrics}}
    return event_of(json.dumps(body).encode(), number, time, labels, **attributes)


def event_of(body: bytes, number: int = 0, time: float = NOW, labels: Labels = MAIN, **attributes: str) -> Event:
    names = dict(zip(("namespace", "inferenceservicename", "endpoint", "modelid"), labels, strict=True))
    return Event(
        kind=EventKind.RESPONSE,
        id=f"{number}",
        source="/test",
        type="t",
        time=time,
        content_type=attributes.pop("content_type", "application/json"),
        attributes={**names, "requestid": f"r{number}", **attributes},
        data=body,
    )


def observed(event: Event, rules: SenderRules = EVERYTHING) -> Observation:
    return observation_of(event, NOWHERE, NOW, rules_of=lambda labels: rules)


def read(metrics: Any) -> tuple[list[tuple[Any, ...]], dict[DroppedMetric, int]]:
    """The samples of a response, flat, and the numbers of those dropped."""
    custom = observed(response(metrics)).custom_metrics
    assert custom is not None
    return [(*metric, value) for metric, value in custom.samples], dict(custom.dropped)


class CustomBench(Bench):
    """The core of a server that takes all custom metrics."""

    dropped: dict[DroppedMetric, int]

    def take(self, *events: Event) -> list[Any]:
        batch = Batch(self.store, self.registry, KEEPING, NOW)
        outcomes = batch.apply(list(map(observed, events)))
        assert self.store.commit(batch.change())
        self.dropped = dict(batch.dropped_custom_metrics)
        return outcomes

    def sum_of(self, metric: CustomMetric, labels: Labels = MAIN) -> float | None:
        return self.ever(labels).get(metric.component)

    def gauge(self, metric: CustomMetric) -> Register:
        (registers,) = self.store.registers().values()
        return registers[metric.component]


def test_the_three_types_as_the_wrapper_sends_them() -> None:
    """Of a response of Seldon's wrapper counters, gauges and timers are read with their tags, the type by name; a type
    left out is a counter, and a value left out is 0, as JSON of protobuf leaves them out."""
    sent = [
        {"key": "calls", "tags": {"method": "predict", "mytag": "v"}, "type": "COUNTER", "value": 1},
        {"key": "made_total", "value": 2.0},
        {"key": "depth", "type": "GAUGE", "value": 22.0},
        {"key": "took", "type": "TIMER", "value": 20.2, "tags": None},
        {"key": "nothing"},
    ]
    assert read(sent) == (
        [
            (COUNTER, "calls", (("method", "predict"), ("mytag", "v")), 1.0),
            (COUNTER, "made", (), 2.0),
            (GAUGE, "depth", (), 22.0),
            (TIMER, "took", (), 20.2),
            (COUNTER, "nothing", (), 0.0),
        ],
        {},
    )


@pytest.mark.parametrize("metrics", [None, []])
def test_no_metrics(metrics: Any) -> None:
    """A list that is null or empty brings nothing, and nothing is dropped."""
    assert read(metrics) == ([], {})


BAD: dict[str, tuple[Any, DroppedMetric]] = {
    "no object": (7, DroppedMetric.MALFORMED),
    "no key": ({"value": 1}, DroppedMetric.MALFORMED),
    "unknown type": ({"key": "a", "type": "SUMMARY", "value": 1}, DroppedMetric.MALFORMED),
    "unknown number of a type": ({"key": "a", "type": 3, "value": 1}, DroppedMetric.MALFORMED),
    "value is a switch": ({"key": "a", "value": True}, DroppedMetric.MALFORMED),
    "tags are a list": ({"key": "a", "tags": ["b"]}, DroppedMetric.MALFORMED),
    "tag is a number": ({"key": "a", "tags": {"b": 1}}, DroppedMetric.MALFORMED),
    "empty key": ({"key": ""}, DroppedMetric.NAME),
    "nothing before the suffix": ({"key": "_total"}, DroppedMetric.NAME),
    "key with a hyphen": ({"key": "a-b"}, DroppedMetric.NAME),
    "key with a line break": ({"key": "a\n"}, DroppedMetric.NAME),
    "key of ours": ({"key": "model_accuracy"}, DroppedMetric.NAME),
    "key of the server": ({"key": "metrics_server_up"}, DroppedMetric.NAME),
    "key of the ancestor": ({"key": "seldon_metric_true_positive"}, DroppedMetric.NAME),
    "key of Prometheus": ({"key": "__name__"}, DroppedMetric.NAME),
    "key of 257 letters": ({"key": "a" * 257}, DroppedMetric.NAME),
    "tag with a colon": ({"key": "a", "tags": {"b:c": "d"}}, DroppedMetric.TAG),
    "tag of Prometheus": ({"key": "a", "tags": {"__b": "d"}}, DroppedMetric.TAG),
    "tag is the bound of a bucket": ({"key": "a", "tags": {"le": "1"}}, DroppedMetric.TAG),
    "tag is a label of Seldon": ({"key": "a", "tags": {"seldon_deployment_name": "other"}}, DroppedMetric.TAG),
    "tag with a control character": ({"key": "a", "tags": {"b": "\x1f"}}, DroppedMetric.TAG),
    "long tag": ({"key": "a", "tags": {"b": "x" * 257}}, DroppedMetric.TAG),
    "value is text": ({"key": "a", "value": "NaN"}, DroppedMetric.VALUE),
    "large value": ({"key": "a", "type": "GAUGE", "value": 1e13}, DroppedMetric.VALUE),
    "counter goes down": ({"key": "a", "value": -1}, DroppedMetric.VALUE),
    "timer goes down": ({"key": "a", "type": "TIMER", "value": -0.5}, DroppedMetric.VALUE),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_one_is_dropped_alone(name: str) -> None:
    """What is wrong with a metric costs that one alone: it is counted by its reason, its neighbours and the prediction
    are taken."""
    bad, reason = BAD[name]
    samples, dropped = read([CALL, bad, {"key": "depth", "type": "GAUGE", "value": -1}])
    assert [sample[1] for sample in samples] == ["calls", "depth"]
    assert dropped == {reason: 1}


@pytest.mark.parametrize("metrics", [{"key": "calls"}, "calls", 1, True])
def test_what_is_no_list(metrics: Any) -> None:
    """Where there is no list the response counts as ever, and one metric as malformed."""
    assert read(metrics) == ([], {DroppedMetric.MALFORMED: 1})
    assert len(observed(response(metrics)).rows) == 1


def test_how_many_are_looked_at() -> None:
    """Of one response a thousand metrics are looked at, and a longer text not at all; what is left is counted."""
    samples, dropped = read([CALL] * (MOST_OF_RESPONSE + 3))
    assert (len(samples), dropped) == (MOST_OF_RESPONSE, {DroppedMetric.LIMIT: 3})
    assert read([{**CALL, "more": "x" * MOST_BYTES}]) == ([], {DroppedMetric.LIMIT: 1})


def test_protobuf_is_read_alike() -> None:
    """A response in protobuf brings the same as in JSON, and what is wrong with one metric costs that one alone there
    too: bytes that are none, a name that is not UTF-8, infinity."""
    metric = seldon_pb2.Metric
    sent = [
        metric(key="calls", value=1, tags={"tag": "v"}).SerializeToString(),
        metric(key="depth", type=metric.GAUGE, value=-0.5).SerializeToString(),
        metric(key="took", type=metric.TIMER, value=2).SerializeToString(),
        b"\x0a\xff",
        b"\x0a\x01\xff",
        metric(key="endless", type=metric.GAUGE, value=math.inf).SerializeToString(),
        b"\x0a\x01a\x10\x07",  # a type that is yet to come
    ]
    tensor = seldon_pb2.DefaultData(tensor=seldon_pb2.Tensor(shape=[1], values=[1]))
    message = seldon_pb2.SeldonMessage(meta=seldon_pb2.Meta(metrics=sent), data=tensor)
    observation = observed(event_of(message.SerializeToString(), content_type="application/protobuf"))
    assert observation.custom_metrics is not None
    assert [(*metric, value) for metric, value in observation.custom_metrics.samples] == [
        (COUNTER, "calls", (("tag", "v"),), 1.0),
        (GAUGE, "depth", (), -0.5),
        (TIMER, "took", (), 2.0),
    ]
    assert dict(observation.custom_metrics.dropped) == {DroppedMetric.MALFORMED: 3, DroppedMetric.VALUE: 1}
    assert len(observation.rows) == 1


@pytest.mark.parametrize(("names", "taken"), [("calls", ["calls"]), ("calls_total,depth", ["calls", "depth"])])
def test_only_names_that_are_asked_for(names: str, taken: Sequence[str]) -> None:
    """Of what models send only the names of --custom_metrics are taken, a counter's with its suffix or without; the
    others are no fault of theirs, and are not counted."""
    rules = load(["--custom_metrics", names], {}).sender_rules(lambda path, parameters: None)(MAIN)  # type: ignore[arg-type,return-value]
    sent = response([CALL, {"key": "depth", "type": "GAUGE"}, {"key": "model_of_car"}])
    custom = observed(sent, rules).custom_metrics
    assert custom is not None
    assert [metric.key for metric, _ in custom.samples] == taken
    assert not custom.dropped


@pytest.mark.parametrize("rules", [SenderRules(), SenderRules(absent_reward=0.0)])
def test_nothing_by_default(rules: SenderRules) -> None:
    """Where no name is asked for, nothing is read."""
    assert observed(response([CALL]), rules).custom_metrics is None


def test_rules_are_looked_up_once() -> None:
    """A response with custom metrics asks once for the rules of its deployment, which is asked for each event."""
    asked: list[Labels] = []
    observation_of(response([CALL]), NOWHERE, NOW, rules_of=lambda labels: asked.append(labels) or EVERYTHING)  # type: ignore[func-returns-value]
    assert asked == [MAIN]


def test_rules_of_the_predictor_that_is_found(tmp_path: Path) -> None:
    """Where --predictor_from finds the predictor, the names are those of its entry."""
    config = tmp_path / "config.yaml"
    entries = [{"predictor": "canary", "custom_metrics": ["calls"]}]
    config.write_text(json.dumps({"predictor_from": "attribute:arm", "deployments": entries}))
    rules_of = load(["--config", str(config)], {}).sender_rules(lambda path, parameters: None)  # type: ignore[arg-type,return-value]
    found = [
        observation_of(response([CALL], arm=arm), NOWHERE, NOW, rules_of=rules_of).custom_metrics is not None
        for arm in ("main", "canary")
    ]
    assert found == [False, True]


def test_feedback_brings_none() -> None:
    """Feedback copies the response that it is about, metrics and all: they are not taken from there."""
    body = {"response": {"data": {"ndarray": [1]}, "meta": {"metrics": [CALL]}}, "reward": 1}
    event = msgspec.structs.replace(event_of(json.dumps(body).encode()), kind=EventKind.FEEDBACK)
    assert observed(event).custom_metrics is None


@pytest.mark.parametrize("name", ["model_calls", "a-b", "seldon_metric_x", "9"])
def test_names_that_cannot_be_asked_for(name: str) -> None:
    """A name that could never be exposed stops the start."""
    with pytest.raises(BadConfiguration, match=f"--custom_metrics {name}: want names for Prometheus that do not"):
        load(["--custom_metrics", f"calls,{name}"], {})


def test_a_deployment_has_names_of_its_own(tmp_path: Any) -> None:
    """An entry of `deployments` names the custom metrics of its deployments, none too; the others have the general
    ones."""
    config = tmp_path / "config.yaml"
    entries = [{"predictor": "canary", "custom_metrics": []}, {"namespace": "lab", "custom_metrics": ["*"]}]
    config.write_text(json.dumps({"custom_metrics": "calls", "deployments": entries}))
    settings = load(["--config", str(config)], {})
    names = {labels: settings.custom_metrics_of(labels) for labels in (MAIN, CANARY, MAIN._replace(namespace="lab"))}
    assert list(names.values()) == [{"calls"}, frozenset(), {"*"}]


# What they come to


def test_counters_add_once_for_each_event() -> None:
    """A counter adds once for each event however often that is delivered, in one batch or later, and after a
    restart."""
    bench, metric = CustomBench(), CustomMetric(COUNTER, "calls")
    first, second = response([CALL, CALL], 1), response([{**CALL, "value": 2.5}], 2)
    assert bench.take(first, first, second) == [Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.ACCEPTED]
    assert bench.sum_of(metric) == 4.5
    bench.restart()
    assert bench.take(second, response([CALL], 3)) == [Outcome.DUPLICATE, Outcome.ACCEPTED]
    assert bench.sum_of(metric) == 5.5
    bench.take(response([CALL], 4, requestid=""), response([CALL], 4, requestid=""))
    assert bench.sum_of(metric) == 6.5


def test_timers_become_histograms_of_seconds() -> None:
    """Timers are in milliseconds, and come to a histogram in seconds."""
    bench = CustomBench()
    timings = [{"key": "took", "type": "TIMER", "value": value} for value in (0.5, 20, 20_000, 60_000)]
    bench.take(response(timings[:2], 1), response(timings[2:], 2))
    histogram = cumulated(CustomMetric(TIMER, "took").component, bench.ever(MAIN))
    assert histogram is not None
    buckets, seconds = dict(histogram[0]), histogram[1]
    assert seconds == pytest.approx(80.0205)
    assert [buckets[bound] for bound in ("0.001", "0.01", "0.025", "10.0", "30.0", "+Inf")] == [1, 1, 2, 2, 3, 4]


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
@pytest.mark.parametrize("at_once", [True, False])
def test_gauges_are_the_latest_by_event_time(order: tuple[int, ...], at_once: bool) -> None:
    """A gauge shows the value of the latest event in whatever order they come; of one time the larger."""
    bench = CustomBench()
    sent = [(NOW - 5, 9.0), (NOW - 2, 3.0), (NOW - 2, 2.0)]
    events = [response([{"key": "depth", "type": "GAUGE", "value": sent[n][1]}], n, sent[n][0]) for n in order]
    for batch in [events] if at_once else [[event] for event in events]:
        bench.take(*batch)
    assert bench.gauge(CustomMetric(GAUGE, "depth")) == Register(NOW - 2, 3.0)


def test_tags_tell_metrics_apart() -> None:
    """Each set of tags is a metric of its own, whatever their order, and whatever stands in them."""
    bench = CustomBench()
    odd = 'a", "b": "\\'
    tags: list[dict[str, str]] = [{}, {"a": "1", "b": "2"}, {"b": "2", "a": "1"}, {"a": "12"}, {"a": odd}]
    bench.take(response([{**CALL, "tags": one} for one in tags]))
    counts = {metric.tags: bench.sum_of(metric) for metric in bench.registry.find(MAIN).custom_metrics}  # type: ignore[union-attr]
    assert counts == {(): 1, (("a", "1"), ("b", "2")): 2, (("a", "12"),): 1, (("a", odd),): 1}
    assert all(metric_of(metric.component) == metric for metric in bench.registry.find(MAIN).custom_metrics)  # type: ignore[union-attr]


def test_a_series_has_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a hundred metrics of a series further ones are dropped and counted, those that are there go on, and the
    event counts; after a restart too."""
    bench = CustomBench()
    metrics = [{**CALL, "tags": {"n": str(n)}} for n in range(MOST_IN_SERIES + 2)]
    assert bench.take(response(metrics, 1)) == [Outcome.ACCEPTED]
    assert bench.dropped == {DroppedMetric.LIMIT: 2}
    bench.restart()
    bench.take(response([metrics[0], metrics[-1]], 2))
    assert bench.dropped == {DroppedMetric.LIMIT: 1}
    assert bench.sum_of(CustomMetric(COUNTER, "calls", (("n", "0"),))) == 2
    assert bench.sum_of(CustomMetric(COUNTER, "calls", (("n", str(MOST_IN_SERIES + 1)),))) is None


def test_a_server_has_so_many_keys() -> None:
    """All series together have a hundred keys at most; those that are there may be used by any series; the keys of a
    series that is forgotten are free again."""
    bench = CustomBench()
    keys = [{"key": f"key_{n}", "value": 1} for n in range(MOST_KEYS + 1)]
    bench.take(response(keys[:60], 1), response(keys[60:], 2, labels=CANARY))
    assert bench.dropped == {DroppedMetric.LIMIT: 1}
    bench.restart()
    bench.take(response([keys[0], keys[-1]], 3, labels=CANARY))
    assert bench.dropped == {DroppedMetric.LIMIT: 1}
    assert bench.sum_of(CustomMetric(COUNTER, "key_0"), CANARY) == 1
    left = bench.registry.find(MAIN)
    assert left is not None
    bench.store.forget_series(left.id)
    bench.registry.drop(left.id)
    bench.take(response([keys[-1]], 4, labels=CANARY))
    assert bench.dropped == {}


@pytest.mark.parametrize(
    ("first", "other"),
    [
        ({"key": "a"}, {"key": "a", "type": "GAUGE"}),
        ({"key": "a", "type": "TIMER"}, {"key": "a"}),
        ({"key": "a"}, {"key": "a_total", "type": "GAUGE"}),
        ({"key": "a_created", "type": "GAUGE"}, {"key": "a"}),
        ({"key": "a", "type": "TIMER"}, {"key": "a_count", "type": "GAUGE"}),
        ({"key": "a_bucket", "type": "GAUGE"}, {"key": "a", "type": "TIMER"}),
    ],
    ids=str,
)
def test_a_name_has_one_type(first: dict[str, Any], other: dict[str, Any]) -> None:
    """The type that a name has first stands in all series, after a restart too: what would expose that name otherwise
    is dropped and counted."""
    bench = CustomBench()
    bench.take(response([first], 1))
    for number in (2, 3):
        bench.take(response([other], number, labels=CANARY))
        assert bench.dropped == {DroppedMetric.TYPE: 1}
        bench.restart()
    bench.take(response([first], 4, labels=CANARY))
    assert bench.dropped == {}


def test_a_duplicate_drops_nothing() -> None:
    """What is dropped is counted once for each event, as what is taken."""
    bench = CustomBench()
    bad = response([{"key": "-"}], 1)
    bench.take(bad, bad)
    assert bench.dropped == {DroppedMetric.NAME: 1}
    bench.take(bad)
    assert bench.dropped == {}


def test_the_observation_stays_as_it_is() -> None:
    """A batch that has to be computed again takes the same: nothing of the first attempt is left in the
    observation."""
    bench = CustomBench()
    observation = observed(response([CALL, {"key": "-"}]))
    before = msgspec.structs.asdict(observation)["custom_metrics"]
    copied = (list(before.samples), dict(before.dropped))
    changes = []
    for _ in range(2):
        batch = Batch(bench.store, bench.registry, KEEPING, NOW)
        batch.apply([observation])
        changes.append(batch.change().sums)
        bench.restart()
    assert changes[0] == changes[1]
    assert (before.samples, dict(before.dropped)) == copied
    assert any((CustomMetric(COUNTER, "calls").component in sums) for sums in changes[0].values())
    assert all(bucket == CUMULATIVE for _, bucket in changes[0] if bucket.width == 0)


def test_every_reason_is_documented() -> None:
    """The page on custom metrics says of each reason what to do, and the reference has it."""
    docs = Path(__file__).parents[2] / "docs"
    how_to, reference = (
        (docs / name).read_text() for name in ("how-to/expose-custom-metrics.md", "reference/metrics.md")
    )
    for reason in DroppedMetric:
        assert f"| `{reason}` | " in how_to
        assert f"`{reason}`" in reference
