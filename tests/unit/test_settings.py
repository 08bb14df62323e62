"""Settings: one table, three sources, clear refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from metrics_server.errors import BadConfiguration
from metrics_server.ingest.pod import default_labels, image_of
from metrics_server.ingest.slicing import dimensions_of
from metrics_server.series.series import Labels
from metrics_server.settings import Settings, load
from tests.support.running import ARGUMENTS


def test_the_ancestors_command_line_is_understood() -> None:
    """Every argument of the walkthrough arrives in its setting."""
    settings = load([*ARGUMENTS, "--http_port", "8080", "MetricsServer"], {})
    assert settings.model_name == "multiclassserver"
    assert settings.event_source == "io.seldon.serving.feedback"
    assert settings.scoring_of(Labels("", "", "", "")).storage_uri.endswith("MulticlassOneHot")


def test_flag_wins_over_environment_wins_over_file(tmp_path: Path) -> None:
    """The nearer source wins, and each works alone."""
    path = tmp_path / "config.yaml"
    path.write_text("http_port: 1001\nwindows: [1h, 2h]\nmax-series: 5\n")
    assert load(["--config", str(path)], {}).http_port == 1001
    assert load(["--config", str(path)], {}).windows == ("1h", "2h")
    assert load(["--config", str(path)], {}).max_series == 5
    assert load(["--config", str(path)], {"METRICS_SERVER_HTTP_PORT": "1002"}).http_port == 1002
    assert load(["--config", str(path), "--http-port", "1003"], {"METRICS_SERVER_HTTP_PORT": "1002"}).http_port == 1003
    assert load([], {"METRICS_SERVER_CONFIG": str(path)}).http_port == 1001


def test_port_of_knative_counts_when_nothing_else_says_one() -> None:
    """PORT is honoured unless --http_port is set."""
    assert load([], {"PORT": "9090"}).http_port == 9090
    assert load(["--http_port", "7"], {"PORT": "9090"}).http_port == 7


def test_variables_that_kubernetes_injects_are_ignored() -> None:
    """METRICS_SERVER_PORT of a Service of that name is no setting of ours."""
    assert (
        load([], {"METRICS_SERVER_PORT": "tcp://10.0.0.1:80", "METRICS_SERVER_SERVICE_HOST": "10.0.0.1"}) == Settings()
    )


def test_prefixes_hyphens_and_switches_work() -> None:
    """Unambiguous prefixes as in argparse; hyphens are underscores; --no- turns a switch off."""
    settings = load(["--http_p", "1234", "--no-seldon-metrics", "--windows", "1h, 6h"], {})
    assert (settings.http_port, settings.seldon_metrics, settings.windows) == (1234, False, ("1h", "6h"))


def test_left_over_arguments_warn_in_drop_in_mode_only(caplog: pytest.LogCaptureFixture) -> None:
    """The ancestor ignored what it did not know; otherwise a typing error must not pass."""
    load(["--unknown", "1", "MetricsServer"], {})
    assert "--unknown 1" in caplog.text
    with pytest.raises(BadConfiguration, match="unrecognized arguments: --unknown"):
        load(["--unknown", "1"], {})


def test_deployments_have_their_own_scoring(tmp_path: Path) -> None:
    """The first entry that matches says how predictions are scored."""
    path = tmp_path / "config.yaml"
    path.write_text(
        "deployments:\n- {deployment: churn, storage_uri: cm_models.binary_metrics.BinaryMetrics, threshold: 0.3}\n"
        "- {namespace: shop, class_names: [cat, dog]}\n"
    )
    settings = load(["--config", str(path)], {})
    assert settings.scoring_of(Labels("x", "churn", "", "")).threshold == 0.3
    assert settings.scoring_of(Labels("shop", "wine", "", "")).class_names == ("cat", "dog")
    assert settings.scoring_of(Labels("x", "wine", "", "")) == Settings().scoring_of(Labels("", "", "", ""))


def test_a_threshold_of_a_deployment_is_one_of_scores(tmp_path: Path) -> None:
    """An entry of `deployments` whose threshold is no number from 0 to 1 is refused by its place and key; 0 and 1 are
    taken."""
    path = tmp_path / "config.yaml"
    path.write_text(
        "deployments:\n- {deployment: a, threshold: 1}\n- {deployment: b, threshold: 0}\n- {deployment: c}\n"
    )
    assert [entry.threshold for entry in load(["--config", str(path)], {}).deployments] == [1.0, 0.0, None]
    for wrong in ("50", "-0.5", ".nan"):
        path.write_text(f"deployments:\n- {{deployment: a}}\n- {{deployment: b, threshold: {wrong}}}\n")
        with pytest.raises(BadConfiguration, match=r"^--deployments\[1\]\.threshold .*: want a number from 0 to 1$"):
            load(["--config", str(path)], {})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--http_port", "x"], "http_port"),
        (["--http_port", "0"], "--http_port 0"),
        (["--windows", "90s,7h"], "7h is no multiple of 900 s|90s is no multiple of 60 s"),
        (["--windows", "500d"], "longer than --history"),
        (["--windows", ""], "--windows"),
        (["--retention", "soon"], "--retention soon: want a duration such as 90s"),
        (["--event_type", "io.seldon.serving.feedback"], "--event_type"),
        (["--event_type", "dev.knative.kafka.event"], "--event_type"),
        (["--tls_cert", "x"], "--tls_cert and --tls_key"),
        (["--log_level", "LOUD"], "--log_level LOUD"),
        (["--max_series", "0"], "--max_series 0: want a whole number from 1"),
        (["--threshold", "2"], "--threshold 2: want a number from 0 to 1"),
        (["--threshold=-0.1"], "--threshold -0.1: want a number from 0 to 1"),
        (["--threshold", "nan"], "--threshold nan: want a number from 0 to 1"),
        (["--config", "/no/such/file"], "--config /no/such/file"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(words: list[str], message: str) -> None:
    """The message names the setting and says what would be right."""
    with pytest.raises(BadConfiguration, match=message):
        load(words, {})


def test_an_unknown_key_in_the_file_is_an_error(tmp_path: Path) -> None:
    """A typing error in the file does not pass."""
    path = tmp_path / "config.yaml"
    path.write_text("htpp_port: 1\n")
    with pytest.raises(BadConfiguration, match="htpp_port"):
        load(["--config", str(path)], {})


def test_labels_and_image_come_from_seldons_environment() -> None:
    """The pod's variables fill in what an event leaves open."""
    environment = {
        "SELDON_DEPLOYMENT_NAMESPACE": "shop",
        "SELDON_DEPLOYMENT_ID": "wine",
        "PREDICTOR_ID": "main",
        "PREDICTIVE_UNIT_ID": "classifier",
        "PREDICTIVE_UNIT_IMAGE": "registry:5000/acme/metrics:3",
        "PREDICTOR_LABELS": '{"version":"v2"}',
    }
    assert default_labels(environment) == Labels("shop", "wine", "main", "classifier")
    assert image_of(environment) == ("registry:5000/acme/metrics", "3", "v2")
    assert image_of({}) == ("NOT_IMPLEMENTED",) * 3


@pytest.mark.parametrize(
    "texts", [["tenant"], ["tenant=body:x"], ["1=tag:x"], ["t=tag:"], ["t=tag:a", "t=attribute:b"]]
)
def test_slices_that_cannot_be_are_refused(texts: list[str]) -> None:
    """A dimension that is written otherwise, or a second one of the same name, in which predictions would count
    twice."""
    with pytest.raises(BadConfiguration, match="--slices"):
        dimensions_of(texts)
