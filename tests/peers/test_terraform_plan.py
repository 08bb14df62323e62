"""deploy/terraform is what real providers take, and what it plans is the chart with the values that were given.

The providers are of the newest releases that are Go modules: later ones keep a go.mod without /v2, which Go refuses.
There a resource of Kubernetes has no suffix _v1 yet; releases of Helm have had these arguments since. The example for
EKS needs a provider and modules that cannot be had so; see tests/unit/test_terraform.py.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

from tests.support.manifests import DEPLOY, SERVER, object_named, objects_of
from tests.support.peers.go_programs import HELM, go_program

# The providers and, where neither program is, OpenTofu are built from their modules, once.
pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

OPENTOFU = (
    "github.com/opentofu/opentofu/cmd/tofu@v1.10.10",
    "github.com/hashicorp/hcl/v2@v2.20.1=github.com/opentofu/hcl/v2@v2.20.2-0.20251021132045-587d123c2828",
)
UTIL = "vbom.ml/util=github.com/fvbommel/util@v0.0.0-20180919145318-efcd4e0f9787"  # its own address is gone
PROVIDERS = {
    "helm": (
        "github.com/hashicorp/terraform-provider-helm@v1.3.2",
        UTIL,
        "github.com/Azure/go-autorest=github.com/Azure/go-autorest@v13.3.3+incompatible",
    ),
    "kubernetes": (
        "github.com/hashicorp/terraform-provider-kubernetes@v1.13.4",
        UTIL,
        "github.com/go-openapi/spec=github.com/go-openapi/spec@v0.19.5",
        "k8s.io/cli-runtime=k8s.io/cli-runtime@v0.19.1",
        "k8s.io/client-go=k8s.io/client-go@v0.19.1",
    ),
}
IMAGE = '-var=image={repository="images.example.com/metrics", tag="7"}'
RELEASE = "kube-prometheus-stack"
MONITORS = sorted((DEPLOY / "examples/seldon").glob("*.yaml"))
Run: TypeAlias = "Callable[..., subprocess.CompletedProcess[str]]"


@pytest.fixture(scope="module")
def tofu(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs OpenTofu or Terraform on a copy of the module, with the providers in the place of those of a registry."""
    program = shutil.which("tofu") or shutil.which("terraform") or go_program(*OPENTOFU)
    folders = {f"hashicorp/{name}": str(go_program(*recipe).parent) for name, recipe in PROVIDERS.items()}
    folder = tmp_path_factory.mktemp("terraform")
    overrides = "\n".join(f"{json.dumps(name)} = {json.dumps(place)}" for name, place in folders.items())
    (folder / "cli.tfrc").write_text(f"provider_installation {{\ndev_overrides {{\n{overrides}\n}}\ndirect {{}}\n}}\n")
    _copy(folder / "terraform")
    own = ("TF_", "KUBE", "HELM_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    environment |= {"TF_CLI_CONFIG_FILE": str(folder / "cli.tfrc"), "CHECKPOINT_DISABLE": "1", "HOME": str(folder)}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [program, f"-chdir={folder}/terraform", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    return run


def _copy(folder: Path) -> None:
    """The module beside the chart and the dashboards, in the names of the older provider."""
    folder.mkdir()
    for path in (DEPLOY / "terraform").glob("*.tf"):
        text = re.sub(r"\bkubernetes_(namespace|secret|config_map)_v1\b", r"kubernetes_\1", path.read_text())
        (folder / path.name).write_text(text)
    for name in ("helm", "dashboards"):
        (folder.parent / name).symlink_to(DEPLOY / name)


def _planned(tofu: Run, *words: str) -> dict[str, Any]:
    """What would be made, by its address."""
    done = tofu("plan", "-input=false", "-no-color", "-out=plan", IMAGE, *words)
    assert done.returncode == 0, done.stderr
    shown = json.loads(tofu("show", "-json", "plan").stdout)
    return {made["address"]: made["values"] for made in shown["planned_values"]["root_module"]["resources"]}


def test_the_module_is_valid(tofu: Run) -> None:
    """Each resource has the arguments that its provider knows, of the types that it wants."""
    done = tofu("validate", "-json")
    said = json.loads(done.stdout)
    assert (said["valid"], said["error_count"]) == (True, 0), said["diagnostics"]


def test_everything_is_planned(tofu: Run) -> None:
    """Seldon Core, the monitoring and the server are releases of charts, each in its namespace and at a version; each
    dashboard is a ConfigMap, and the webhook a Secret."""
    planned = _planned(tofu, "-var=slack_url=https://hooks.example.com/x")
    charts = {
        values["chart"].rpartition("/")[2]: (values["namespace"], values["version"])
        for address, values in planned.items()
        if address.startswith("helm_release.")
    }
    assert charts == {
        "seldon-core-operator": ("seldon-system", "1.17.1"),
        RELEASE: ("monitoring", "77.6.2"),
        "helm": ("metrics", yaml.safe_load((DEPLOY / "helm/Chart.yaml").read_text())["version"]),
    }
    dashboards = {key for values in planned.values() for key in values.get("data", {}) if key.endswith(".json")}
    assert dashboards == {path.name for path in (DEPLOY / "dashboards").glob("*.json")}
    assert planned["kubernetes_secret.slack[0]"]["data"] == {"url": "https://hooks.example.com/x"}


def test_monitors_of_models_are_read(tofu: Run) -> None:
    """Prometheus takes monitors without a label of its release, such as those of the examples for Seldon; what a caller
    says of the chart stands."""
    planned = _planned(tofu, '-var=monitoring_values={prometheus={prometheusSpec={retention="30d"}}}')
    texts = planned["helm_release.monitoring[0]"]["values"]
    ours, said = (yaml.safe_load(text)["prometheus"]["prometheusSpec"] for text in texts)
    monitors = [found for path in MONITORS for found in yaml.safe_load_all(path.read_text())]
    kinds = {found["kind"] for found in monitors if found["kind"].endswith("Monitor")}
    assert ours == {f"{kind[0].lower()}{kind[1:]}SelectorNilUsesHelmValues": False for kind in kinds}
    assert said == {"retention": "30d"}


def test_parts_can_be_left_out(tofu: Run) -> None:
    """Without Seldon Core and monitoring there are the server and two namespaces."""
    planned = _planned(tofu, "-var=seldon_core=false", "-var=monitoring=false")
    assert planned.keys() == {"helm_release.server", "kubernetes_namespace.models", "kubernetes_namespace.server"}
    (said,) = planned["helm_release.server"]["values"][1:]
    assert yaml.safe_load(said)["components"] == []


def test_the_planned_values_reach_the_objects(tofu: Run, tmp_path: Path) -> None:
    """Helm renders the planned release: the image, the lowest average prediction, the link of messages, the label that
    the monitoring selects by, and the route to Slack."""
    page = "https://runbooks.example.com/alerts"
    planned = _planned(
        tofu,
        "-var=output_mean_minimum=100000",
        f"-var=runbooks={page}",
        "-var=slack_url=https://hooks.example.com/x",
        '-var=values={storage={size="20Gi"}}',
    )
    release = planned["helm_release.server"]
    words: list[str | Path] = ["--namespace", release["namespace"]]
    for number, text in enumerate(release["values"]):
        (tmp_path / f"{number}.yaml").write_text(text)
        words += ["--values", tmp_path / f"{number}.yaml"]
    done = subprocess.run(
        [go_program(HELM), "template", release["name"], DEPLOY / "helm", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    objects = [found for found in yaml.safe_load_all(done.stdout) if found]
    (container,) = object_named(objects, "Deployment", SERVER)["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "images.example.com/metrics:7"
    (volume,) = objects_of(objects, "PersistentVolumeClaim")
    assert volume["spec"]["resources"]["requests"]["storage"] == "20Gi"
    (rules,) = objects_of(objects, "PrometheusRule")
    stated = [rule for group in rules["spec"]["groups"] for rule in group["rules"]]
    assert [one["expr"] for one in stated if one.get("record") == "deployment:output_mean:minimum"][0] == "100000"
    assert {one["annotations"]["runbook_url"].partition("#")[0] for one in stated if "alert" in one} == {page}
    (routing,) = objects_of(objects, "AlertmanagerConfig")
    assert {found["metadata"]["labels"]["release"] for found in (rules, routing)} == {RELEASE}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((IMAGE, "-var=runbooks=docs/how-to/runbooks.md"), "must be an address of a page"),
        ((IMAGE, "-var=output_mean_minimum=low"), "a number is required"),
        ((), 'variable "image" is not set'),
    ],
)
def test_a_wrong_variable_is_refused(tofu: Run, words: tuple[str, ...], said: str) -> None:
    """Before anything is planned, by its name."""
    done = tofu("plan", "-input=false", "-no-color", *words)
    assert done.returncode != 0
    assert said in " ".join(done.stderr.replace("│", " ").split())
