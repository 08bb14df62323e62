"""/v1/metrics: the reading of every series as text, in Prometheus' format or OpenMetrics.

The families of models are rendered here and not by prometheus_client, which takes 3 to 5 times as long for the same
lines: a scrape shares the interpreter with ingest. Its strict parsers read every page in the tests. The server's own
telemetry is small and goes through prometheus_client.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from sys import getsizeof
from typing import NamedTuple

from prometheus_client.exposition import choose_encoder

from metrics_server.metrics import reward_stats as reward
from metrics_server.metrics.components import LABELS, PREDICTED, PREDICTIONS
from metrics_server.metrics.duration_histogram import DELAY, LATENCY, cumulated
from metrics_server.metrics.labels import LabelStatus
from metrics_server.metrics.model import OTHER_CLASSES, SELDON_PREFIX
from metrics_server.metrics.sums import Sums
from metrics_server.metrics.window import CUMULATIVE, CUMULATIVE_REAPPLIED
from metrics_server.metrics.window import CUMULATIVE_RETRACTED as RETRACTED_LEDGER
from metrics_server.series.evaluator import Evaluator
from metrics_server.series.families import COUNTER, GAUGE, HISTOGRAM, SERIES_LABELS, family_of
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.series import Labels, Series
from metrics_server.series.totals import SeriesTotals, Totals
from metrics_server.telemetry import Telemetry

OPENMETRICS = "application/openmetrics-text"
KEPT_BYTES = 64 * 2**20  # of lines, for each of the two formats
# Labels of a value that is one of many: its interval is in the JSON API, or the page would be three times as long.
DETAILS = frozenset(("class", "value"))
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


@dataclass(frozen=True)
class AncestorLabels:
    """What the ancestor took from its environment and command line for the labels of its series."""

    method: str
    image_name: str
    image_version: str
    predictor_version: str

    def of(self, labels: Labels) -> dict[str, str]:
        """The ancestor's labels for a series, without its process id; what is unknown reads NOT_IMPLEMENTED, as
        there.
        """
        namespace, deployment, predictor, model = (part or "NOT_IMPLEMENTED" for part in labels)
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


@dataclass
class _Lines:
    """The lines of a series by family, while they are collected."""

    created: bool  # whether counters get a line that says since when they count
    families: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def gauge(self, name: str, labels: str, value: float) -> None:
        self._lines(name, GAUGE).append(f"{name}{{{labels}}} {value!r}\n")

    def counter(self, name: str, labels: str, value: float, created_at: float) -> None:
        lines = self._lines(name, COUNTER)
        lines.append(f"{name}_total{{{labels}}} {value!r}\n")
        if self.created:
            lines.append(f"{name}_created{{{labels}}} {created_at!r}\n")

    def histogram(
        self, name: str, labels: str, buckets: Iterable[tuple[str, float]], seconds: float, created_at: float
    ) -> None:
        lines = self._lines(name, HISTOGRAM)
        count = 0.0
        for bound, count in buckets:
            lines.append(f'{name}_bucket{{{labels},le="{bound}"}} {count!r}\n')
        lines += (f"{name}_count{{{labels}}} {count!r}\n", f"{name}_sum{{{labels}}} {seconds!r}\n")
        if self.created:
            lines.append(f"{name}_created{{{labels}}} {created_at!r}\n")

    def _lines(self, name: str, kind: str) -> list[str]:
        lines = self.families.get((name, kind))
        if lines is None:
            lines = self.families[name, kind] = []
        return lines


class _Part(NamedTuple):
    """The lines of a series as they were at a version of its sums."""

    version: object
    texts: dict[tuple[str, str], str]
    length: int


def _page(parts: Iterable[_Part], *, created: bool) -> Iterator[str]:
    """The lines of all series, family by family."""
    families: dict[tuple[str, str], list[str]] = {}
    for part in parts:
        for family, text in part.texts.items():
            families.setdefault(family, []).append(text)
    for name, kind in sorted(families):
        # OpenMetrics names the family of a counter without its suffix, the older format with it.
        shown = f"{name}_total" if kind == COUNTER and not created else name
        yield f"# HELP {shown} {family_of(name, kind).help}\n# TYPE {shown} {kind}\n"
        yield from families[name, kind]


class Exposition:
    """Renders the page. It only reads, and may be called from any thread.

    The lines of a series are kept until its sums change: most of many series are quiet between two scrapes, and to read
    all values of one takes a millisecond or two.
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
    ) -> None:
        self._registry = registry
        self._totals = totals
        self._telemetry = telemetry
        self._ancestor = ancestor
        self._seldon_metrics = seldon_metrics
        self._evaluator = evaluator
        self._parts: dict[bool, dict[int, _Part]] = {False: {}, True: {}}  # by format and series

    def render(self, accept: str) -> tuple[bytes, str]:
        """The page in the format that the Accept header asks for, and its content type."""
        try:
            encoder, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # it stumbles over versions that are none
            encoder, content_type = choose_encoder("")
        created = content_type.startswith(OPENMETRICS)
        parts = [(series.id, self._part(series, created=created)) for series in self._registry.current()]
        self._keep(parts, created=created)
        text = "".join(_page((part for _, part in parts), created=created))
        return text.encode() + encoder(self._telemetry.registry), content_type

    def _part(self, series: Series, *, created: bool) -> _Part:
        version = self._totals.version(series.id)  # before the sums: at worst what is kept is read once more
        kept = self._parts[created].get(series.id)
        if kept is not None and kept.version == version:
            return kept
        lines = _Lines(created)
        self._series(lines, series, self._totals.series_totals(series.id))
        texts = {family: "".join(found) for family, found in lines.families.items()}
        return _Part(version, texts, sum(map(getsizeof, texts.values())))

    def _keep(self, parts: Iterable[tuple[int, _Part]], *, created: bool) -> None:
        """Keeps the lines of the series that are there, as far as the memory for them goes."""
        left = KEPT_BYTES
        kept = {}
        for series_id, part in parts:
            left -= part.length
            if left >= 0:
                kept[series_id] = part
        self._parts[created] = kept

    def _series(self, page: _Lines, series: Series, reading: SeriesTotals) -> None:
        part = series.identity.slice
        labels = _label_text(
            {**dict(zip(SERIES_LABELS, series.labels, strict=True)), **({"slice": part} if part else {})}
        )
        ever = reading.cumulative[CUMULATIVE]
        _server_families(page, series, labels, ever, self._evaluator.exported(series))
        for sample in self._evaluator.counts(series, ever, reading.cumulative[RETRACTED_LEDGER]):
            page.counter(f"model_{sample.name}", _joined(labels, sample.labels), sample.value, series.created_at)
        if not part:  # the ancestor knew no slices
            self._ancestor_families(page, series, reading)
        for window, sums in reading.windows.items():
            windowed = f'{labels},window="{window}"'
            for sample in self._evaluator.values(series, sums):
                page.gauge(name := f"model_{sample.name}", shown := _joined(windowed, sample.labels), sample.value)
                if sample.interval is not None and not (sample.labels.keys() & DETAILS):
                    page.gauge(f"{name}_lower", shown, sample.interval[0])
                    page.gauge(f"{name}_upper", shown, sample.interval[1])

    def _ancestor_families(self, page: _Lines, series: Series, reading: SeriesTotals) -> None:
        base = self._ancestor.of(series.labels)
        for sample in self._evaluator.ancestor_counts(
            series, reading.cumulative[CUMULATIVE], reading.cumulative[CUMULATIVE_REAPPLIED]
        ):
            if self._seldon_metrics or not sample.name.startswith(SELDON_PREFIX):  # a user's own counters always show
                page.counter(sample.name, _label_text({**sample.labels, **base}), sample.value, series.created_at)


