"""Rewrites the generated tables of docs/reference and of the chart's README from the code.

`make docs` runs it; a test checks that nothing is left to do.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from metrics_server.errors import Reason
from metrics_server.series.families import COUNTER, MODEL, SELDON, Family
from metrics_server.settings import DEFAULTS, ENVIRONMENT_PREFIX, HELP, OPTIONS, written
from metrics_server.telemetry import all_families

REFERENCE = Path(__file__).resolve().parent / "reference"
CHART = REFERENCE.parents[1] / "deploy/helm"
BEGIN, END = "<!-- generated -->", "<!-- end -->"

# Labels that belong to the format of a histogram, and not to the metric.
_FORMAT_LABELS = {"le"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Writes a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def settings() -> str:
    """Tabulates every setting with its option, variable and default."""
    return table(("Option", "Environment variable", "Default", "Meaning"), (_setting(name) for name in HELP))


def _setting(name: str) -> tuple[str, str, str, str]:
    default = DEFAULTS[name]
    option = f"`--{name}`, `--no-{name}`" if isinstance(default, bool) else f"`--{name}`"
    variable = f"`{ENVIRONMENT_PREFIX}{name.upper()}`"
    if name not in OPTIONS:
        option, variable = f"`{name}:` in the file only", ""
    return option, variable, f"`{text}`" if (text := written(default)) else "empty", HELP[name]


def families(by_name: dict[str, Family]) -> str:
    """Tabulates metric families."""
    return _family_table((name, family.type, family.labels, family.help) for name, family in by_name.items())


def telemetry() -> str:
    """Tabulates the families of the server's own telemetry."""
    return _family_table(_telemetry())


def _telemetry() -> Iterator[tuple[str, str, Sequence[str], str]]:
    for family in all_families():
        labels = {label: None for sample in family.samples for label in sample.labels if label not in _FORMAT_LABELS}
        yield family.name, family.type, tuple(labels), family.documentation


def _family_table(rows: Iterable[tuple[str, str, Sequence[str], str]]) -> str:
    return table(
        ("Name", "Type", "Extra labels", "Help"),
        (
            (f"`{exposed(name, kind)}`", kind, ", ".join(f"`{label}`" for label in labels), text)
            for name, kind, labels, text in rows
        ),
    )


def exposed(name: str, kind: str) -> str:
    """Returns the name of a family as /v1/metrics has it: with `_total` for a counter."""
    return f"{name}_total" if kind == COUNTER else name


def errors() -> str:
    """Tabulates every reason to refuse an event."""
    return table(
        ("Reason", "Status", "Meaning"),
        ((f"`{reason.label}`", str(reason.status), reason.meaning) for reason in Reason),
    )


def chart_values() -> str:
    """Tabulates the values of the Helm chart: defaults from its values, meanings from its schema."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    return table(("Value", "Default", "Meaning"), _values("", schema, defaults))


def _values(prefix: str, schema: dict[str, Any], defaults: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for name, default in defaults.items():
        described = schema["properties"][name]
        if "properties" in described:
            yield from _values(f"{prefix}{name}.", described, default)
        else:
            written_so = json.dumps(default, ensure_ascii=False)
            yield f"`{prefix}{name}`", f"`{written_so}`", described["description"]


def pages() -> dict[Path, list[str]]:
    """Generates the tables of each page, in their order."""
    return {
        REFERENCE / "settings.md": [settings()],
        REFERENCE / "metrics.md": [families(MODEL), families(SELDON), telemetry()],
        REFERENCE / "errors.md": [errors()],
        CHART / "README.md": [chart_values()],
    }


def rewritten(text: str, tables: Sequence[str]) -> str:
    """Replaces the generated tables of a page.

    Raises:
        ValueError: the page has more or fewer places for them.
    """
    places = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if (count := len(places.findall(text))) != len(tables):
        message = f"{count} places of generated tables are marked, there are {len(tables)} tables"
        raise ValueError(message)
    remaining = iter(tables)
    return places.sub(lambda _: f"{BEGIN}\n{next(remaining)}\n{END}", text)


def main(words: Sequence[str]) -> int:
    """Rewrites the pages that have changed; with --check only names them, and fails if there are any."""
    outdated = False
    for path, tables in pages().items():
        before = path.read_text()
        if (after := rewritten(before, tables)) != before:
            outdated = True
            print(path.name)
            if "--check" not in words:
                path.write_text(after)
    return int(outdated and "--check" in words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
