"""The Helm chart renders what kustomize builds, object by object, with a real Helm."""

from __future__ import annotations

import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from metrics_server import __version__
from tests.support import kustomize
from tests.support.kustomize import Object
from tests.support.manifests import DEPLOY, SERVER, object_named, objects_of
from tests.support.peers.go_programs import HELM, go_program
from tests.support.running import ROOT

# Helm is built from its module, once.
pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

CHART = DEPLOY / "helm"
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
OVERLAYS = [path for path in EXAMPLES if (DEPLOY / "overlays" / path.stem).exists()]
CHECKSUM = "checksum/config"

every_example = pytest.mark.parametrize("values", EXAMPLES, ids=lambda path: path.stem)


def _helm(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [go_program(HELM), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def _render(*words: str | Path, namespace: str = "metrics") -> list[Object]:
    """The objects of the chart."""
    done = _helm("template", "quality", CHART, "--namespace", namespace, *words)
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def _comparable(objects: list[Object]) -> dict[tuple[str, str], Object]:
    """Objects by kind and name. Settings are compared as values, not as text with comments; a kustomization has no
    checksum of the settings, for there a changed ConfigMap has another name."""
    by_name = {(found["kind"], found["metadata"]["name"]): found for found in objects}
    assert len(by_name) == len(objects)
    config = by_name["ConfigMap", SERVER]["data"]
    config["config.yaml"] = yaml.safe_load(config["config.yaml"])
    annotations = by_name["Deployment", SERVER]["spec"]["template"]["metadata"]["annotations"]
    annotations.pop(CHECKSUM, None)
    return by_name


@pytest.mark.parametrize("values", OVERLAYS, ids=lambda path: path.stem)
def test_the_chart_renders_what_the_overlay_builds(values: Path) -> None:
    """For each overlay there are values that give the same objects, equal in every field."""
    rendered = _comparable(_render("--values", values))
    built = _comparable(kustomize.build(DEPLOY / "overlays" / values.stem))
    assert rendered.keys() == built.keys()
    for name, found in built.items():
        assert rendered[name] == found, name


def test_the_chart_without_values_renders_the_base() -> None:
    """What is installed by default is the base, in the namespace of the release."""
    base = kustomize.build(DEPLOY / "base")
    for found in base:
        found["metadata"]["namespace"] = "metrics"
    assert _comparable(_render()) == _comparable(base)


def test_every_overlay_with_components_has_its_values() -> None:
    """No component is known to kustomize alone, but what only OpenShift's own operators take."""
    components = {path.parent.name for path in (DEPLOY / "components").glob("*/kustomization.yaml")}
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    assert set(schema["properties"]["components"]["items"]["enum"]) == components


@every_example
def test_helm_finds_nothing_to_say_about_the_chart(values: Path) -> None:
    """`helm lint --strict` accepts the chart with each example of values."""
    done = _helm("lint", "--strict", CHART, "--values", values)
    assert done.returncode == 0, done.stdout + done.stderr


def test_values_reach_the_objects() -> None:
    """The example of production: image, token, volume, settings, labels, threshold and link are where they belong."""
    values = yaml.safe_load((CHART / "examples/production.yaml").read_text())
    objects = _render("--values", CHART / "examples/production.yaml", namespace="quality")
    assert {found["metadata"]["namespace"] for found in objects} == {"quality"}
    assert {found["metadata"]["labels"]["release"] for found in objects} == {"kube-prometheus-stack"}
    (container,) = kustomize.containers(object_named(objects, "Deployment", SERVER))
    assert container["image"] == f"images.example.com/{SERVER}:{__version__}"
    assert container["args"][-1] == "--token_file=/run/secrets/feedback/token"
    pod = object_named(objects, "Deployment", SERVER)["spec"]["template"]["spec"]
    assert {volume["name"] for volume in pod["volumes"]} == {mount["name"] for mount in container["volumeMounts"]}
    volume = object_named(objects, "PersistentVolumeClaim", SERVER)["spec"]
    assert (volume["storageClassName"], volume["resources"]["requests"]["storage"]) == ("ssd", "50Gi")
    config = object_named(objects, "ConfigMap", SERVER)["data"]["config.yaml"]
    assert yaml.safe_load(config) == values["config"]
    rules = _rules(objects)
    links = {rule["annotations"]["runbook_url"].partition("#")[0] for rule in rules if "alert" in rule}
    assert links == {values["alerts"]["runbooks"]}
    assert {rule["labels"]["namespace"] for rule in rules if "alert" in rule} == {"quality"}


def _rules(objects: list[Object]) -> list[Object]:
    (found,) = objects_of(objects, "PrometheusRule")
    return [rule for group in found["spec"]["groups"] for rule in group["rules"]]


@pytest.mark.parametrize(
    ("said", "expected"), [("null", "-Inf"), ("0", "0"), ("100000", "100000"), ("-0.5", "-0.5"), ("1e7", "1e+07")]
)
def test_one_value_sets_the_lowest_average_prediction(said: str, expected: str) -> None:
    """The constant of all deployments is the number of the values, none and 0 told apart; those of single deployments
    stay."""
    rules = _rules(
        _render("--set", "components={prometheus-operator}", "--set-json", f"alerts.outputMeanMinimum={said}")
    )
    minimum = [rule["expr"] for rule in rules if rule.get("record") == "deployment:output_mean:minimum"]
    assert minimum == [expected, "vector(100)", "vector(100000)"]


@pytest.mark.parametrize(("host", "component"), [("truth.example.org", "istio"), ("truth.example.org", "emissary")])
def test_the_host_is_that_of_the_values(host: str, component: str) -> None:
    """Nothing of an ingress keeps the name that stands in the manifests."""
    text = yaml.safe_dump(_render("--set", f"host={host},components={{{component}}}"))
    assert host in text
    assert "feedback.example.com" not in text


def test_changed_settings_start_the_server_anew() -> None:
    """The pod's annotation differs when a setting does, and only then."""

    def checksum(*words: str) -> Any:
        server = object_named(_render(*words), "Deployment", SERVER)
        return server["spec"]["template"]["metadata"]["annotations"][CHECKSUM]

    assert checksum() == checksum("--set", "storage.size=20Gi") != checksum("--set", "config.retention=7d")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("components={prometheus}", "components"),
        ("alerts.runbooks=docs/how-to/runbooks.md", "runbooks"),
        ("storage.size=much", "size"),
        ("imgae.tag=1", "imgae"),
        ("alerts.outputMeanMinimum=low", "outputMeanMinimum"),
        ("host=a b", "host"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(values: str, said: str) -> None:
    """Before anything is installed, the schema says which value is wrong."""
    done = _helm("template", "quality", CHART, "--set", values)
    assert done.returncode != 0
    assert said in done.stderr


def test_the_package_renders_what_the_folder_does(tmp_path: Path) -> None:
    """What `make build` packs has the manifests and dashboards themselves in the place of links, no scripts, and gives
    the same objects."""
    recipe = (ROOT / "Makefile").read_text()
    assert f"go run {HELM}" in recipe
    (words,) = re.findall(r"\$\(HELM\) (package .*)", recipe)
    done = subprocess.run(
        [go_program(HELM), *words.replace("dist", str(tmp_path)).split()], cwd=ROOT, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    package = tmp_path / f"{SERVER}-{__version__}.tgz"
    with tarfile.open(package) as archive:
        assert all(member.isfile() for member in archive.getmembers())
        assert not any(name.endswith((".py", "kustomization.yaml")) for name in archive.getnames())
    values = CHART / "examples/production.yaml"
    done = _helm("template", "quality", package, "--namespace", "metrics", "--values", values)
    assert [found for found in yaml.safe_load_all(done.stdout) if found] == _render("--values", values)


def test_the_chart_is_of_this_version() -> None:
    """The chart and the image that it asks for have the version of the package."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
