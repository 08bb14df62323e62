"""/v1/metrics: the totals of every series as text, in Prometheus' format or OpenMetrics.

The families of models are rendered here and not by prometheus_client, which takes 3 to 5 times as long for the same
lines: a scrape shares the interpreter with ingest. Its strict parsers read every page in the tests. The server's own
telemetry is small and goes through prometheus_client.
"""

from __future__ import annotations

import zlib
from bisect import bisect
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from io import BytesIO
from itertools import chain, repeat
from typing import NamedTuple, TypeAlias

import msgspec
from prometheus_client.exposition import choose_encoder

from metrics_server.api.exposure import Exposure
from metrics_server.api.gauges import Gauge
from metrics_server.metrics import reward_stats
from metrics_server.metrics.components import LABELS, PREDICTED, PREDICTIONS
from metrics_server.metrics.custom_metric import METHOD, PREDICT, CustomType, exposed_names
from metrics_server.metrics.duration_histogram import DELAY, LATENCY, cumulated
from metrics_server.metrics.labels import LabelStatus
from metrics_server.metrics.model import OTHER_CLASSES, SELDON_PREFIX, Sample
from metrics_server.metrics.sums import Sums
from metrics_server.metrics.window import CUMULATIVE, CUMULATIVE_REAPPLIED, CUMULATIVE_RETRACTED
from metrics_server.pairing.exemplar import WRONG, Exemplars
from metrics_server.series.evaluator import OF_SERVER, Evaluator
from metrics_server.series.families import (
    COUNTER,
    GAUGE,
    HISTOGRAM,
    MODEL,
    custom_family,
    family_of,
    is_known,
    series_labels,
)
from metrics_server.series.registry import SAME_BATCH_SECONDS, SeriesRegistry
from metrics_server.series.series import Labels, Series
from metrics_server.series.totals import SeriesTotals, Totals
from metrics_server.telemetry import Telemetry

OPENMETRICS = "application/openmetrics-text"
CACHED_BYTES = 32 * 2**20  # of compressed text, for each of the two formats
# Of zlib: the lines of a series shrink to an eleventh, in a twentieth of the time that they take to make.
COMPRESSION = 1
PARTS = 4  # of a page: so many times less is in memory uncompressed while it is written
EXEMPLAR_CHARACTERS = 128  # of names and values together: more must not be written (OpenMetrics 1.0, Exemplars)
WRONG_DECISIONS = "decisions", {"correct": "false"}  # a sample that metric models of classes count
# Labels of a value that is one of many: its interval is in the JSON API, or the page would be three times as long.
DETAILS = frozenset(("class", "value"))
# Whether it is of custom metrics, name and type. In this order they are on the page.
_Family: TypeAlias = tuple[bool, str, str]
_FamilyLines: TypeAlias = tuple[bool, str, str, bytes]  # the same, and the lines

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


@dataclass(frozen=True)
class AncestorLabels:
    """The labels that the ancestor took from its environment and command line."""

    method: str
    image_name: str
    image_version: str
    predictor_version: str

    def of(self, labels: Labels) -> dict[str, str]:
        """Returns the ancestor's labels for a series, without its process id; as there, NOT_IMPLEMENTED if unknown."""
        namespace, deployment, predictor, model = (label or "NOT_IMPLEMENTED" for label in labels)
        return {
            "deployment_name": deployment,
            "image_name": self.image_name,
            "image_version": self.image_version,
            "method": self.method,
            "model_image": self.image_name,
            "model_name": model,
            "model_version": self.image_version,
            "predictor_name": predictor,
            "predictor_version": self.predictor_version,
            "seldon_deployment_name": deployment,
            "seldon_deployment_namespace": namespace,
        }


# What a truth did when it arrived, which nothing takes back. The others tell what a truth is: paired, or why not.
NEVER_TAKEN_BACK = frozenset(LabelStatus) - {
    LabelStatus.MATCHED,
    LabelStatus.TOO_OLD,
    LabelStatus.UNSCORABLE,
    LabelStatus.TASK_MISMATCH,
}


def _no_exemplar(place: int) -> str:
    return ""


