"""A canary of KServe without Knative, whose events differ in an annotation alone, from the event to the alert."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tests.conftest import Serve
from tests.support import kustomize
from tests.support.deployments import KSERVE_RESPONSE
from tests.support.manifests import DEPLOY
from tests.support.monitoring import Prometheus
from tests.support.pages import html
from tests.support.running import RunningServer, ce
from tests.support.waiting import until

JSON = {"Content-Type": "application/json"}
OF_DEPLOYMENT = 'deployment_namespace="models",deployment_name="flowers",window="1d"'


def _annotations() -> dict[str, dict[str, str]]:
    """What the agents of the example log as `Ce-Annotations`, by the arm."""
    (service,) = kustomize.load(DEPLOY / "examples/kserve/canary.yaml")
    spec = service["spec"]
    predictors = [spec["predictor"], *(canary["predictor"] for canary in spec["canary"])]
    logged = [{name: one["annotations"][name] for name in one["logger"]["metadataAnnotations"]} for one in predictors]
    return {annotations["arm"]: annotations for annotations in logged}


def _predict(server: RunningServer, annotations: Mapping[str, str], arm: str, right: int, wrong: int) -> None:
    """Answers of an arm as its agent logs them, and the truth of each, which names no arm."""
    for number in range(right + wrong):
        headers = ce(
            KSERVE_RESPONSE,
            f"{arm}-{number}",
            namespace="models",
            inferenceservicename="flowers",
            component="predictor",
            annotations=json.dumps(annotations),
        )
        del headers["Ce-Endpoint"], headers["Ce-Modelid"]
        assert server.post({"predictions": ["setosa"]}, headers).status == 200
    truths = [
        {"request_id": f"{arm}-{number}", "truth": "setosa" if number < right else "virginica"}
        for number in range(right + wrong)
    ]
    answers = json.loads(server.post(truths, JSON, "/v1/feedback").body)
    assert {answer["status"] for answer in answers} == {"accepted"}


def test_a_worse_canary_is_seen_by_the_api_the_page_and_the_alert(serve: Serve, tmp_path: Path) -> None:
    """The arms of the example are two series: the comparison of the JSON API and the page have both with their
    difference, and the alert's expressions find the canary below the main predictor."""
    server = serve("--store", "memory://", "--predictor_from", "annotation:arm")
    arms = _annotations()
    assert arms.keys() == {"main", "canary"}
    _predict(server, arms["main"], "main", right=114, wrong=6)
    _predict(server, arms["canary"], "canary", right=24, wrong=16)

    report = json.loads(server.get("/v1/models/models/flowers?compare=predictor&window=1d").body)
    (comparison,) = report["comparisons"]
    canary, main = comparison["predictors"]
    assert (comparison["baseline"], canary["predictor"], main["predictor"]) == ("main", "canary", "main")
    assert (canary["support"], canary["headline"]["value"]) == (40, 0.6)
    assert (main["support"], main["headline"]["value"]) == (120, 0.95)
    assert canary["headline"]["difference_upper"] < 0

    page = html(server, "/ui/deployments/models/flowers?window=1d").text
    assert "canary" in page
    assert "main" in page
    assert "0.600" in page
    assert "0.950" in page

    prometheus = Prometheus(tmp_path, server.port)
    try:
        names = frozenset({("alertname", "ModelCanaryWorse"), ("alertstate", "firing")})

        def firing() -> list[dict[str, str]]:
            return [dict(labels) for labels in prometheus.values("ALERTS") if names <= labels]

        (alert,) = until(firing, 60, "no alert")
        assert (alert["deployment_name"], alert["predictor_name"]) == ("flowers", "canary")

        def judged() -> set[str]:
            found = prometheus.values(f"model_window:accuracy_upper:sure{{{OF_DEPLOYMENT}}}")
            return {dict(labels)["predictor_name"] for labels in found}

        until(lambda: judged() == {"main", "canary"}, 60, "the two are not both judged")  # a verdict is sooner
        (compared,) = until(
            lambda: list(prometheus.values(f"model_window:accuracy_lower:main{{{OF_DEPLOYMENT}}}")), 60, "no main one"
        )
        assert ("predictor_name", "main") in compared
    finally:
        prometheus.stop()