def _escaped(value: str) -> str:
    return value.translate(_ESCAPES)


def _label_text(labels: Mapping[str, str]) -> str:
    return _text_of(tuple([(name, str(value)) for name, value in labels.items()]))


@lru_cache(10_000)
def _text_of(labels: tuple[tuple[str, str], ...]) -> str:
    """Labels as text. The same few stand on nearly all lines of a series."""
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)


def _joined(labels: str, extra: Mapping[str, str]) -> str:
    return f"{labels},{_label_text(extra)}" if extra else labels


def _server_families(page: _Lines, series: Series, labels: str, ever: Sums, exported: Sequence[str]) -> None:
    """What the server itself knows of a series since it was made."""
    for name, extra, value in _server_counters(ever, exported):
        page.counter(name, _joined(labels, extra), value, series.created_at)
    for name, part in (("model_label_delay_seconds", DELAY), ("model_prediction_latency_seconds", LATENCY)):
        if found := cumulated(part, ever):
            page.histogram(name, labels, *found, series.created_at)
    for name, at in (("prediction", series.predicted_at), ("label", series.labelled_at)):
        if at:
            page.gauge(f"model_last_{name}_timestamp_seconds", labels, at)


def _server_counters(ever: Sums, exported: Sequence[str]) -> Iterator[tuple[str, Mapping[str, str], float]]:
    yield "model_predictions", {}, ever.get(PREDICTIONS, 0.0)
    for status in LabelStatus:
        yield "model_labels", {"status": status}, ever.get(LABELS + status, 0.0)
    if rewards := ever.get(reward.REWARDS):
        yield "model_rewards", {}, rewards
        for given, count in reward.counts(ever):
            yield "model_reward_values", {"value": given}, count
    by_class: dict[str, float] = {}
    for name, value in ever.items():
        if name.startswith(PREDICTED):
            label = name.removeprefix(PREDICTED)
            label = label if label in exported else OTHER_CLASSES
            by_class[label] = by_class.get(label, 0.0) + value
    for label, value in by_class.items():
        yield "model_predicted_class", {"class": label}, value
