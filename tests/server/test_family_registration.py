"""Families of metric models: declared in the model's class, known to the server once it is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metrics_server.errors import BadConfiguration
from metrics_server.metrics import CounterSpec, GaugeSpec
from metrics_server.series.families import DECLARED, MODEL, direction_of, family_of, register
from tests.conftest import Serve

OWN = """
from metrics_server.metrics import CounterSpec, GaugeSpec, Sample

class Own:
    families = {
        "own_cost": GaugeSpec("Mean cost of a decision.", ("side",), has_interval=True, better=-1),
        "own_rows": CounterSpec("Rows that were scored.", "Rows that were taken back."),
    }

    def increments(self, y_true, y_pred):
        return {"pairs": float(len(y_true))}

    def compute(self, sums):
        yield Sample("own_cost", {"side": "buy"}, 2.0, (1.0, 3.0))
        yield Sample("own_other", {}, 1.0)

    def counts(self, sums):
        yield Sample("own_rows", {}, sums.get("pairs", 0.0))
"""


def _lines(page: str, name: str) -> list[str]:
    return [line for line in page.splitlines() if line.startswith("# ") and line.split()[2].startswith(name)]


def test_a_users_model_declares_its_families(serve: Serve, tmp_path: Path) -> None:
    """Help of gauges, counters and both ends of the interval is on the page; what is not declared has a general
    help.
    """
    (tmp_path / "own.py").write_text(OWN)
    server = serve("--store", "memory://", "--storage_uri", "own.Own", environment={"PYTHONPATH": str(tmp_path)})
    body = {"truth": 1, "prediction": 1, "deployment": "wine"}
    assert server.post(body, {"Content-Type": "application/json"}, "/v1/feedback").status == 200
    page = server.get("/v1/metrics").body.decode()
    end = "end of the 95 % interval of model_own_cost. By prediction time, in the window."
    assert _lines(page, "model_own_") == [
        "# HELP model_own_cost Mean cost of a decision. By prediction time, in the window.",
        "# TYPE model_own_cost gauge",
        f"# HELP model_own_cost_lower Lower {end}",
        "# TYPE model_own_cost_lower gauge",
        f"# HELP model_own_cost_upper Upper {end}",
        "# TYPE model_own_cost_upper gauge",
        (
            "# HELP model_own_other model_own_other of a metric model of this deployment. By prediction time, in"
            " the window."
        ),
        "# TYPE model_own_other gauge",
        "# HELP model_own_rows_total Rows that were scored. By arrival of the label.",
        "# TYPE model_own_rows_total counter",
        "# HELP model_own_rows_retracted_total Rows that were taken back. By arrival of the label.",
        "# TYPE model_own_rows_retracted_total counter",
    ]


@pytest.mark.parametrize(
    ("families", "fault"),
    [
        ("{'accuracy_ratio': GaugeSpec('Another.')}", "declare the family model_accuracy_ratio differently"),
        ("{'support': GaugeSpec('Mine.')}", "own.Own: its family 'support'"),
        ("['cost']", "want a mapping"),
    ],
)
def test_families_that_cannot_be_taken_stop_the_start(serve: Serve, tmp_path: Path, families: str, fault: str) -> None:
    """One clear line at the start, which names the class and its family."""
    (tmp_path / "own.py").write_text(
        f"from metrics_server.metrics import GaugeSpec\nclass Own:\n    families = {families}\n"
        "    def increments(self, t, p): return {}\n    def compute(self, s): return []\n"
    )
    with pytest.raises(AssertionError, match=fault):
        serve("--storage_uri", "own.Own", environment={"PYTHONPATH": str(tmp_path)})


def _declaring(name: str, families: Any) -> type:
    return type(name, (), {"families": families, "__module__": "own"})


@pytest.mark.parametrize(
    ("families", "fault"),
    [
        ({"a_cost": "Mean cost."}, "want a GaugeSpec"),
        ({"not a name": GaugeSpec("Mean cost.")}, "is no name"),
        ({"a_cost": GaugeSpec("Mean cost.", ("window",))}, "is no name"),
        ({"output_mean": GaugeSpec("Mean output.")}, "is the server's"),
        ({"a_cost": GaugeSpec("Mean\ncost.")}, "one line"),
        ({"a_cost": GaugeSpec('Mean "cost".')}, "one line"),
        ({"a_cost": GaugeSpec("Mean cost.", better=2)}, "want 1, 0 or -1"),
        ({"a_rows": CounterSpec("Rows.", "back\\slash")}, "one line"),
    ],
)
def test_what_a_page_could_not_show_is_refused(families: Any, fault: str) -> None:
    """A declaration that would break the page, or say what the server says, is refused, and none of it is kept."""
    with pytest.raises(BadConfiguration, match=fault):
        register(_declaring("Odd", {"a_fine_one": GaugeSpec("Fine."), **families}))
    assert not [name for name in MODEL if name.startswith("model_a_")]


def test_two_models_may_share_a_name_if_they_mean_the_same() -> None:
    """An equal declaration is one family; another help, direction or interval of it is refused with both classes."""
    spec = GaugeSpec("Share of sales.", has_interval=True, better=1)
    register(_declaring("First", {"shared_sales": spec}))
    register(_declaring("Second", {"shared_sales": spec}))
    assert DECLARED["shared_sales"] == frozenset()
    for other in (
        spec._replace(help="Share of them."),
        spec._replace(better=-1),
        spec._replace(labels=("shop",)),
    ):
        with pytest.raises(BadConfiguration, match=r"own\.Third and own\.First declare the family model_shared_sales"):
            register(_declaring("Third", {"shared_sales": other}))
    assert direction_of("model_shared_sales") == 1
    assert direction_of("model_shared_sales_lower") == direction_of("model_unheard_of") == 0
    assert family_of("model_unheard_of", "gauge").help.startswith("model_unheard_of of a metric model")


def test_our_own_models_are_known_before_one_is_loaded() -> None:
    """The page, the docs and the dashboards tell of every family of `cm_models`, in a process that has loaded none."""
    code = (
        "import sys\nfrom metrics_server.series.families import MODEL, direction_of\n"
        "print(direction_of('model_ndcg'), direction_of('model_hamming_loss'), 'model_ratings_retracted' in MODEL)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert found.stdout.split() == ["1", "-1", "True"]


def _samples() -> list[tuple[str, Any, Any]]:
    labels, numbers = np.array(["a", "b", "b"], dtype=object), np.array([1.0, 0.0, 1.0])
    rows = np.array([[0.2, 0.5, 0.2, 0.1], [0.6, 0.2, 0.1, 0.1], [0.1, 0.6, 0.1, 0.2]])
    return [
        ("binary_metrics.BinaryMetrics", numbers, np.array([0.9, 0.2, 0.4])),
        ("multiclass_numeric.MultiClassNumeric", labels, labels[::-1]),
        ("multiclass_one_hot.MulticlassOneHot", np.array(["0", "1", "1"], dtype=object), rows),
        ("regression.Regression", np.arange(400.0), np.arange(400.0) * 1.1 + 1),
        ("multilabel.MultiLabel", np.round(rows), rows),
        ("ranking.Ranking", np.round(rows), rows),
        ("human_feedback.HumanFeedback", numbers, numbers),
    ]


@pytest.mark.parametrize(("path", "y_true", "y_pred"), _samples())
def test_every_sample_of_our_models_is_declared(path: str, y_true: Any, y_pred: Any) -> None:
    """With its labels and, where it has an interval that the page shows, as one that has; and nothing else is
    declared, but for what these pairs have not: two vocabularies.
    """
    module, _, name = f"cm_models.{path}".rpartition(".")
    model = getattr(__import__(module, fromlist=[name]), name)()
    sums = model.increments(y_true, y_pred)
    gauges = list(model.compute(sums))
    for sample in [*gauges, *(model.counts(sums) if hasattr(model, "counts") else ())]:
        spec = model.families[sample.name]
        assert tuple(sample.labels) == spec.labels
        if isinstance(spec, GaugeSpec) and sample.interval is not None:
            assert spec.has_interval or spec.labels in (("class",), ("value",))
    declared = {each for each, spec in model.families.items() if isinstance(spec, GaugeSpec)}
    assert declared - {"vocabularies_differ"} == {sample.name for sample in gauges}
