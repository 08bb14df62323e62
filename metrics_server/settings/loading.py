"""Reads settings from the command line, the environment and the configuration file, and explains what is wrong."""

from __future__ import annotations

import argparse
import logging
import re
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_args, get_origin, get_type_hints

import msgspec
import yaml

from metrics_server import __version__
from metrics_server.errors import BadConfiguration
from metrics_server.settings.deployment import Deployment
from metrics_server.settings.objectives import ObjectiveEntry
from metrics_server.settings.settings import Settings
from metrics_server.settings.value_matrix import ValueMatrixEntry

logger = logging.getLogger(__name__)

ENVIRONMENT_PREFIX = "METRICS_SERVER_"
ANCESTOR_MODE = "MetricsServer"

_SHOWN_CHARACTERS = 200  # of a list that is wrong
_METAVARS = {int: "N", float: "NUMBER", tuple: "A,B"}
HELP: dict[str, str] = {
    name: hint.__metadata__[-1] for name, hint in get_type_hints(Settings, include_extras=True).items()
}
DEFAULTS: dict[str, Any] = {name: getattr(Settings(), name) for name in HELP}
ENTRIES: dict[str, type] = {"deployments": Deployment, "objectives": ObjectiveEntry}  # lists, only in the file
PARTS: dict[str, type] = {**ENTRIES, "value_matrix": ValueMatrixEntry}
OPTIONS = [name for name in HELP if name not in ENTRIES]


def written(value: Any) -> str:
    """A value as it is set on the command line."""
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadConfiguration(message)


def parser() -> argparse.ArgumentParser:
    """The command line, made from the fields of `Settings`."""
    made = _Parser(
        prog="metrics-server",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Pairs predictions with later truth and exposes live quality metrics of served models.",
        epilog="Every option can be set as METRICS_SERVER_<OPTION> in the environment"
        " or as a key of the --config file.\n"
        "Hyphens and underscores in options are the same. A switch is turned off by --no-<option>.\n"
        "`metrics-server simulate --help` tells about the demonstration, `metrics-server replay --help` about"
        " computing from a file,\n`metrics-server migrate --help` about moving to another store.",
        argument_default=argparse.SUPPRESS,
        add_help=True,
    )
    made.add_argument("--version", action="version", version=f"metrics-server {__version__}")
    made.add_argument("--config", metavar="FILE", help="YAML file with any of these settings")
    for name in OPTIONS:
        default = DEFAULTS[name]
        text = HELP[name].replace("%", "%%") + (f" (default: {shown})" if (shown := written(default)) else "")
        spellings = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}"))
        if isinstance(default, bool):
            made.add_argument(*spellings, action=argparse.BooleanOptionalAction, help=text)
        else:
            made.add_argument(*spellings, metavar=_METAVARS.get(type(default), "TEXT"), help=text)
    return made


def load(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """The settings from command line, environment and configuration file.

    Raises:
        BadConfiguration: something cannot be understood; the message names it.
    """
    words = list(arguments)
    drop_in = bool(words) and words[-1] == ANCESTOR_MODE
    options, left = parser().parse_known_args(words[:-1] if drop_in else words)
    if left and not drop_in:
        raise BadConfiguration(f"unrecognized arguments: {' '.join(left)}")
    if left:
        logger.warning("Ignored arguments: %s", " ".join(left))
    given = vars(options)
    values = _from_file(given.pop("config", None) or environment.get(f"{ENVIRONMENT_PREFIX}CONFIG"))
    values |= {
        name: environment[key] for name in OPTIONS if (key := f"{ENVIRONMENT_PREFIX}{name.upper()}") in environment
    }
    values |= given
    if "http_port" not in values and environment.get("PORT"):
        values["http_port"] = environment["PORT"]
    if "log_level" not in values and environment.get("CESERVER_LOGLEVEL"):  # the ancestor's
        values["log_level"] = environment["CESERVER_LOGLEVEL"]
    return _converted(values)


def config_file(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """The path of the configuration file, "" for none."""
    given, _ = parser().parse_known_args(list(arguments))
    return getattr(given, "config", "") or environment.get(f"{ENVIRONMENT_PREFIX}CONFIG", "")


# What PyYAML raises of a scalar that does not fit its tag, such as `2026-02-30` or `!!bool x`, and of endless nesting.
_MISFITS = (ValueError, LookupError, AttributeError, RecursionError)


def _from_file(path: str | None) -> dict[str, Any]:
    if not path:
        return {}
    try:
        content = yaml.safe_load(Path(path).read_bytes()) or {}
    except (OSError, yaml.YAMLError, *_MISFITS) as error:
        raise BadConfiguration(f"--config {path}: {error}") from error
    if not isinstance(content, dict):
        raise BadConfiguration(f"--config {path}: want a mapping of settings")
    content = {str(name).replace("-", "_"): value for name, value in content.items()}
    if unknown := [name for name in content if name not in DEFAULTS]:
        raise BadConfiguration(f"--config {path}: unknown settings: {', '.join(unknown)}")
    return content


def _converted(values: dict[str, Any]) -> Settings:
    for name, value in values.items():
        if isinstance(DEFAULTS[name], tuple) and isinstance(value, str):
            values[name] = [part.strip() for part in value.split(",") if part.strip()]
    try:
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise BadConfiguration(_explained(str(error), values)) from error
    except UnicodeEncodeError as error:
        raise BadConfiguration(f"{error.object!a} in a setting is no valid Unicode") from error


def _explained(error: str, given: Any) -> str:
    """The error of msgspec for who set it: `Expected `int` >= 1 - at `$.max_series`` becomes
    `--max_series 0: want a whole number from 1`.
    """
    _, is_of_key, place = error.rstrip("`").partition(" - at `key` in `$.")
    if is_of_key:
        return f"--{place}: want a text for the name of each member"
    fault, _, place = error.rstrip("`").partition(" - at `$.")
    if not fault.startswith("Expected"):
        return f"--{place}: {fault}"
    steps = re.findall(r"\w+", place)
    for step in steps:
        given = given[int(step) if step.isdecimal() else step]
    element = re.compile(r"\[\d+\]$")  # it is shown itself, so its place is not
    return (
        f"--{element.sub('', place)}{_shown(given)}: want {_wanted(*(step for step in steps if not step.isdecimal()))}"
    )


def _shown(given: Any) -> str:
    """What was set, cut where YAML's references make it endless; nothing for what is empty, or a number that Python
    does not write.
    """
    if given in ("", []):
        return ""
    try:
        return f" {reprlib.repr(given)[:_SHOWN_CHARACTERS] if isinstance(given, list | dict) else given}"
    except ValueError:
        return ""


def _wanted(*steps: str) -> str:
    """Tells what is wanted of a field, or of a part of it, as its type says."""
    owner = PARTS[steps[-2]] if len(steps) > 1 else Settings
    hint = get_type_hints(owner, include_extras=True)[steps[-1]]
    annotated = hint if get_origin(hint) is Annotated else get_args(hint)[0]
    return next(text for text in annotated.__metadata__ if isinstance(text, str))
