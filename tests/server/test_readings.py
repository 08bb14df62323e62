"""What is read from the sums: weights, support, classes of predictions, and lines that are kept between two scrapes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from sklearn import metrics

from metrics_server.metrics.model import load
from metrics_server.series.registry import SeriesRegistry
from metrics_server.series.series import REVISION, Identity, Labels, Scoring
from metrics_server.settings import Settings
from metrics_server.store.interface import StoredSeries
from tests.conftest import Serve
from tests.support.running import FEEDBACK, RESPONSE, RunningServer, ce

ONE = {"window": "1h"}
NOW = time.time()


@pytest.fixture
def server(serve: Serve) -> RunningServer:
    return serve("--store", "memory://", "--windows", "1h,1d")


def tell(server: RunningServer, *statements: dict[str, Any]) -> None:
    answer = server.post(
        [{"deployment": "wine", **one} for one in statements], {"Content-Type": "application/json"}, "/v1/feedback"
    )
    assert answer.status == 200, answer.body


def stated(server: RunningServer) -> dict[str, float]:
    """Every gauge of the hour, by its name and further labels."""
    found = {}
    for (name, labels), value in server.samples().items():
        have = dict(labels)
        if have.pop("window", "") == "1h":
            rest = {
                key: have[key]
                for key in have
                if key not in ("deployment_namespace", "deployment_name", "predictor_name", "model_name")
            }
            found[" ".join((name, *(f"{key}={value}" for key, value in sorted(rest.items()))))] = value
    return found


TRUTHS, SAID, WEIGHTS = [2, 1, 0, 1, 2, 2, 0], [2, 1, 1, 1, 0, 2, 0], [1, 2.5, 0.5, 4, 1, 0.25, 3]


def test_weights_are_those_of_scikit_learn(server: RunningServer) -> None:
    """Every value is scikit-learn's with sample_weight; support and all counters are counted, not weighed."""
    tell(server, *({"truth": t, "prediction": p, "weight": w} for t, p, w in zip(TRUTHS, SAID, WEIGHTS, strict=True)))
    found = stated(server)
    for name, wanted in (
        ("accuracy_ratio", metrics.accuracy_score(TRUTHS, SAID, sample_weight=WEIGHTS)),
        ("f1_macro_ratio", metrics.f1_score(TRUTHS, SAID, sample_weight=WEIGHTS, average="macro")),
        ("cohen_kappa", metrics.cohen_kappa_score(TRUTHS, SAID, sample_weight=WEIGHTS)),
        ("matthews_correlation", metrics.matthews_corrcoef(TRUTHS, SAID, sample_weight=WEIGHTS)),
    ):
        assert found[f"model_{name}"] == pytest.approx(wanted, rel=1e-9)
    assert found["model_support"] == len(TRUTHS)
    assert server.value("model_labels_total", status="matched") == len(TRUTHS)
    assert server.value("model_confusion_total") == len(TRUTHS)
    assert server.value("seldon_metric_true_positive_total") == sum(t == p for t, p in zip(TRUTHS, SAID, strict=True))


def test_weighted_pairs_tell_less_than_as_many_equal_ones(server: RunningServer) -> None:
    """The interval of unequal weights is that of (Σw)² / Σw² pairs, whatever their unit is."""
    weights = [1.0] * 20 + [5.0] * 5
    right = [1] * 24 + [0]
    tell(server, *({"truth": 1, "prediction": r, "weight": w} for r, w in zip(right, weights, strict=True)))
    tell(
        server,
        *(
            {"truth": 1, "prediction": r, "weight": w * 10, "deployment": "same"}
            for r, w in zip(right, weights, strict=True)
        ),
    )
    rows = server.samples().items()
    ends = [
        {
            name: value
            for (name, labels), value in rows
            if "accuracy_ratio_" in name and {("deployment_name", who), ("window", "1h")} <= labels
        }
        for who in ("wine", "same")
    ]
    assert ends[0] == pytest.approx(ends[1], rel=1e-9)
    share, n = 40 / 45, 45**2 / (20 + 5 * 25)
    z = 1.959963984540054
    spread = z * np.sqrt(share * (1 - share) / n + z * z / 4 / n / n) / (1 + z * z / n)
    assert ends[0]["model_accuracy_ratio_upper"] - ends[0]["model_accuracy_ratio_lower"] == pytest.approx(
        2 * spread, rel=1e-9
    )


def test_another_weight_is_a_correction_and_the_same_one_a_duplicate(server: RunningServer) -> None:
    """What was added with a weight is taken back with it: after the retraction nothing is left."""
    for number, (weight, status) in enumerate(
        ((0.1, "matched"), (0.1, "duplicate"), (0.3, "corrected"), (1, "corrected"))
    ):
        body = {"request_id": "r", "truth": 1, "weight": weight, "labelled_at": NOW - 10 + number, "prediction": 1}
        tell(server, body)
        assert server.value("model_labels_total", status=status), status
        assert server.value("model_accuracy_ratio", **ONE) == 1
    tell(server, {"request_id": "other", "truth": 1, "prediction": 0})
    tell(server, {"request_id": "r", "truth": None, "labelled_at": NOW})
    assert (server.value("model_accuracy_ratio", **ONE), server.value("model_support", **ONE)) == (0, 1)
    # What rounding leaves of a cell is no class that occurs.
    assert server.value("model_recall_ratio", **{"class": "0"}, **ONE) is None


