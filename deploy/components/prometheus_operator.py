# ruff: noqa: INP001 - a script beside what it writes
"""Writes the objects of the Prometheus operator whose content stands in files elsewhere: PrometheusRule from
deploy/rules, AlertmanagerConfig from deploy/alertmanager. Kustomize reads no file as the content of an object's
field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

COMPONENTS = Path(__file__).resolve().parent
RULES, ROUTING = COMPONENTS.parent / "rules", COMPONENTS.parent / "alertmanager"
NAME = "feedback-metrics-server"
NAMESPACE = "metrics"  # kustomize puts its own there: components/prometheus-operator/namespace-of-alerts.yaml
HEAD = "# Written by deploy/components/prometheus_operator.py from deploy/{0}. Change it there.\n"

_MATCHER = re.compile(r'(?P<name>\w+)(?P<matchType>=~|!~|!=|=)"?(?P<value>.*?)"?')
_DEFINED = re.compile(r'{{ define "(?P<name>[^"]+)" }}.*?{{-? end }}(?=\n\n|\n?\Z)', re.DOTALL)
_USED = re.compile(r'{{-? template "([^"]+)"')
_RENAMED = {"source_matchers": "sourceMatch", "target_matchers": "targetMatch"}


class _Dumper(yaml.SafeDumper):
    """Writes expressions of several lines as they were, and lists indented."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: FBT001, FBT002 - its signature there
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def groups() -> list[Any]:
    """The rule groups of all files, in the order of their names; tests are no rules."""
    files = [path for path in sorted(RULES.glob("*.yaml")) if not path.stem.endswith("_test")]
    return [_of_namespace(group) for path in files for group in yaml.safe_load(path.read_text())["groups"]]


def _of_namespace(group: dict[str, Any]) -> dict[str, Any]:
    """The group, with the namespace that an AlertmanagerConfig asks each alert for."""
    for rule in group["rules"]:
        if "alert" in rule:
            rule["labels"]["namespace"] = NAMESPACE
    return group


def routing() -> dict[str, Any]:
    """The routing of alertmanager.yml in the words of the operator."""
    told = yaml.safe_load((ROUTING / "alertmanager.yml").read_text())
    return {
        "route": _in_words_of_operator(told["route"]),
        "inhibitRules": _in_words_of_operator(told["inhibit_rules"]),
        "receivers": [
            {"name": receiver["name"], "slackConfigs": [_slack(one) for one in receiver["slack_configs"]]}
            for receiver in told["receivers"]
        ],
    }


def _in_words_of_operator(node: Any) -> Any:
    if isinstance(node, list):
        return [_in_words_of_operator(one) for one in node]
    if not isinstance(node, dict):
        return node
    return {
        _RENAMED.get(key, _camel(key)): [_matcher(one) for one in value]
        if key.endswith("matchers")
        else _in_words_of_operator(value)
        for key, value in node.items()
    }


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(word.capitalize() for word in tail)


def _matcher(text: str) -> dict[str, str]:
    found = _MATCHER.fullmatch(text)
    if found is None:
        message = f"{text} is no matcher"
        raise ValueError(message)
    plain = (
        found["matchType"] == "="
    )  # which is what the operator takes without one; YAML 1.1 reads a bare = as something else
    return {key: value for key, value in found.groupdict().items() if not (plain and key == "matchType")}


def _slack(settings: dict[str, Any]) -> dict[str, Any]:
    """A Slack receiver whose webhook is in a Secret and whose fields bring the templates that they use."""
    templates = {found["name"]: found[0] for found in _DEFINED.finditer((ROUTING / "slack.tmpl").read_text())}
    address = {"apiURL": {"name": f"{NAME}-slack", "key": "url"}}
    fields = {_camel(key): value for key, value in settings.items() if key != "api_url_file"}
    return address | {
        key: "".join([*(templates[name] for name in _used(value, templates)), value])
        if isinstance(value, str)
        else value
        for key, value in fields.items()
    }


def _used(text: str, templates: dict[str, str]) -> list[str]:
    """Names of the templates that a text uses, and of those which these use."""

    def walk(text: str) -> Iterator[str]:
        for name in _USED.findall(text):
            yield name
            yield from walk(templates[name])

    return sorted(set(walk(text)))


def manifests() -> dict[Path, str]:
    """Each file that this script writes, with its content."""
    return {
        COMPONENTS / "prometheus-operator/prometheus-rule.yaml": _manifest(
            "rules", "monitoring.coreos.com/v1", "PrometheusRule", {"groups": groups()}
        ),
        COMPONENTS / "alertmanager/alertmanager-config.yaml": _manifest(
            "alertmanager", "monitoring.coreos.com/v1alpha1", "AlertmanagerConfig", routing()
        ),
    }


def _manifest(source: str, version: str, kind: str, spec: dict[str, Any]) -> str:
    made = {"apiVersion": version, "kind": kind, "metadata": {"name": NAME}, "spec": spec}
    return HEAD.format(source) + yaml.dump(made, Dumper=_Dumper, sort_keys=False, width=140, allow_unicode=True)


if __name__ == "__main__":
    for path, text in manifests().items():
        path.write_text(text)
