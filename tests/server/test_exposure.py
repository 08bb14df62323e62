"""How much of a model is on /v1/metrics, and asking for some of it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from tests.support.deployments import Deployment, starter
from tests.support.running import FEEDBACK, RunningServer

LEVELS = ("essential", "standard", "full")
ROWS = [([0.7, 0.2, 0.1], 0), ([0.1, 0.8, 0.1], 2), ([0.2, 0.3, 0.5], 2), ([0.6, 0.3, 0.1], 0)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One deployment of each level, with the same pairs, under a default that is the smallest."""
    folder = tmp_path_factory.mktemp("exposure")
    (folder / "config.yaml").write_text(
        json.dumps({"expose": "essential", "deployments": [{"deployment": name, "expose": name} for name in LEVELS]})
    )
    for running in starter(folder, "--config", str(folder / "config.yaml"), "--store", "memory://"):
        for shop in (Deployment(running, name) for name in (*LEVELS, "default")):
            for number, (prediction, truth) in enumerate(ROWS):
                shop.predict(str(number), prediction)
                shop.send(FEEDBACK, {"truth": {"data": {"ndarray": [truth]}}, "reward": 1}, str(number))
        yield running


def names_of(server: RunningServer, deployment: str) -> set[str]:
    return {sample.name for sample in Deployment(server, deployment).page().samples}


def test_each_level_shows_more_with_the_same_values(server: RunningServer) -> None:
    """What a smaller level shows, the larger ones show too, equal in value."""
    numbers = []
    for level in LEVELS:
        samples = Deployment(server, level).page().samples
        numbers.append(
            {(s.name, *sorted({**s.labels, "deployment_name": ""}.items())): s.value for s in samples
             if not s.name.endswith(("timestamp_seconds", "seconds_sum"))}
        )  # fmt: skip
    essential, standard, full = numbers
    assert essential.items() < standard.items() < full.items()
    assert len(essential) < 60 < len(full) / 3


def test_essential_is_what_alerts_ask_for(server: RunningServer) -> None:
    """Predictions, labels, decisions, rewards, support, coverage, and the headline with its interval; no class."""
    found = names_of(server, "essential")
    assert found == {
        "model_predictions_total",
        "model_labels_total",
        "model_labels_retracted_total",
        "model_rewards_total",
        "model_rewards_retracted_total",
        "model_decisions_total",
        "model_decisions_retracted_total",
        "model_last_prediction_timestamp_seconds",
        "model_last_label_timestamp_seconds",
        "model_support",
        "model_label_coverage_ratio",
        "model_accuracy_ratio",
        "model_accuracy_ratio_lower",
        "model_accuracy_ratio_upper",
        "model_reward_mean",
        "model_reward_mean_lower",
        "model_reward_mean_upper",
    }


def test_standard_has_no_values_of_classes(server: RunningServer) -> None:
    """Every value of the model as a whole, and its histograms; nothing that has a class of its own."""
    samples = Deployment(server, "standard").page().samples
    assert not any({"class", "truth", "prediction", "value"} & sample.labels.keys() for sample in samples)
    names = {sample.name for sample in samples}
    assert {"model_f1_macro_ratio", "model_log_loss", "model_label_delay_seconds_bucket"} <= names


def test_what_no_entry_names_has_the_default(server: RunningServer) -> None:
    """`--expose` holds for deployments of which the configuration says nothing."""
    assert names_of(server, "default") == names_of(server, "essential")


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_a_scrape_may_ask_for_some_samples(server: RunningServer, accept: str) -> None:
    """`name[]` selects samples as prometheus_client does, of the models and of the server, in a page that is valid."""
    wanted = {"model_accuracy_ratio", "model_predictions_total", "metrics_server_series"}
    path = "/v1/metrics?" + "&".join(f"name[]={name}" for name in sorted(wanted))
    text = server.get(path, {"Accept": accept}).body.decode()
    families = list((openmetrics if accept else prometheus)(text))
    assert {sample.name for family in families for sample in family.samples} == wanted
    assert text.count("# HELP") == len(wanted)


def test_too_many_names_are_refused(server: RunningServer) -> None:
    """400 with what is wanted; a name that is none shows nothing."""
    answer = server.get("/v1/metrics?" + "&".join(f"name[]=n{number}" for number in range(101)))
    assert answer.status == 400
    assert b"at most 100 names" in answer.body
    assert server.get("/v1/metrics?name[]=a%20b").status == 400
    assert server.get("/metrics?name[]=nothing").body.strip() in (b"", b"# EOF")