def test_a_weight_that_came_before_its_prediction_counts(server: RunningServer) -> None:
    """A pending truth keeps its weight."""
    tell(server, {"request_id": "r", "truth": 1, "weight": 3}, {"truth": 1, "prediction": 0})
    server.post({"data": {"ndarray": [1]}}, ce(RESPONSE, "1", "r", namespace="", endpoint="", modelid=""))
    assert server.value("model_accuracy_ratio", **ONE) == 0.75


def test_values_of_little_support_are_hidden(serve: Serve) -> None:
    """--min_support hides each value that rests on fewer rows, of a class on fewer of that class; the support itself is
    always told."""
    server = serve("--store", "memory://", "--windows", "1h", "--min_support", "4")
    tell(server, *({"truth": t, "prediction": p} for t, p in zip(TRUTHS[:3], SAID[:3], strict=True)))
    assert set(stated(server)) == {"model_support"}
    tell(server, *({"truth": 2, "prediction": 2} for _ in range(3)))
    found = stated(server)
    assert found["model_support"] == 6
    assert "model_accuracy_ratio" in found
    assert {name for name in found if name.startswith("model_recall_ratio")} == {"model_recall_ratio class=2"}


def test_shares_of_predicted_classes_do_not_depend_on_when_the_first_truth_came(serve: Serve) -> None:
    """Numbers that came before anything told that they are classes are in the window all the same; a regression has no
    classes."""
    shares = []
    for order in (1, -1):
        server = serve("--store", "memory://", "--windows", "1h")
        sent: list[tuple[Any, dict[str, str]]] = [
            ({"data": {"ndarray": [v]}}, ce(RESPONSE, f"{i}", f"r{i}")) for i, v in enumerate([0, 2, 2, 1])
        ]
        sent.append(({"truth": {"data": {"ndarray": [2]}}}, ce(FEEDBACK, "t", "r1")))
        for body, headers in sent[::order]:
            server.post(body, headers)
        shares.append({name: value for name, value in stated(server).items() if "class_ratio" in name})
    assert shares[0] == shares[1]
    assert shares[0] == {"model_predicted_class_ratio class=2": 0.5} | {
        f"model_predicted_class_ratio class={label}": 0.25 for label in "01"
    }
    server = serve("--store", "memory://", "--windows", "1h")
    server.post({"data": {"ndarray": [3]}}, ce(RESPONSE, "1", "r"))
    assert not [name for name in stated(server) if "class" in name]
    server.post({"truth": {"data": {"ndarray": [12.5]}}}, ce(FEEDBACK, "2", "r"))
    assert "model_mean_absolute_error" in stated(server)
    assert not [name for name in stated(server) if "class" in name]


def test_a_page_that_keeps_lines_tells_every_change(server: RunningServer) -> None:
    """A scrape after an event shows it, in both formats and of every series; one after none is the same to the byte."""
    plain, open_metrics = {"Accept": "text/plain"}, {"Accept": "application/openmetrics-text; version=1.0.0"}
    for number in range(3):
        for deployment in ("wine", "beer"):
            tell(server, {"deployment": deployment, "truth": 1, "prediction": 1})
            for accept in (plain, open_metrics):
                page = server.get("/v1/metrics", accept).body.decode()
                lines = [
                    line for line in page.splitlines() if line.startswith("model_support{") and 'window="1h"' in line
                ]
                counts = {name: float(line.split()[-1]) for line in lines for name in ("wine", "beer") if name in line}
                assert (
                    counts == {"wine": number + 1, "beer": number + 1}
                    if deployment == "beer"
                    else counts["wine"] == number + 1
                )
    pages = [
        [line for line in server.get("/v1/metrics", plain).body.splitlines() if line.startswith(b"model_")]
        for _ in range(2)
    ]
    assert pages[0] == pages[1]


def test_numbers_of_a_users_model_may_be_numpys(serve: Serve, tmp_path: Path) -> None:
    """They are written as numbers; an interval that is none, or a value that is not finite, costs only its own line."""
    (tmp_path / "own.py").write_text(
        "import numpy as np\nfrom metrics_server.metrics.model import Sample\nclass Own:\n"
        "    def increments(self, t, p): return {'pairs': np.float64(t.size)}\n"
        "    def compute(self, s):\n"
        "        yield Sample('mine', {}, np.float64(0.5), (np.float32(0.25), 1))\n"
        "        yield Sample('nan', {}, float('nan'))\n"
        "        yield Sample('half', {}, 1.0, (1.0,))\n"
        "        yield Sample('unsupported', {}, 1.0, None, 'many')\n"
        "        yield Sample('__own', {}, 1.0)\n"
        "        yield Sample('last', {}, 2)\n"
    )
    server = serve(
        "--store", "memory://", "--windows", "1h", "--storage_uri", "own.Own", environment={"PYTHONPATH": str(tmp_path)}
    )
    tell(server, {"truth": 1, "prediction": 1})
    found = {name: value for name, value in stated(server).items() if "support" not in name and "output" not in name}
    assert found == {"model_mine": 0.5, "model_mine_lower": 0.25, "model_mine_upper": 1.0, "model_last": 2.0}


