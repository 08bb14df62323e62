"""Metric models named by the operator: ours, a user's of either form, and what cannot be used."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from cm_models.multiclass_numeric import MultiClassNumeric
from metrics_server.errors import BadConfiguration
from metrics_server.metrics.model import MetricModel, TransformAdapter, load
from metrics_server.metrics.task import infer_model_path
from tests.conftest import Serve
from tests.support.running import FEEDBACK, RESPONSE, ROOT, RunningServer, ce

EXAMPLES = {"PYTHONPATH": str(ROOT / "docs" / "examples")}


def _feedback(truths: list[Any], responses: list[Any]) -> dict[str, Any]:
    return {"truth": {"data": {"ndarray": truths}}, "response": {"data": {"ndarray": responses}}}


def test_a_users_two_functions_are_a_metric_model(serve: Serve) -> None:
    """The documented example: values under model_<name> for every window, beside support."""
    server = serve("--store", "memory://", "--storage_uri", "missed_cost.MissedCost", environment=EXAMPLES)
    server.post(_feedback([1, 0, 1, 0], [0.9, 0.2, 0.1, 0.8]))
    assert server.value("model_mean_cost", window="1h") == (50 + 1) / 4
    assert server.value("model_support", window="30d") == 4


def test_a_class_of_the_ancestors_form_counts(serve: Serve) -> None:
    """The documented example: counters under the keys and tags the class gives them."""
    server = serve("--store", "memory://", "--storage_uri", "within_tolerance.WithinTolerance", environment=EXAMPLES)
    server.post(_feedback([100, 100, 100], [101, 95, 140]))
    assert server.value("seldon_metric_within_tolerance_total", tolerance="0.1") == 2
    assert server.value("seldon_metric_out_of_tolerance_total", tolerance="0.1") == 1


@pytest.fixture
def faulty(serve: Serve, tmp_path: Path) -> RunningServer:
    """A server with a metric model that raises for some rows and yields impossible names."""
    (tmp_path / "faulty.py").write_text(
        "class Faulty:\n"
        "    def increments(self, y_true, y_pred):\n"
        "        if (y_true == 13).any(): raise RuntimeError('unlucky')\n"
        "        return {'n': float(len(y_true))}\n"
        "    def compute(self, sums):\n"
        "        from metrics_server.metrics.model import Sample\n"
        "        yield Sample('n', {}, sums['n'])\n"
        "        yield Sample('not a name', {}, 1.0)\n"
        "        yield Sample('n2', {'window': 'x'}, 1.0)\n"
        "        raise ValueError('broken')\n"
    )
    server = serve("--store", "memory://", "--storage_uri", "faulty.Faulty", environment={"PYTHONPATH": str(tmp_path)})
    return server


def test_a_model_that_raises_harms_nobody_else(faulty: RunningServer) -> None:
    """Rows it refuses are counted, the others score; what it cannot say properly is left out of the page."""
    assert faulty.post(_feedback([1, 13, 3], [1.5, 2.5, 3.5])).status == 200
    assert faulty.value("model_n", window="1h") == 2
    assert faulty.value("model_labels_total", status="task_mismatch") == 1
    assert faulty.value("model_n2") is None
    assert faulty.get("/healthz").status == 200


def test_the_ancestors_names_are_aliases() -> None:
    """Manifests in the field name adserver.cm_models.*."""
    assert isinstance(load("adserver.cm_models.multiclass_numeric.MultiClassNumeric"), MultiClassNumeric)


@pytest.mark.parametrize(
    "uri",
    ["", "nodots", "no.such.Module", "json.nothing", "json.dumps", "s3://bucket/model", "collections.OrderedDict"],
)
def test_what_cannot_be_a_model_is_refused_by_name(uri: str) -> None:
    """One clear error that names the setting."""
    with pytest.raises(BadConfiguration, match=f"storage_uri {uri}"):
        load(uri)


class Pickled:
    """A model in a file."""

    def transform(self, truth: Any, response: Any, request: Any = None) -> list[dict[str, Any]]:
        """Counts rows; a gauge is no sum and is left out."""
        return [{"key": "rows", "type": "COUNTER", "value": 1}, {"key": "size", "type": "GAUGE", "value": 5}]


def test_a_pickle_needs_the_operators_word(tmp_path: Path) -> None:
    """Without --allow_pickle it is not read; with it, a file or a folder with meta.pickle is."""
    (tmp_path / "meta.pickle").write_bytes(pickle.dumps(Pickled()))
    with pytest.raises(BadConfiguration, match="allow_pickle"):
        load(str(tmp_path))
    model = load(str(tmp_path), allow_pickle=True)
    assert isinstance(model, TransformAdapter)
    assert isinstance(model, MetricModel)
    with pytest.raises(BadConfiguration, match="not fetched"):
        load("s3://bucket/model", allow_pickle=True)


@pytest.mark.parametrize(
    ("truth", "prediction", "chosen"),
    [
        (2, [0.1, 0.2, 0.7], "MulticlassOneHot"),
        ([0, 0, 1], [0.1, 0.2, 0.7], "MulticlassOneHot"),
        ([0, 1], [0.1, 0.2, 0.7], None),
        ([0.0, 0.0, 1.0], 2, "MulticlassOneHot"),
        (True, False, "BinaryMetrics"),
        (1, 0.83, "BinaryMetrics"),
        ("cat", "dog", "MultiClassNumeric"),
        (2, 2.0, "MultiClassNumeric"),
        (0, 1, "MultiClassNumeric"),
        (12.5, 11.0, "Regression"),
        (5000, 11, "Regression"),
        (-1, 11, "Regression"),
        ("x" * 300, "y", None),
        (1, None, None),
        ("cat", [0.2, 0.8], None),
    ],
)
def test_auto_decides_from_both_sides(truth: Any, prediction: Any, chosen: str | None) -> None:
    """The first pair of a series says which model suits it."""
    path = infer_model_path(truth, prediction, 1000)
    assert (path and path.rpartition(".")[2]) == chosen


def test_later_rows_that_do_not_fit_are_counted_and_move_no_number(serve: Serve) -> None:
    """After a series was settled as binary, a text is a mismatch, not a crash and not a pair."""
    server = serve("--store", "memory://")
    server.post(_feedback([1], [0.8]))
    server.post(_feedback(["cat", 7, 1], ["dog", 0.5, 3.5]))
    assert server.value("model_support", window="1h") == 1
    assert server.value("model_labels_total", status="task_mismatch") == 3


def test_class_names_join_indexes_and_names(serve: Serve) -> None:
    """With --class_names the index 1, the name and the second column are one class."""
    server = serve("--store", "memory://", "--class_names", "cat,dog")
    server.post(_feedback(["dog", 1, [0, 1], "cat"], [[0.1, 0.9], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7]]))
    assert server.value("model_confusion_total", truth="dog", prediction="dog") == 3
    assert server.value("model_confusion_total", truth="cat", prediction="dog") == 1


def test_a_model_of_an_unknown_task_stops_the_start(serve: Serve, tmp_path: Path) -> None:
    """A typing error in `task` is one clear line at the start, not a 503 for each event."""
    (tmp_path / "odd.py").write_text(
        "class Odd:\n    task = 'sorting'\n"
        "    def increments(self, t, p): return {}\n    def compute(self, s): return []\n"
    )
    with pytest.raises(AssertionError, match="its task is 'sorting'; want one of"):
        serve("--storage_uri", "odd.Odd", environment={"PYTHONPATH": str(tmp_path)})


def test_a_sum_that_is_not_finite_never_reaches_the_store(serve: Serve, tmp_path: Path) -> None:
    """NaN from a user's model would erase what it is added to: the pair is refused and moves no number, the server
    stays up."""
    (tmp_path / "nan.py").write_text(
        "class Nan:\n    def increments(self, t, p): return {'n': float('nan')}\n    def compute(self, s): return []\n"
    )
    server = serve("--storage_uri", "nan.Nan", environment={"PYTHONPATH": str(tmp_path)})
    assert server.post(_feedback([1], [1])).status == 200
    assert server.get("/readyz").status == 200
    assert server.value("model_labels_total", status="task_mismatch") == 1
    assert server.value("model_labels_total", status="matched") == 0
    assert server.value("model_support", window="1h") is None


def test_the_threshold_decides_the_predicted_class_too(serve: Serve) -> None:
    """The request log's classes are those of the decision."""
    server = serve(
        "--store", "memory://", "--storage_uri", "cm_models.binary_metrics.BinaryMetrics", "--threshold", "0.9"
    )
    server.post({"data": {"ndarray": [[0.2, 0.8], 0.95]}}, ce(RESPONSE, "1", "r"))
    server.post({"truth": {"data": {"ndarray": [0, 1]}}}, ce(FEEDBACK, "2", "r"))
    assert server.value("model_predicted_class_total", deployment_namespace="shop", **{"class": "0"}) == 1
    assert server.value("model_predicted_class_total", deployment_namespace="shop", **{"class": "1"}) == 1
    assert server.value("model_accuracy_ratio", deployment_namespace="shop", window="1h") == 1


def test_a_users_counters_show_without_the_ancestors(serve: Serve, tmp_path: Path) -> None:
    """--no-seldon-metrics hides the ancestor's names, nobody else's; a key may end in _total or not."""
    (tmp_path / "mine.py").write_text(
        "class Mine:\n    def transform(self, truth, response, request=None):\n"
        "        return [{'key': 'sales_seen_total', 'type': 'COUNTER', 'value': 1}]\n"
    )
    server = serve("--no-seldon-metrics", "--storage_uri", "mine.Mine", environment={"PYTHONPATH": str(tmp_path)})
    server.post(_feedback([1, 2], [1, 2]))
    assert server.value("sales_seen_total") == 2