@dataclass
class _SeriesLines:
    """Collects the lines of one series by family."""

    has_created: bool  # whether each counter has a `_created` line: since when it counts
    is_custom: bool = False
    exposure: Exposure = Exposure.FULL
    gauges: defaultdict[str, list[str]] = field(default_factory=partial(defaultdict, list))
    counters: defaultdict[str, list[str]] = field(default_factory=partial(defaultdict, list))
    histograms: defaultdict[str, list[str]] = field(default_factory=partial(defaultdict, list))
    exemplars: Callable[[int], str] = _no_exemplar  # what stands behind the value of a place, see `Exemplars`

    def gauge(self, name: str, labels: str, value: float) -> None:
        self.gauges[name].append(f"{name}{{{labels}}} {value!r}\n")

    def counter(self, name: str, labels: str, value: float, created_at: float, exemplar: str = "") -> None:
        lines = self.counters[name]
        lines.append(f"{name}_total{{{labels}}} {value!r}{exemplar}\n")
        if self.has_created:
            lines.append(f"{name}_created{{{labels}}} {created_at!r}\n")

    def histogram(
        self,
        name: str,
        labels: str,
        buckets: Iterable[tuple[str, float]],
        seconds: float,
        created_at: float,
        *,
        exemplars: Iterable[str] = repeat(""),
    ) -> None:
        """`exemplars` are those of the buckets, "" for none."""
        lines = self.histograms[name]
        count = 0.0
        for (bound, count), exemplar in zip(buckets, exemplars, strict=False):  # which may not end
            lines.append(f'{name}_bucket{{{labels},le="{bound}"}} {count!r}{exemplar}\n')
        lines += (f"{name}_count{{{labels}}} {count!r}\n", f"{name}_sum{{{labels}}} {seconds!r}\n")
        if self.has_created:
            lines.append(f"{name}_created{{{labels}}} {created_at!r}\n")

    def texts(self) -> Iterator[_FamilyLines]:
        for kind, by_name in ((GAUGE, self.gauges), (COUNTER, self.counters), (HISTOGRAM, self.histograms)):
            for name, lines in by_name.items():
                yield self.is_custom, name, kind, "".join(lines).encode()


