"""The command line of `metrics-server replay`: values on standard output, progress and refusals on standard error."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from tqdm import tqdm

from metrics_server.errors import BadConfiguration, Rejected
from metrics_server.ingest.pod import default_labels
from metrics_server.metrics.window import seconds_of
from metrics_server.replay.engine import SHOWN_REFUSALS, Replay, words_of
from metrics_server.replay.result import ReplayResult
from metrics_server.replay.source import BadFile, opened
from metrics_server.series.series import Labels
from metrics_server.settings import DEFAULTS, HELP, Settings, load

# The settings that decide what values come out; the others are of no consequence here.
SETTINGS = (
    "storage_uri",
    "threshold",
    "class_names",
    "max_classes",
    "max_exported_classes",
    "min_support",
    "score_models",
    "slices",
    "max_slices",
    "max_series",
    "allow_pickle",
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HEAD = ("name", "labels", "value", "lower", "upper", "support")


def main(arguments: Sequence[str]) -> int:
    """Runs the command and returns its exit status.

    0 when all records were taken, 1 when some were refused or there are none, 2 when nothing could be done, 130 after
    Ctrl-C.
    """
    options = vars(_parser().parse_args(arguments))
    path, step, written = Path(options.pop("file")), options.pop("step"), _FORMATS[options.pop("format")]
    try:
        settings = load(words_of(options), os.environ)
        replayed = _replayed(path, settings, seconds_of(step) if step else 0)
        if text := written(replayed.results()):
            print(text, flush=True)
    except (BadConfiguration, BadFile) as error:
        print(f"metrics-server replay: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # as of `| head`; what is left to write goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 1 if replayed.refused or not replayed.total else 0


def _replayed(path: Path, settings: Settings, step: int) -> Replay:
    def refused(number: int, error: Rejected) -> None:
        if replayed.refused.total() <= SHOWN_REFUSALS:
            tqdm.write(f"{path}:{number}: {error.reason.label}: {error.detail}", file=sys.stderr)

    defaults: Labels = default_labels(os.environ)
    replayed = Replay(settings, defaults, step=step, on_refused=refused)
    with opened(path) as source, tqdm(total=source.size, unit="B", unit_scale=True, disable=None, leave=False) as bar:
        replayed.take(source.lines, on_progress=lambda: bar.update(source.position() - bar.n))
    for remark in replayed.remarks():
        print(f"metrics-server replay: {remark}", file=sys.stderr)
    return replayed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="metrics-server replay",
        description="Computes what a server would show, from a file of predictions and truths.",
        epilog=(
            "A setting may also come from the environment or the --config file of a server; see metrics-server --help."
        ),
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "file", metavar="FILE", help="records, in a file named .jsonl, .csv, .jsonl.gz, .csv.gz or .parquet"
    )
    parser.add_argument(
        "--step",
        default="",
        metavar="DURATION",
        help="show the history too, in steps of so long by prediction time: 1d, 1h",
    )
    parser.add_argument("--format", default="table", choices=list(_FORMATS), help="of what is printed (default: table)")
    parser.add_argument("--config", metavar="FILE", help="YAML file with the settings of a server")
    for name in SETTINGS:
        spellings = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}"))
        if isinstance(DEFAULTS[name], bool):
            parser.add_argument(*spellings, action=argparse.BooleanOptionalAction, help=HELP[name])
        else:
            parser.add_argument(*spellings, metavar="VALUE", help=HELP[name].replace("%", "%%"))
    return parser


def _json(results: Sequence[ReplayResult]) -> str:
    return msgspec.json.format(msgspec.json.encode(results), indent=2).decode()


def _table(results: Iterable[ReplayResult]) -> str:
    return "\n\n".join(map(_text, results))


def _text(result: ReplayResult) -> str:
    """Writes a series with its values, and of each step those without labels, which concern all predictions."""
    names = {name: result.get(name) for name in ("namespace", "deployment", "predictor", "model", "slice")}
    series = "  ".join(f"{name}={value}" for name, value in names.items() if value)
    title = f"{series or 'no labels'}  ({result['task'] or 'nothing labelled'}, support {result['support']:,.0f})"
    lines = [title, *_aligned([HEAD, *map(_cells, result["values"])])]
    if points := result.get("points"):
        steps = [
            (_date(point["from"]), *_cells(value))
            for point in points
            for value in point["values"]
            if not value["labels"]
        ]
        lines += ["", *_aligned([("from", *HEAD), *steps])]
    return "\n".join(lines)


def _cells(value: Mapping[str, Any]) -> tuple[str, ...]:
    labels = ",".join(f'{name}="{label}"' for name, label in value["labels"].items())
    numbers = value["value"], value.get("lower"), value.get("upper"), value["support"]
    return value["name"], labels, *map(_number, numbers)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.6g}"


def _date(seconds: int) -> str:
    return (EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M")


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Writes rows as lines; text to the left, and the four numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    texts = len(rows[0]) - 4
    for row in rows:
        cells = [
            cell.ljust(width) if at < texts else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


_FORMATS: dict[str, Callable[[Sequence[ReplayResult]], str]] = {"table": _table, "json": _json}
