"""The command line of `metrics-server replay`: values on standard output, progress and refusals on standard error."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from tqdm import tqdm

from metrics_server.commands.replay.engine import SHOWN_REFUSALS, Place, Replay, time_of, words_of
from metrics_server.commands.replay.location import BadFile
from metrics_server.commands.replay.result import ReplayResult
from metrics_server.commands.replay.source import Source
from metrics_server.errors import BadConfiguration, Rejected
from metrics_server.ingest.pod import default_labels
from metrics_server.metrics.window import seconds_of
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
MOST_PROCESSES = 64  # what one process can hand out to and add up is less than so many read
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HEAD = ("name", "labels", "value", "lower", "upper", "support")


def main(arguments: Sequence[str]) -> int:
    """Runs the command and returns its exit status.

    0 when all records were taken, 1 when some were refused, some files could not be read, or there are no records, 2
    when nothing could be done, 130 after Ctrl-C.
    """
    options = vars(_parser().parse_args(arguments))
    location, step, written = options.pop("file"), options.pop("step"), _FORMATS[options.pop("format")]
    processes: int = options.pop("processes")
    try:
        time = time_of(options.pop("time"))
        settings = load(words_of(options), os.environ)
        replayed = _Replayed(location, time, settings, seconds_of(step) if step else 0, processes)
        if text := written(replayed.results):
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
    return 0 if replayed.is_whole else 1


class _Replayed:
    """Replays all that lies at a location, with a bar of progress, and says on standard error what went wrong.

    Attributes:
        results: the values.
        is_whole: whether there are records, and all of them were taken.
    """

    def __init__(self, location: str, time: float | None, settings: Settings, step: int, processes: int) -> None:
        defaults: Labels = default_labels(os.environ)
        self._replay = Replay(settings, defaults, step=step, on_refused=self._refused)
        self._source = Source(location, time, on_file=self._progress)
        with tqdm(total=self._source.size, unit="B", unit_scale=True, disable=None, leave=False) as self._bar:
            self._replay.take(self._source.blocks(), self._progress, processes)
        self._source.check(self._replay.total)
        for remark in (*self._replay.remarks(), *self._source.remarks()):
            print(f"metrics-server replay: {remark}", file=sys.stderr)
        self.results = self._replay.results()
        self.is_whole = bool(self._replay.total) and not self._replay.refused and not self._source.unread

    def _progress(self) -> None:
        self._bar.update(self._source.position - self._bar.n)

    def _refused(self, place: Place, error: Rejected) -> None:
        if self._replay.refused.total() <= SHOWN_REFUSALS:
            tqdm.write(f"{place.file}:{place.number}: {error.reason.label}: {error.detail}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="metrics-server replay",
        description="Computes what a server would show, from files of predictions and truths.",
        epilog=(
            "A setting may also come from the environment or the --config file of a server; see metrics-server --help."
        ),
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        help="JSON, CSV or Parquet; a directory of such files; or a URL: s3://, gs://, abfs://, file://",
    )
    parser.add_argument(
        "--time",
        default="",
        metavar="TIMESTAMP",
        help="of records of platforms that state none (default: the date of their file)",
    )
    parser.add_argument(
        "--step",
        default="",
        metavar="DURATION",
        help="show the history too, in steps of so long by prediction time: 1d, 1h",
    )
    parser.add_argument(
        "--processes",
        type=_count,
        default=1,
        metavar="N",
        help="that read lines, for this one to count; 1 for none beside it (default: 1)",
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


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_PROCESSES:
        raise argparse.ArgumentTypeError(f"want a number from 1 to {MOST_PROCESSES}, got {text!r}")
    return int(text)


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
