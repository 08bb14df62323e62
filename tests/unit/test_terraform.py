"""The Terraform files say what fits together: names that are declared, values that the chart knows, no open doors.

What providers take is tested in tests/peers/test_terraform_plan.py; what the modules for EKS take is not seen.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml

from tests.support.manifests import DEPLOY

ROOT_MODULE = DEPLOY / "terraform"
EKS = ROOT_MODULE / "examples/eks"
Block = dict[str, Any]

every_module = pytest.mark.parametrize("module", [ROOT_MODULE, EKS], ids=lambda path: path.name)


@cache
def _blocks(module: Path) -> list[tuple[str, Block]]:
    """The blocks of a module by their kind, with their names as keys."""
    parsed = [hcl2.loads(path.read_text()) for path in sorted(module.glob("*.tf"))]
    return [(kind, block) for file in parsed for kind, blocks in file.items() if "__" not in kind for block in blocks]


def _named(module: Path, kind: str) -> dict[str, Block]:
    """Blocks by their names: `aws_iam_role.disks` for a resource, `image` for a variable."""
    return dict(found for one, block in _blocks(module) if one == kind for found in _names(block, kind))


def _names(block: Block, kind: str) -> Iterator[tuple[str, Block]]:
    for name, inner in block.items():
        if kind in ("resource", "data"):
            yield from ((f"{name}.{second}".replace('"', ""), settings) for second, settings in inner.items())
        elif "__" not in name:
            yield name.strip('"'), inner


def _text(module: Path) -> str:
    """All that is said in a module, without comments."""
    lines = [line for path in sorted(module.glob("*.tf")) for line in path.read_text().splitlines()]
    return "\n".join(re.sub(r"(^|\s)#( .*|$)", "", line) for line in lines)


def test_the_files_are_formatted() -> None:
    """`fmt` of whichever of the two programs is here would change nothing."""
    program = shutil.which("tofu") or shutil.which("terraform")
    if not program:
        pytest.skip("neither tofu nor terraform is installed")
    command = [program, "fmt", "-check", "-diff", "-recursive", str(ROOT_MODULE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@every_module
def test_each_variable_is_explained_and_used(module: Path) -> None:
    """A variable has a type and a description, somebody reads it, and nobody reads one that is not there."""
    variables = _named(module, "variable")
    assert all({"type", "description"} <= settings.keys() for settings in variables.values())
    read = re.sub(r'variable "\w+" \{.*?\n\}', "", _text(module), flags=re.DOTALL)
    assert set(re.findall(r"\bvar\.(\w+)", read)) == variables.keys()


@every_module
def test_each_reference_leads_to_something(module: Path) -> None:
    """Locals, resources, data and modules that an expression names are there."""
    text = _text(module)
    have = {f"local.{name}" for name in _named(module, "locals")}
    have |= {f"module.{name}" for name in _named(module, "module")}
    have |= {f"data.{name}" for name in _named(module, "data")} | set(_named(module, "resource"))
    used = re.findall(r"\b((?:local|module)\.\w+|data\.\w+\.\w+|(?<!data\.)(?:kubernetes|aws|helm)_\w+\.\w+)", text)
    assert set(used) <= have


def test_the_example_calls_the_module_as_it_is() -> None:
    """Arguments of the module are its variables, and what it must be told is told; outputs that are read exist."""
    called = {name for name in _named(EKS, "module")["feedback"] if "__" not in name} - {"source"}
    variables = _named(ROOT_MODULE, "variable")
    required = {name for name, settings in variables.items() if "default" not in settings}
    assert required <= called <= variables.keys()
    assert set(re.findall(r"module\.feedback\.(\w+)", _text(EKS))) <= _named(ROOT_MODULE, "output").keys()


def test_the_server_is_our_chart_with_values_that_it_has() -> None:
    """The release installs deploy/helm, and each value that it or the example sets is in the chart's schema; so are the
    components."""
    release = _named(ROOT_MODULE, "resource")["helm_release.server"]
    chart = release["chart"].strip('"').replace("${path.module}", str(ROOT_MODULE))
    assert Path(chart).resolve() == DEPLOY / "helm"
    schema = json.loads((DEPLOY / "helm/values.schema.json").read_text())["properties"]
    (ours,) = [value for value in release["values"] if "components" in value]
    keys = set(re.findall(r"[{,] ?(\w+) = ", re.sub(r"= \{[^{}]*\}|merge\(.*\)", "= _", ours)))
    assert keys == {"image", "components", "alerts", "labels"} <= schema.keys()
    assert set(re.findall(r"\b(\w+) = var\.", ours)) - {"image"} <= schema["alerts"]["properties"].keys()
    assert set(_named(EKS, "module")["feedback"]["values"]) <= schema.keys()
    named = set(re.findall(r'\? \["([\w-]+)"\]', _text(ROOT_MODULE)))
    assert named == {"prometheus-operator", "alertmanager"} <= set(schema["components"]["items"]["enum"])


def test_what_is_installed_finds_each_other() -> None:
    """Prometheus is where the server's NetworkPolicy lets it in from, and the Secret is the one that the routing asks
    for; a version is named for every chart from elsewhere."""
    resources = _named(ROOT_MODULE, "resource")
    policy = yaml.safe_load((DEPLOY / "components/prometheus-operator/network-policy.yaml").read_text())
    ((peers,),) = [[rule["from"] for rule in policy["spec"]["ingress"]]]
    namespace = resources["helm_release.monitoring"]["namespace"].strip('"')
    assert [peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for peer in peers] == [namespace]
    (secret,) = resources["kubernetes_secret_v1.slack"]["metadata"]
    example = yaml.safe_load((DEPLOY / "examples/slack/secret.yaml").read_text())
    assert secret["name"].strip('"') == example["metadata"]["name"]
    assert resources["kubernetes_secret_v1.slack"]["data"].keys() == example["stringData"].keys()
    for name, release in resources.items():
        assert not ("repository" in release and "version" not in release), name


def test_no_secret_is_printed_and_no_cluster_is_open_to_all() -> None:
    """The webhook is a sensitive variable, and who may reach the API of the cluster has to be said."""
    for module in (ROOT_MODULE, EKS):
        assert _named(module, "variable")["slack_url"]["sensitive"] is True
    assert "default" not in _named(EKS, "variable")["admin_networks"]
    assert _named(EKS, "module")["cluster"]["endpoint_public_access_cidrs"] == "${var.admin_networks}"