def test_sums_of_an_older_revision_are_another_series() -> None:
    """A state from before the sums changed is kept, not shown and not added to: a correction could not take back what
    was never added."""
    labels, build = Labels("shop", "wine", "main", "classifier"), lambda path, parameters: load(path, parameters)
    old = Identity(labels, Scoring())
    assert msgspec.json.decode(old.encoded, type=Identity) == old
    assert b"revision" not in old.encoded  # so that its id stays what it was
    registry = SeriesRegistry(Settings().scoring_of, build, 10)
    registry.restore([StoredSeries(old.id, old.encoded, 1.0, 1.0, {})])
    assert registry.get(old.id) is not None
    assert registry.current() == []
    made = registry.admit(labels, 2.0, 2.0, {}, {})
    assert (made.identity.scoring.revision, made.id != old.id) == (REVISION, True)


@pytest.mark.parametrize("body", ["return [Sample('x', {}, 1 / s['no'])]", "raise ValueError('own')", "return None"])
def test_a_users_model_that_cannot_be_read_costs_only_its_own_values(serve: Serve, tmp_path: Path, body: str) -> None:
    """Whether it yields or returns: the page and the API show all other series, and the log says why, once."""
    (tmp_path / "own.py").write_text(
        "from metrics_server.metrics.model import Sample\nclass Own:\n"
        "    def increments(self, t, p): return {'pairs': float(t.size)}\n"
        f"    def compute(self, s): {body}\n    counts = tables = compute\n"
    )
    (tmp_path / "own.yaml").write_text("deployments: [{deployment: own, storage_uri: own.Own}]\n")
    server = serve(
        "--store", "memory://", "--config", str(tmp_path / "own.yaml"), environment={"PYTHONPATH": str(tmp_path)}
    )
    tell(server, {"truth": 1, "prediction": 1}, {"truth": 1, "prediction": 1, "deployment": "own"})
    for _ in range(2):
        assert server.value("model_accuracy_ratio", deployment_name="wine", window="1h") == 1
        assert server.value("model_support", deployment_name="own", window="1h") == 1
        for path in ("", "/-/own/-/-?tables=true", "/-/own?compare=predictor"):
            assert server.get(f"/v1/models{path}").status == 200
    assert 1 <= server.log.read_text().count("A metric model cannot be read") <= 2  # once for each kind of error


def test_agreement_beyond_chance_is_not_guessed_among_classes_that_share_a_name(serve: Serve) -> None:
    """Where different classes overflowed into __other__, kappa and Matthews' correlation are absent, and were never
    below -1."""
    server = serve("--store", "memory://", "--windows", "1h", "--max_classes", "2")
    tell(
        server, {"truth": "a", "prediction": "a"}, {"truth": "b", "prediction": "b"}, {"truth": "c", "prediction": "c"}
    )
    assert server.value("model_cohen_kappa", **ONE) == 1
    tell(server, *({"truth": f"t{n}", "prediction": f"p{n}"} for n in range(50)))
    assert server.value("model_cohen_kappa", **ONE) is None
    assert server.value("model_matthews_correlation", **ONE) is None
    assert server.value("model_accuracy_ratio", **ONE) == pytest.approx(3 / 53)


def test_light_weights_after_a_heavy_one_was_taken_back_are_read(server: RunningServer) -> None:
    """Whatever weights a truth may have, every page can be read, and an interval holds its value."""
    tell(server, {"request_id": "heavy", "truth": 1, "prediction": 0, "weight": 1000, "labelled_at": NOW - 9})
    tell(server, *({"truth": 1, "prediction": 1, "weight": 0.001} for _ in range(3)))
    tell(server, {"request_id": "heavy", "truth": None, "labelled_at": NOW - 5})
    found = stated(server)
    assert found["model_accuracy_ratio"] == pytest.approx(1)
    assert found["model_accuracy_ratio_lower"] == pytest.approx(0.43850, abs=1e-4)  # as of three pairs
    for weight in (1e-17, 0.0009, 1001):
        answer = server.post(
            {"truth": 1, "prediction": 1, "weight": weight}, {"Content-Type": "application/json"}, "/v1/feedback"
        )
        assert (answer.status, answer.reason) == (422, "malformed_feedback")


def test_pages_of_other_sites_send_nothing(server: RunningServer) -> None:
    """A browser tells that a page of another site made it send; that is refused, whatever the content type, and counts
    nothing."""
    for path in ("/", "/v1/feedback", "/api/v1.0/feedback"):
        headers = {"Content-Type": "text/plain", "Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example"}
        answer = server.post(
            {"truth": {"data": {"ndarray": [1]}}, "response": {"data": {"ndarray": [1]}}}, headers, path
        )
        assert (answer.status, answer.reason) == (403, "cross_site")
    assert server.value("model_support", **ONE) is None
