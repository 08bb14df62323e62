"""What the Prometheus operator makes of an AlertmanagerConfig: the configuration that its Alertmanager runs with.

The rules are those of the operator's documentation (User Guides, Alerting): each object becomes a route below the root,
for alerts of its own namespace, and its inhibitions are of that namespace too.
"""

from __future__ import annotations

import re
from typing import Any

from tests.support.kustomize import Object

_MATCHERS = {"matchers": "matchers", "sourceMatch": "source_matchers", "targetMatch": "target_matchers"}


def configuration(found: Object, secret_file: str) -> Object:
    """The configuration of an Alertmanager with this AlertmanagerConfig and no other; its one Secret is in a file."""
    namespace = f'namespace="{found["metadata"]["namespace"]}"'
    spec = _plain(found["spec"], secret_file)
    route = spec["route"]
    route["matchers"] = [namespace, *route.get("matchers", [])]
    route["continue"] = True
    for rule in spec["inhibit_rules"]:
        for side in ("source_matchers", "target_matchers"):
            rule[side].append(namespace)
        rule["equal"] = ["namespace", *rule.get("equal", [])]
    nobody = {"name": "null"}
    return {
        "route": {"receiver": "null", "routes": [route]},
        "inhibit_rules": spec["inhibit_rules"],
        "receivers": [nobody, *spec["receivers"]],
    }


def _plain(node: Any, secret_file: str) -> Any:
    if isinstance(node, list):
        return [_plain(one, secret_file) for one in node]
    if not isinstance(node, dict):
        return node
    plain: Object = {}
    for key, value in node.items():
        if key == "apiURL":
            plain["api_url_file"] = secret_file
        elif key in _MATCHERS:
            plain[_MATCHERS[key]] = [f'{one["name"]}{one.get("matchType", "=")}"{one["value"]}"' for one in value]
        else:
            plain[re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", key)] = _plain(value, secret_file)
    return plain
