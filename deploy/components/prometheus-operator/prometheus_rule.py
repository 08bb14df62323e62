# ruff: noqa: INP001 - a script beside what it writes
"""Writes prometheus-rule.yaml from deploy/rules: kustomize reads no file as the content of an object's field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
RULES = HERE.parents[1] / "rules"
WRITTEN = HERE / "prometheus-rule.yaml"
HEAD = "# Written by prometheus_rule.py from deploy/rules. Change the rules there.\n"


class _Dumper(yaml.SafeDumper):
    """Writes expressions of several lines as they were, and lists indented."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: FBT001, FBT002 - its signature there
        super().increase_indent(flow, indentless=False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def groups() -> list[Any]:
    """The rule groups of all files, in the order of their names; tests are no rules."""
    files = [path for path in sorted(RULES.glob("*.yaml")) if not path.stem.endswith("_test")]
    return [group for path in files for group in yaml.safe_load(path.read_text())["groups"]]


def manifest() -> str:
    """The PrometheusRule."""
    made = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "feedback-metrics-server"},
        "spec": {"groups": groups()},
    }
    return HEAD + yaml.dump(made, Dumper=_Dumper, sort_keys=False, width=140, allow_unicode=True)


if __name__ == "__main__":
    WRITTEN.write_text(manifest())
