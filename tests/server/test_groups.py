"""Groups: a real server compares them as fairlearn does, where they are declared, and nowhere else."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fairlearn import metrics
from sklearn.metrics import accuracy_score

from tests.conftest import Serve
from tests.support.docs_pages import blocks, page
from tests.support.grouped import REFERENCE, SLICES, Patients, patients, send, send_classes
from tests.support.numbers import assert_same_text
from tests.support.pages import JSON
from tests.support.running import RunningServer, peer
from tests.support.waiting import until

GROUPS = "/v1/models/shop/wine/groups"
PAGE = "/ui/models/shop/wine/main/classifier"
HTML = {"Accept": "text/html"}
RATES = {
    "accuracy": accuracy_score,
    "selection_rate": metrics.selection_rate,
    "true_positive_rate": metrics.true_positive_rate,
    "false_positive_rate": metrics.false_positive_rate,
}
OWN = """
from cm_models.multiclass_numeric import MultiClassNumeric
from metrics_server.metrics import Rate

class Own(MultiClassNumeric):
    def rates(self, sums):
        yield Rate("accuracy", {}, sums.get("correct", 0.0), sums["pairs"])
        yield Rate("selection_rate", {}, 1.0, 2.0)
        yield Rate("recall", {}, 3.0, 2.0)
        yield Rate("no name", {}, 1.0, 2.0)
        yield Rate("nothing", {}, 0.0, 0.0)

class Failing(MultiClassNumeric):
    def rates(self, sums):
        raise ZeroDivisionError