# With which families the parts of a page begin, but for the first; the last part has all custom metrics.
_KNOWN = sorted(MODEL)
_BEGINNINGS = [(False, _KNOWN[len(_KNOWN) * part // PARTS]) for part in range(1, PARTS)]
_PART = msgspec.msgpack.Decoder(list[_FamilyLines])


class _SeriesText(NamedTuple):
    """The rendered lines of a series, of one version of its sums: those of each part of the page, compressed."""

    version: object
    families: tuple[_Family, ...]
    parts: tuple[bytes, ...]

    @classmethod
    def of(cls, version: object, lines: Sequence[_FamilyLines]) -> _SeriesText:
        parts: list[list[_FamilyLines]] = [[] for _ in range(PARTS)]
        for each in lines:
            parts[bisect(_BEGINNINGS, each)].append(each)
        packed = tuple(zlib.compress(msgspec.msgpack.encode(part), COMPRESSION) for part in parts)
        return cls(version, _shared(tuple(each[:3] for each in lines)), packed)

    def part(self, number: int) -> list[_FamilyLines]:
        return _PART.decode(zlib.decompress(self.parts[number]))

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(map(len, self.parts))


@lru_cache(100)
def _shared(families: tuple[_Family, ...]) -> tuple[_Family, ...]:
    """The same object for equal families: nearly all series have those of some other."""
    return families


def _page(series_texts: Sequence[_SeriesText], names: Collection[str], *, is_openmetrics: bool) -> Iterator[bytes]:
    """Yields the text of all series, family by family; of samples with these names alone, if there are any."""
    standing = _standing(set(chain.from_iterable({text.families for text in series_texts})))
    for number in range(PARTS):
        found: defaultdict[_Family, list[bytes]] = defaultdict(list)
        for text in series_texts:
            for is_custom, name, kind, lines in text.part(number):
                found[is_custom, name, kind].append(lines)
        for family in sorted(standing & found.keys()):
            yield from _family_text(family, found.pop(family), names, is_openmetrics=is_openmetrics)


def _standing(families: Collection[_Family]) -> set[_Family]:
    """Selects the families whose names no other has: those that are known come first, then those of metric models.

    A user's metric model and a model's custom metrics name theirs as they like, and one name with two types would make
    the whole page unreadable.
    """
    standing, claimed = set(), set[str]()
    for family in sorted(families, key=lambda family: (family[0], not is_known(*family[1:]), family)):
        names = exposed_names(*family[1:])
        if claimed.isdisjoint(names):
            claimed.update(names)
            standing.add(family)
    return standing


def _family_text(
    family: _Family, texts: Sequence[bytes], names: Collection[str], *, is_openmetrics: bool
) -> Iterator[bytes]:
    is_custom, name, kind = family
    lines = [_with_names(text, names) for text in texts] if names else texts
    if any(lines):
        # OpenMetrics names the family of a counter without its suffix, the older format with it.
        family_name = f"{name}_total" if kind == COUNTER and not is_openmetrics else name
        made = custom_family(name, kind) if is_custom else family_of(name, kind)
        yield f"# HELP {family_name} {made.help}\n# TYPE {family_name} {kind}\n".encode()
        yield from lines


def _with_names(text: bytes, names: Collection[str]) -> bytes:
    """Selects the lines of the samples with these names."""
    return b"".join(line for line in text.splitlines(True) if line.partition(b"{")[0].decode() in names)


class Exposition:
    """Renders the page. It only reads, and may be called from any thread.

    The text of a series is cached until its sums change: most of many series are quiet between two scrapes, and to
    compute all values of one takes a few milliseconds.
    """

    def __init__(
        self,
        registry: SeriesRegistry,
        totals: Totals,
        telemetry: Telemetry,
        ancestor: AncestorLabels,
        *,
        seldon_metrics: bool,
        evaluator: Evaluator,
        exposure_of: Callable[[Labels], Exposure] = lambda labels: Exposure.FULL,
        judged: Callable[[], Iterable[Gauge]] = tuple,
        exemplars: Exemplars | None = None,
    ) -> None:
        """`exposure_of` tells how much of the series with these labels is exposed, `judged` yields what is said beside
        its sums, and `exemplars` are shown if there are any, in OpenMetrics.
        """
        self._registry = registry
        self._totals = totals
        self._telemetry = telemetry
        self._ancestor = ancestor
        self._seldon_metrics = seldon_metrics
        self._evaluator = evaluator
        self._exposure_of = exposure_of
        self._judged = judged
        self._exemplars = exemplars
        # By format (whether it is OpenMetrics) and series.
        self._cache: dict[bool, dict[int, _SeriesText]] = {False: {}, True: {}}
        self._forgotten = 0

    def forget(self) -> None:
        """Has every series rendered anew, after what is shown of series has changed."""
        self._forgotten += 1

    def render(self, accept: str, names: Collection[str] = ()) -> tuple[bytes, str]:
        """Returns the page in the format that the Accept header asks for, and its content type.

        Args:
            accept: the header.
            names: of the samples to show, as prometheus_client's `name[]`; all if there is none.
        """
        try:
            encoder, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # for a version that is not a number
            encoder, content_type = choose_encoder("")
        is_openmetrics = content_type.startswith(OPENMETRICS)
        texts = {
            series.id: self._series_text(series, is_openmetrics=is_openmetrics) for series in self._registry.current()
        }
        self._cache[is_openmetrics] = _within_memory(texts)
        page = BytesIO()  # gives its bytes away uncopied: they may be 50 MB
        page.writelines(_page([*texts.values(), self._judged_text()], frozenset(names), is_openmetrics=is_openmetrics))
        registry = self._telemetry.exposed
        page.write(encoder(registry.restricted_registry(names) if names else registry))
        return page.getvalue(), content_type

    def _judged_text(self) -> _SeriesText:
        """What is judged of several series together, or without their sums."""
        lines = _SeriesLines(has_created=False)  # there are no counters
        for name, labels, value in self._judged():
            lines.gauge(name, _label_text(labels), value)
        return _SeriesText.of(None, list(lines.texts()))

    def _series_text(self, series: Series, *, is_openmetrics: bool) -> _SeriesText:
        version = (
            self._forgotten,
            self._totals.version(series.id),
            self._exemplars.erasures if self._exemplars is not None else 0,
        )  # before the sums: at worst the text is rendered once more
        cached = self._cache[is_openmetrics].get(series.id)
        if cached is not None and cached.version == version:
            return cached
        return _SeriesText.of(version, self._rendered(series, is_openmetrics=is_openmetrics))

    def _rendered(self, series: Series, *, is_openmetrics: bool) -> list[_FamilyLines]:
        exposure, totals = self._exposure_of(series.labels), self._totals.series_totals(series.id)
        series = self._registry.latest(series)
        lines = _SeriesLines(has_created=is_openmetrics, exposure=exposure)
        if self._exemplars is not None and is_openmetrics:  # the older format has none
            lines.exemplars = partial(_exemplar_text, self._exemplars, series)
        self._collect(lines, series, totals)
        custom = _SeriesLines(has_created=is_openmetrics, is_custom=True)
        if exposure.shows_custom_metrics:
            self._collect_custom_metrics(custom, series, totals)
        return [*lines.texts(), *custom.texts()]

    def _collect(self, lines: _SeriesLines, series: Series, totals: SeriesTotals) -> None:
        """Collects the lines of all families of one series."""
        slice_label = {"slice": series.identity.slice} if series.identity.slice else {}
        labels = _label_text({**series_labels(series.labels), **slice_label})
        self._collect_counters(lines, series, labels, totals)
        if not slice_label and lines.exposure is Exposure.FULL:  # the ancestor had no slices
            self._collect_ancestor_counters(lines, series, totals)
        for window, samples in self._evaluator.values_by_window(series, totals.windows):
            _collect_gauges(lines, f'{labels},window="{window}"', samples)

    def _collect_counters(self, lines: _SeriesLines, series: Series, labels: str, totals: SeriesTotals) -> None:
        cumulative, retracted = totals.cumulative[CUMULATIVE], totals.cumulative[CUMULATIVE_RETRACTED]
        _collect_server_families(lines, series, labels, totals, self._evaluator.exported(series))
        for sample in self._evaluator.counts(series, cumulative, retracted):
            if lines.exposure.shows(name := f"model_{sample.name}", sample.labels):
                exemplar = lines.exemplars(WRONG) if (sample.name, sample.labels) == WRONG_DECISIONS else ""
                lines.counter(name, _joined(labels, sample.labels), sample.value, series.created_at, exemplar)

    def _collect_ancestor_counters(self, lines: _SeriesLines, series: Series, totals: SeriesTotals) -> None:
        cumulative, reapplied = totals.cumulative[CUMULATIVE], totals.cumulative[CUMULATIVE_REAPPLIED]
        base = self._ancestor.of(series.labels)
        base_text = _label_text(base)
        for sample in self._evaluator.ancestor_counts(series, cumulative, reapplied):
            if self._seldon_metrics or not sample.name.startswith(SELDON_PREFIX):  # a user's own counters always show
                own = {label: value for label, value in sample.labels.items() if label not in base}
                labels = f"{_label_text(own)},{base_text}" if own else base_text
                lines.counter(sample.name, labels, sample.value, series.created_at)

    def _collect_custom_metrics(self, lines: _SeriesLines, series: Series, totals: SeriesTotals) -> None:
        """Collects the custom metrics of a model, as the wrapper that it runs in exposes them."""
        for (kind, key, tags), value, _, buckets in self._evaluator.custom_metrics(series, totals):
            labels = _label_text(self._ancestor.of(series.labels) | {METHOD: PREDICT} | dict(tags))
            if kind is CustomType.COUNTER:
                lines.counter(key, labels, value, series.created_at)
            elif kind is CustomType.GAUGE:
                lines.gauge(key, labels, value)
            else:
                lines.histogram(key, labels, buckets, value, series.created_at)


def _collect_gauges(lines: _SeriesLines, window_labels: str, samples: Iterable[Sample]) -> None:
    has_headline = False
    for sample_name, extra, value, interval, _ in samples:
        name = f"model_{sample_name}"
        is_headline = not has_headline and not name.startswith(OF_SERVER)
        has_headline = has_headline or is_headline
        if not lines.exposure.shows(name, extra, is_headline=is_headline):
            continue
        labels = _joined(window_labels, extra)
        lines.gauge(name, labels, value)
        if interval is not None and DETAILS.isdisjoint(extra):
            lower, upper = interval
            lines.gauge(f"{name}_lower", labels, lower)
            lines.gauge(f"{name}_upper", labels, upper)


def _within_memory(texts: Mapping[int, _SeriesText]) -> dict[int, _SeriesText]:
    """Selects the texts that fit into the memory of the cache, in their order."""
    left = CACHED_BYTES
    cached = {}
    for series_id, text in texts.items():
        left -= text.size
        if left >= 0:
            cached[series_id] = text
    return cached


def _escaped(value: str) -> str:
    return value.translate(_ESCAPES)


def _exemplar_text(exemplars: Exemplars, series: Series, place: int) -> str:
    """Writes the exemplar of a place behind a value (OpenMetrics 1.0, Exemplars); "" for none.

    An id that does not fit beside the trace is left out: a part of it would be that of another request. So is one with
    a character that has to be escaped, which not all parsers read in an exemplar (prometheus_client 0.26 does not).
    """
    found = exemplars.of(series.id, place)
    if found is None or found.at < series.created_at - SAME_BATCH_SECONDS:  # of a series that has left, and is back
        return ""
    labels, left = {}, EXEMPLAR_CHARACTERS
    for name, value in (("trace_id", found.trace_id), ("request_id", found.request_id)):
        is_plain = value.isprintable() and value == _escaped(value)
        if value and is_plain and len(name) + len(value) <= left:
            labels[name], left = value, left - len(name) - len(value)
    text = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return f" # {{{text}}} {found.value!r} {found.at!r}" if labels else ""


def _label_text(labels: Mapping[str, str]) -> str:
    return _text_of(tuple([(name, str(value)) for name, value in labels.items()]))


@lru_cache(10_000)
def _text_of(labels: tuple[tuple[str, str], ...]) -> str:
    """Writes labels as text. Nearly all lines of a series have the same few."""
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)


def _joined(labels: str, extra: Mapping[str, str]) -> str:
    return f"{labels},{_label_text(extra)}" if extra else labels


def _collect_server_families(
    lines: _SeriesLines, series: Series, labels: str, totals: SeriesTotals, exported: Sequence[str]
) -> None:
    """Collects the families that every series has, whatever its metric model."""
    cumulative, retracted = totals.cumulative[CUMULATIVE], totals.cumulative[CUMULATIVE_RETRACTED]
    lines.counter("model_predictions", labels, cumulative.get(PREDICTIONS, 0.0), series.created_at)
    taken_back = {(name, *extra.items()): value for name, extra, value in _server_counters(retracted, exported)}
    for name, extra, value in _server_counters(cumulative, exported):
        if lines.exposure.shows(name, extra):
            extended = _joined(labels, extra)
            lines.counter(name, extended, value, series.created_at)
            if extra.get("status") not in NEVER_TAKEN_BACK:
                back = taken_back.get((name, *extra.items()), 0.0)
                lines.counter(f"{name}_retracted", extended, back, series.created_at)
    _collect_durations(lines, series, labels, cumulative)
    for name, at in (("prediction", series.predicted_at), ("label", series.labelled_at)):
        if at:
            lines.gauge(f"model_last_{name}_timestamp_seconds", labels, at)


def _collect_durations(lines: _SeriesLines, series: Series, labels: str, cumulative: Sums) -> None:
    for name, prefix in (("model_label_delay_seconds", DELAY), ("model_prediction_latency_seconds", LATENCY)):
        if lines.exposure.shows(name, {}) and (histogram := cumulated(prefix, cumulative)):
            buckets, seconds = histogram
            exemplars = map(lines.exemplars, range(len(buckets))) if prefix == LATENCY else repeat("")
            lines.histogram(name, labels, buckets, seconds, series.created_at, exemplars=exemplars)


def _server_counters(sums: Sums, exported: Sequence[str]) -> Iterator[tuple[str, Mapping[str, str], float]]:
    """Yields (name, labels, value) of those that may be taken back."""
    for status in LabelStatus:
        yield "model_labels", {"status": status}, sums.get(LABELS + status, 0.0)
    if rewards := sums.get(reward_stats.REWARDS):
        yield "model_rewards", {}, rewards
    for reward, count in reward_stats.counts(sums):
        yield "model_reward_values", {"value": reward}, count
    for label, count in _predictions_by_class(sums, exported).items():
        yield "model_predicted_class", {"class": label}, count


def _predictions_by_class(cumulative: Sums, exported: Sequence[str]) -> dict[str, float]:
    """Counts predictions by exported class; all other classes are one."""
    counts: dict[str, float] = {}
    for name, count in cumulative.items():
        if name.startswith(PREDICTED):
            label = name.removeprefix(PREDICTED)
            label = label if label in exported else OTHER_CLASSES
            counts[label] = counts.get(label, 0.0) + count
    return counts
