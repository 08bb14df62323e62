"""Rewrites the generated tables of docs/reference from the code. `make docs` runs it; a test checks that nothing is
left to do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from metrics_server.errors import Reason
from metrics_server.series.families import COUNTER, MODEL, SELDON, Family
from metrics_server.settings import DEFAULTS, ENVIRONMENT_PREFIX, HELP, OPTIONS, written
from metrics_server.telemetry import KafkaTelemetry, Telemetry

REFERENCE = Path(__file__).resolve().parent / "reference"
BEGIN, END = "<!-- generated -->", "<!-- end -->"

# Labels that are part of a sample's name in the format, and say nothing about it.
_FORMAT_LABELS = {"le"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def settings() -> str:
    """Every setting with its option, variable and default."""
    return table(("Option", "Environment variable", "Default", "Meaning"), (_setting(name) for name in HELP))


def _setting(name: str) -> tuple[str, str, str, str]:
    default = DEFAULTS[name]
    option = f"`--{name}`, `--no-{name}`" if isinstance(default, bool) else f"`--{name}`"
    variable = f"`{ENVIRONMENT_PREFIX}{name.upper()}`"
    if name not in OPTIONS:
        option, variable = f"`{name}:` in the file only", ""
    return option, variable, f"`{text}`" if (text := written(default)) else "empty", HELP[name]


def families(catalogue: dict[str, Family]) -> str:
    """The families of a part of the catalogue."""
    return _family_table((name, family.type, family.labels, family.help) for name, family in catalogue.items())


def telemetry() -> str:
    """The families that the server keeps about itself."""
    return _family_table(_telemetry())


def _telemetry() -> Iterator[tuple[str, str, Sequence[str], str]]:
    telemetry = Telemetry()
    KafkaTelemetry(telemetry.registry)
    for family in telemetry.registry.collect():
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
    """The name as the page shows it."""
    return f"{name}_total" if kind == COUNTER else name


def errors() -> str:
    """Every reason to refuse an event."""
    return table(
        ("Reason", "Status", "Meaning"),
        ((f"`{reason.label}`", str(reason.status), reason.meaning) for reason in Reason),
    )


def pages() -> dict[Path, list[str]]:
    """The generated parts of each page, in their order."""
    return {
        REFERENCE / "settings.md": [settings()],
        REFERENCE / "metrics.md": [families(MODEL), families(SELDON), telemetry()],
        REFERENCE / "errors.md": [errors()],
    }


def rewritten(text: str, parts: Sequence[str]) -> str:
    """The page with its generated parts replaced.

    Raises:
        ValueError: it has more or fewer places for them.
    """
    places = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if (count := len(places.findall(text))) != len(parts):
        message = f"{count} generated parts are marked, {len(parts)} are to be filled"
        raise ValueError(message)
    left = iter(parts)
    return places.sub(lambda _: f"{BEGIN}\n{next(left)}\n{END}", text)


def main() -> None:
    """Rewrites the pages that have changed."""
    for path, parts in pages().items():
        before = path.read_text()
        if (after := rewritten(before, parts)) != before:
            path.write_text(after)


if __name__ == "__main__":
    main()
