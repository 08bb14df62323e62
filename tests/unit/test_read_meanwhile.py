"""What is read while another server's commits are taken: no sums are shown by a series that does not know them yet."""

from __future__ import annotations

from collections.abc import Callable

from metrics_server.api.exposition import AncestorLabels, Exposition
from metrics_server.api.groups import GroupReports
from metrics_server.api.schema import History
from metrics_server.api.service import Api
from metrics_server.api.verdict import Decision, Verdicts
from metrics_server.metrics.components import PAIRS
from metrics_server.metrics.model import load
from metrics_server.metrics.sums import component
from metrics_server.metrics.window import CUMULATIVE, MINUTE, Bucket
from metrics_server.series.evaluator import Evaluator
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.series import Identity, Labels, Scoring, Series
from metrics_server.series.totals import Totals
from metrics_server.store.interface import Change, StoredSeries
from metrics_server.store.memory import MemoryStore
from metrics_server.telemetry import Telemetry

NOW = 1_790_000_000
MINUTE_NOW = NOW - NOW % MINUTE
LABELS = Labels("shop", "wine", "main", "classifier")
MODEL = "cm_models.multiclass_numeric.MultiClassNumeric"


class MeanwhileRegistry(SeriesRegistry):
    """A registry in which something happens between a reader's list of all series and what it does with that."""

    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    def current(self) -> list[Series]:
        listed = super().current()
        self.meanwhile()
        return listed


def pairs(label: str) -> dict[str, float]:
    """The sums of a pair of this class on both sides."""
    return {"pairs": 1.0, "correct": 1.0, component("confusion", label, label): 1.0, PAIRS: 1.0}


def claimed(*classes: str) -> StoredSeries:
    """The row of the series with these classes."""
    identity = Identity(LABELS, Scoring())
    named = {f"class/{slot}": name for slot, name in enumerate(classes)}
    return StoredSeries(identity.id, identity.encoded, NOW, NOW, {"model": MODEL, **named})


def test_a_page_knows_the_classes_of_the_sums_that_it_shows() -> None:
    """A class that another server has claimed while a page is made has its own name on it, on this page and later."""
    registry = MeanwhileRegistry(lambda labels: Scoring(), lambda path, parameters: load(path, parameters), 10)
    totals = Totals({"1h": 3600})
    totals.rebuild(MemoryStore(), NOW)
    exposition = Exposition(
        registry,
        totals,
        Telemetry(),
        AncestorLabels("", "", "", ""),
        seldon_metrics=True,
        evaluator=Evaluator(30, 1),
    )

    def take(*classes: str) -> None:
        row = claimed(*classes)
        registry.update([row])
        totals.add({(row.id, bucket): pairs(classes[-1]) for bucket in (Bucket(MINUTE, MINUTE_NOW), CUMULATIVE)})

    take("ale")
    registry.meanwhile = lambda: take("ale", "beer")  # type: ignore[method-assign]
    first = exposition.render("", ())[0].decode()
    registry.meanwhile = lambda: None  # type: ignore[method-assign]
    for text in (first, exposition.render("", ())[0].decode()):
        assert 'truth="beer",prediction="beer"} 1.0' in text
        assert "__other__" not in text


def test_a_history_knows_the_classes_of_the_sums_that_it_shows() -> None:
    """A class that another server has claimed, in sums that the store has and this server does not know of yet, has its
    own name in a history."""
    registry = SeriesRegistry(lambda labels: Scoring(), lambda path, parameters: load(path, parameters), 10)
    store, ale, beer = MemoryStore(), claimed("ale"), claimed("ale", "beer")
    registry.restore([ale])
    store.commit(Change(series={beer.id: beer}, sums={(beer.id, Bucket(MINUTE, MINUTE_NOW)): pairs("beer")}))

    def catch_up(on_caught_up: Callable[[None], None]) -> None:
        registry.update([beer])
        on_caught_up(None)

    totals, evaluator, clock = Totals({"1h": 3600}), Evaluator(30, 1), lambda: float(NOW)
    verdicts = Verdicts(
        registry,
        totals,
        evaluator,
        store,
        history=86400,
        declared_baseline=lambda labels: None,
        decision_of=lambda labels: Decision(),
        clock=clock,
    )
    api = Api(
        registry,
        totals,
        evaluator,
        store,
        Telemetry(),
        group_reports=GroupReports(registry, totals, evaluator, lambda labels: {}),
        windows={"1h": 3600},
        history=86400,
        verdicts=verdicts,
        objectives_of=lambda series_id: (),
        catch_up=catch_up,
        clock=clock,
    )
    history = api.model(LABELS, "step=1h")
    assert isinstance(history, History)
    (point,) = history.points
    assert {value.labels["class"] for value in point.values if "class" in value.labels} == {"beer"}
