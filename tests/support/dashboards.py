"""The dashboards as Grafana would fill them: what their variables offer, and what their queries become."""

from __future__ import annotations

import json
import math
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.support.running import ROOT

DASHBOARDS = ROOT / "deploy/dashboards"
NAMES = ("quality", "model", "canary", "serving", "platform", "server")
OF_SERVER = tuple(name for name in NAMES if name != "platform")
BOARDS: dict[str, Any] = {name: json.loads((DASHBOARDS / f"{name}.json").read_text()) for name in NAMES}
GRAFANAS_OWN = {"__rate_interval": "10s", "__range": "1m"}


def panels(board: Any) -> Iterator[Any]:
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels", ())


def shown(board: Any) -> list[Any]:
    return [panel for panel in panels(board) if panel["type"] != "row"]


def variables(board: Any) -> list[Any]:
    return board["templating"]["list"]


def expressions(board: Any) -> list[tuple[str, str]]:
    """Every query with where it stands."""
    queries = [(panel["title"], target["expr"]) for panel in shown(board) for target in panel["targets"]]
    return queries + [(mark["name"], mark["expr"]) for mark in board["annotations"]["list"]]


def filled(text: str, values: dict[str, str]) -> str:
    """With the variables' values in their places, as Grafana has it; a variable that is not known stays."""
    known = GRAFANAS_OWN | values
    return re.sub(r"\$\{(\w+)\}|\$(\w+)", lambda found: known.get(found[1] or found[2], found[0]), text)


class Prometheus(NamedTuple):
    """A real one, that scrapes a real server."""

    url: str

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer; an error fails the test."""
        try:
            with urllib.request.urlopen(
                f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=30
            ) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def values(self, expression: str, **at: str) -> list[float]:
        """What a query finds, without what is not a number; now, or at a time."""
        found = [float(one["value"][1]) for one in self.get("query", query=expression, **at)["result"]]
        return [value for value in found if not math.isnan(value)]

    def options(self, query: str, regex: str) -> list[str]:
        """What a variable offers."""
        if found := re.fullmatch(r"label_values\((.*), (\w+)\)", query):
            texts = self.get(f"label/{found[2]}/values", **{"match[]": found[1]})
        else:
            asked = re.fullmatch(r"query_result\((.*)\)", query)
            assert asked, query
            texts = [_as_grafana_lists(one["metric"]) for one in self.get("query", query=asked[1])["result"]]
        kept = (
            [re.search(regex.strip("/"), text) for text in texts] if regex else [re.match(".*", text) for text in texts]
        )
        return [found[1] if found.re.groups else found[0] for found in kept if found]


def _as_grafana_lists(metric: dict[str, str]) -> str:
    """A series as the text that a variable's regular expression is given."""
    labels = ",".join(f'{name}="{value}"' for name, value in metric.items() if name != "__name__")
    return f"{metric.get('__name__', '')}{{{labels}}}"


def choices(prometheus: Prometheus, board: Any) -> list[dict[str, str]]:
    """Every way to set the variables that their queries allow; of a variable that stands for all, all that it stands
    for."""
    ways: list[dict[str, str]] = [{}]
    for variable in variables(board):
        if variable["type"] == "datasource":
            continue
        further = []
        for way in ways:
            query = filled(variable["query"]["query"], way)
            found = prometheus.options(query, variable.get("regex", ""))
            if variable["name"] == "window":
                found = [window for window in found if window == variable["current"]["value"]]
            further += [
                {**way, variable["name"]: value}
                for value in ([variable["allValue"]] if "allValue" in variable else found)
            ]
        assert further, f"the variable {variable['name']} offers nothing"
        ways = further
    return ways