"""
SLICED = ("--store", "memory://", "--windows", "1h,1d", "--slices", SLICES)


@pytest.fixture
def grouped(serve: Serve) -> RunningServer:
    """A server with real patients in groups by size, and `medium` as their reference."""
    server = serve(*SLICED, "--groups", f"size={REFERENCE}")
    send(server, patients())
    return server


def _answer(server: RunningServer, query: str = "") -> Any:
    answer = server.get(f"{GROUPS}{query}")
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def _rates(server: RunningServer, query: str = "") -> dict[tuple[str, str], dict[str, Any]]:
    """By rate and group, of the only report."""
    (report,) = _answer(server, query)["reports"]
    return {(rate["name"], group["group"]): rate for group in report["groups"] for rate in group["rates"]}


def _frame(found: Patients, of: np.ndarray, names: tuple[str, ...]) -> metrics.MetricFrame:
    return metrics.MetricFrame(
        metrics={name: RATES[name] for name in names},
        y_true=found.truths[of],
        y_pred=found.decisions[of],
        sensitive_features=found.sizes[of],
    )


def test_rates_differences_and_ratios_are_those_of_fairlearn(grouped: RunningServer) -> None:
    """Accuracy, true and false positive rate of the labelled patients, and the selection rate of all of them: by group,
    less the reference's and by the reference's.
    """
    found = patients()
    labelled = _frame(found, found.are_labelled, ("accuracy", "true_positive_rate", "false_positive_rate"))
    of_all = _frame(found, np.ones(len(found.sizes), bool), ("selection_rate",))
    rates = _rates(grouped, "?window=1d")
    assert len(rates) == len(RATES) * 3
    for (name, group), rate in rates.items():
        by_group = (of_all if name == "selection_rate" else labelled).by_group[name]
        assert rate["value"] == pytest.approx(by_group[group])
        assert rate["lower"] < rate["value"] < rate["upper"] or rate["value"] in (0, 1)
        if group == REFERENCE:
            assert "difference" not in rate
        else:
            assert rate["difference"] == pytest.approx(by_group[group] - by_group[REFERENCE])
            assert rate["ratio"] == pytest.approx(by_group[group] / by_group[REFERENCE])
            assert rate["difference_lower"] <= rate["difference"] <= rate["difference_upper"]
            assert rate["ratio_lower"] <= rate["ratio"] <= rate["ratio_upper"]
            assert rate["p_value"] <= rate["holm_p_value"] <= 1
    differences = labelled.difference(method="between_groups")
    extremes = [rates["accuracy", group]["value"] for group in ("small", REFERENCE, "large")]
    assert max(extremes) - min(extremes) == pytest.approx(differences["accuracy"])


def test_the_labelled_share_of_each_group_stands_beside_its_rates(grouped: RunningServer) -> None:
    """Predictions, labels and coverage by group, the reference first."""
    (report,) = _answer(grouped)["reports"]
    found = patients()
    assert [group["group"] for group in report["groups"]] == [REFERENCE, "large", "small"]
    for group in report["groups"]:
        of = found.sizes == group["group"]
        assert (group["predictions"], group["support"]) == (of.sum(), found.are_labelled[of].sum())
        assert group["coverage"] == pytest.approx(found.are_labelled[of].mean())


def test_who_was_selected_is_told_by_all_predictions(serve: Serve) -> None:
    """Where labels come for the selected alone, as of loans that were granted, the selection rate is still that of all;
    a group without any label has it too.
    """
    server = serve(*SLICED, "--groups", "size=a", "--storage_uri", "cm_models.binary_metrics.BinaryMetrics")
    found = Patients(
        sizes=np.array(["a"] * 40 + ["b"] * 40 + ["c"] * 10),
        truths=np.ones(90, int),
        scores=np.array([0.9] * 30 + [0.1] * 10 + [0.9] * 10 + [0.1] * 40),
        are_labelled=np.array([True] * 30 + [False] * 10 + [True] * 10 + [False] * 40),
    )
    send(server, found)
    rates = _rates(server)
    assert [rates["selection_rate", group]["value"] for group in "abc"] == [0.75, 0.25, 0]
    assert rates["selection_rate", "b"]["difference"] == -0.5
    assert rates["true_positive_rate", "b"]["value"] == 1
    assert ("accuracy", "c") not in rates


def test_each_class_of_several_is_compared_with_the_rest(serve: Serve) -> None:
    """One accuracy, and three rates for each class; a ratio by 0 is left out."""
    server = serve(*SLICED, "--groups", "size=a")
    send_classes(server, [("a", "ale", "ale"), ("a", "ale", "stout"), ("b", "stout", "stout"), ("b", "porter", "ale")])
    (report,) = _answer(server)["reports"]
    (of_b,) = [group for group in report["groups"] if group["group"] == "b"]
    rates = {(rate["name"], rate["labels"].get("class")): rate for rate in of_b["rates"]}
    assert rates["accuracy", None]["value"] == 0.5
    assert rates["true_positive_rate", "stout"]["difference"] == 1
    assert "ratio" not in rates["true_positive_rate", "stout"]
    assert "ratio_upper" not in rates["true_positive_rate", "stout"]
    assert rates["selection_rate", "porter"]["value"] == 0.5
    assert "not labelled alike" not in server.get(PAGE, HTML).body.decode()


def test_rates_of_few_labels_are_not_shown(serve: Serve) -> None:
    """--min_support holds for the trials of each rate: of ten labels the true positive rate may rest on two."""
    server = serve(*SLICED, "--groups", f"size={REFERENCE}", "--min_support", "20")
    send(server, patients())
    rates = _rates(server)
    assert ("accuracy", "large") in rates
    assert ("true_positive_rate", "large") not in rates


def test_a_deployment_declares_groups_of_its_own(serve: Serve, tmp_path: Path) -> None:
    """Its entry wins over the setting for all; with an empty list it has none."""
    entries = [{"deployment": "wine", "groups": ["size=large"]}, {"deployment": "beer", "groups": []}]
    (tmp_path / "config.yaml").write_text(json.dumps({"groups": [f"size={REFERENCE}"], "deployments": entries}))
    server = serve(*SLICED, "--config", "config.yaml")
    send(server, patients())
    assert _answer(server)["reports"][0]["reference"] == "large"
    pair = {"namespace": "shop", "deployment": "beer", "truth": "a", "prediction": "a"}
    assert server.post(pair, JSON, "/v1/feedback").status == 200
    assert json.loads(server.get("/v1/models/shop/beer/groups").body)["reports"] == []


def test_rates_of_a_model_of_ones_own(serve: Serve, tmp_path: Path) -> None:
    """A metric model with a method `rates` is compared by them; what it yields that is no share is left out, and one
    that fails has no rates, and costs nothing else.
    """
    (tmp_path / "own_rates.py").write_text(OWN)
    for name, expected in (("Own", {("accuracy", "a"), ("accuracy", "b")}), ("Failing", set())):
        path = {"PYTHONPATH": str(tmp_path)}
        server = serve(*SLICED, "--groups", "size=a", "--storage_uri", f"own_rates.{name}", environment=path)
        send_classes(server, [("a", "ale", "ale"), ("b", "ale", "stout")])
        assert _rates(server).keys() == expected
        assert server.get(PAGE, HTML).status == 200


def test_a_changed_reference_is_taken_at_once(serve: Serve, tmp_path: Path) -> None:
    """Groups are neither paired nor stored: another reference counts without a restart, on /v1/metrics as well."""
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps({"groups": ["size=medium"], "expose_groups": True}))
    server = serve(*SLICED, "--config", "config.yaml")
    send(server, patients())
    assert 'reference="size=medium"' in server.get("/v1/metrics").body.decode()
    path.write_text(json.dumps({"groups": ["size=small"], "expose_groups": True, "min_support": 1}))
    until(lambda: _answer(server)["reports"][0]["reference"] == "small", 10, "the reference did not change")
    page = server.get("/v1/metrics").body.decode()
    assert 'reference="size=medium"' not in page
    assert 'reference="size=small"' in page


@pytest.mark.parametrize("query", ["?dimension=tenant", "?window=2h", "?slice=x"])
def test_what_is_not_there_is_told(grouped: RunningServer, query: str) -> None:
    """No such dimension is 404, a window that is not configured and an unknown parameter are 400."""
    assert grouped.get(f"{GROUPS}{query}").status == (404 if "dimension" in query else 400)
    assert grouped.get("/v1/models/shop/nobody/groups").status == 404
    assert [one["dimension"] for one in _answer(grouped, "?dimension=size")["reports"]] == ["size"]


def test_a_reference_without_predictions_leaves_rates_alone(serve: Serve) -> None:
    """Groups have their rates, and no differences; the page says why."""
    server = serve(*SLICED, "--groups", "size=huge")
    send(server, patients())
    rates = _rates(server)
    assert len(rates) == 12
    assert not any("difference" in rate or "p_value" in rate for rate in rates.values())
    assert "There is no prediction of huge, the reference" in server.get(PAGE, HTML).body.decode()


def test_gauges_are_exposed_when_asked_for(serve: Serve) -> None:
    """With --expose_groups they are the numbers of the API, and follow later labels; without it there is none."""
    server = serve(*SLICED, "--groups", f"size={REFERENCE}", "--expose_groups")
    send(server, patients())
    for _ in range(2):
        exposed = {
            (dict(labels)["rate"], dict(labels)["slice"].removeprefix("size=")): value
            for (name, labels), value in server.samples().items()
            if name == "model_group_difference" and ("window", "1d") in labels
        }
        expected = {
            key: rate["difference"] for key, rate in _rates(server, "?window=1d").items() if "difference" in rate
        }
        assert exposed == expected
        assert len(exposed) == 8
        unlabelled = int(np.flatnonzero(~patients().are_labelled)[0])
        assert server.post({"request_id": f"r{unlabelled}", "truth": 1}, JSON, "/v1/feedback").status == 200


def test_without_the_switch_no_gauge_of_groups_is_exposed(grouped: RunningServer) -> None:
    """Groups that are declared are in the API and on the page alone."""
    assert "model_group" not in grouped.get("/v1/metrics").body.decode()


def test_the_page_has_the_groups_of_a_series(grouped: RunningServer) -> None:
    """The page of the model shows them with the warning that they are for one look, that of a slice does not."""
    text = grouped.get(PAGE, HTML).body.decode()
    assert "Groups by size" in text
    assert "A report for one look, and nothing to alert on" in text
    assert "The groups are not labelled alike" in text
    assert "Groups by size" not in grouped.get(f"{PAGE}?slice=size%3Dlarge", HTML).body.decode()


def test_the_example_of_the_page_is_what_is_answered(grouped: RunningServer) -> None:
    """The command of the guide prints what stands under it."""
    found = blocks(page("how-to/groups.md"))
    at, command = next((at, code) for at, (language, code) in enumerate(found) if "curl" in code)
    line = command.replace("127.0.0.1:8080", f"127.0.0.1:{grouped.port}")
    printed = subprocess.run([peer("bash"), "-c", line], capture_output=True, text=True, check=True, timeout=20).stdout
    assert_same_text(printed, found[at + 1][1])


def test_a_group_named_by_a_sender_is_escaped(serve: Serve) -> None:
    """A value that is markup, quotes and all, is a name on the page, in the API and on /v1/metrics."""
    name = '<b>"a\\'
    server = serve(*SLICED, "--groups", f"size={name}", "--expose_groups")
    send_classes(server, [(name, "ale", "ale"), ("b", "ale", "ale")])
    assert _answer(server)["reports"][0]["groups"][0]["group"] == name
    assert "<b>" not in server.get(PAGE, HTML).body.decode()
    found = {dict(labels)["reference"] for sample, labels in server.samples() if sample == "model_group_ratio"}
    assert found == {f"size={name}"}
