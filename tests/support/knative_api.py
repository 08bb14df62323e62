"""What the API server of a cluster with Knative refuses: by the CustomResourceDefinitions that Knative publishes, read
as strictly as kubectl asks for, and by what Knative's admission says beyond them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from tests.support.kustomize import Object

DEFINITIONS = Path(__file__).parent.parent / "contract/golden/knative"
PORT_NAMES = ("", "h2c", "http1")
DOMAIN = ".knative.dev"


def is_knatives(found: Object) -> bool:
    """Whether an object is of a kind that Knative defines."""
    return found["apiVersion"].partition("/")[0].endswith(DOMAIN)


def refusals(found: Object) -> list[str]:
    """Why an object of Knative is refused; nothing when it is accepted."""
    group, _, version = found["apiVersion"].partition("/")
    versions = _versions().get((group, found["kind"]), {})
    if version not in versions:
        return [f"no matches for kind {found['kind']} in version {found['apiVersion']}"]
    validator = jsonschema.Draft202012Validator(versions[version])
    refused = [error.message for error in validator.iter_errors(found)]
    return refused + [reason for admit in _ADMISSION.get(found["kind"], ()) for reason in admit(found)]


@cache
def _versions() -> dict[tuple[str, str], dict[str, Any]]:
    """The JSON schemas of the served versions of each kind."""
    definitions = [yaml.safe_load(path.read_text())["spec"] for path in DEFINITIONS.glob("*.yaml")]
    return {
        (one["group"], one["names"]["kind"]): {
            version["name"]: _of_object(version["schema"]["openAPIV3Schema"])
            for version in one["versions"]
            if version["served"]
        }
        for one in definitions
    }


def _of_object(schema: Any) -> Any:
    """The schema of a whole object: what is common to all objects is not said in each."""
    common = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
    closed = _closed(schema)
    return closed | {"properties": closed["properties"] | common | {"metadata": {"type": "object"}}}


def _closed(schema: Any) -> Any:
    """The same schema, which refuses members that it does not name unless it says that it keeps them."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items() if key != "properties"}
    if "properties" in schema:
        closed["properties"] = {name: _closed(one) for name, one in schema["properties"].items()}
    if schema.get("type") == "object" and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed


def _refused_ports(found: Object) -> list[str]:
    """pkg/apis/serving/k8s_validation.go of knative.dev/serving."""
    containers = found["spec"]["template"]["spec"]["containers"]
    names = [port.get("name", "") for container in containers for port in container.get("ports", [])]
    return [f"Port name {name} is not allowed" for name in names if name not in PORT_NAMES]


def _missing_broker(found: Object) -> list[str]:
    """pkg/apis/eventing/v1/trigger_validation.go of knative.dev/eventing."""
    spec = found["spec"]
    return [] if spec.get("broker") or spec.get("brokerRef") else ["missing field(s): spec.broker"]


_ADMISSION = {"Service": (_refused_ports,), "Trigger": (_missing_broker,)}
