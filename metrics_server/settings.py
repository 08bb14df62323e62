"""Settings: one table of fields feeds the command line, the environment, the configuration file and the docs.

A value given on the command line wins over METRICS_SERVER_<NAME> in the environment, which wins over --config. Every
option of Seldon's `adserver MetricsServer` is taken with its spelling and meaning.
"""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NoReturn, get_args, get_origin, get_type_hints

import msgspec
import yaml
from msgspec import Meta

from metrics_server import __version__
from metrics_server.api.exposure import Exposure
from metrics_server.errors import BadConfiguration
from metrics_server.ingest.cloudevent import KINDS, WRAPPED_TYPE
from metrics_server.ingest.place import Place, place_of
from metrics_server.ingest.sender_rules import RulesOf, SenderRules, as_sent, row_task_of
from metrics_server.metrics.custom_metric import NAME_PATTERN, names_asked_for
from metrics_server.metrics.window import check_window, seconds_of
from metrics_server.series.series import REVISION, Build, Labels, Scoring

logger = logging.getLogger(__name__)

ENVIRONMENT_PREFIX = "METRICS_SERVER_"
ANCESTOR_MODE = "MetricsServer"


# The types of settings: what may be set, and how that is told to who set something else.
Text = Annotated[str, "a text"]
Texts = Annotated[tuple[str, ...], "texts, separated by commas"]
Switch = Annotated[bool, "true or false"]
PositiveInt = Annotated[int, Meta(ge=1), "a whole number from 1"]
Port = Annotated[int, Meta(ge=1, le=65535), "a port from 1 to 65535"]
Share = Annotated[float, Meta(ge=0, le=1), "a number from 0 to 1"]
Seconds = Annotated[float, Meta(ge=0), "seconds from 0"]
Duration = Annotated[str, Meta(pattern=r"^\s*[0-9]*[1-9][0-9]*[smhd]\s*$"), "a duration such as 90s, 15m, 1h or 35d"]
Exposed = Annotated[Exposure, "essential, standard or full"]
LogFormat = Annotated[str, Meta(pattern="^(text|json)$"), "text or json"]
AbsentReward = Annotated[Literal["none", "zero"], "none or zero"]
Durations = Annotated[tuple[Duration, ...], Meta(min_length=1), "durations such as 1h, separated by commas"]
# Names as their standards have them: a token (RFC 9110, 5.6.2), an attribute (CloudEvents 1.0.2, naming conventions).
_IN_EVENT = "header:[A-Za-z0-9!#$%&'*+.^_`|~-]+|attribute:[a-z0-9]+"
IdPlace = Annotated[
    str,
    Meta(pattern=rf"^({_IN_EVENT}|body:[^.\s]+(\.[^.\s]+)*)$"),
    "header:NAME, attribute:NAME in lower case, or body:PATH such as body:meta.id",
]
IdPlaces = Annotated[tuple[IdPlace, ...], "header:NAME, attribute:NAME or body:PATH, separated by commas"]
PredictorPlace = Annotated[
    str,
    Meta(pattern=rf"^({_IN_EVENT}|annotation:\S+|tag:\S.*)$"),
    "annotation:NAME, header:NAME, attribute:NAME in lower case, or tag:NAME",
]
PredictorPlaces = Annotated[
    tuple[PredictorPlace, ...], "annotation:NAME, header:NAME, attribute:NAME or tag:NAME, separated by commas"
]
_CUSTOM = "for Prometheus that do not begin with model_, metrics_server_, seldon_metric_ or __"
CustomName = Annotated[str, Meta(pattern=rf"^(\*|{NAME_PATTERN})$"), "a name, or * for all"]
CustomNames = Annotated[tuple[CustomName, ...], f"names {_CUSTOM}, separated by commas, or * for all"]
PathPrefix = Annotated[str, Meta(pattern=r"^(/[A-Za-z0-9._~-]+)*$"), "a path such as /seldon-events"]
LogLevel = Annotated[
    str, Meta(pattern=f"(?i)^({'|'.join(logging.getLevelNamesMapping())})$"), "DEBUG, INFO, WARNING or ERROR"
]


class Deployment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the predictions of some deployments are scored and compared; a part left out matches any. Only in the
    configuration file.
    """

    namespace: Text = ""
    deployment: Text = ""
    predictor: Text = ""
    model: Text = ""
    storage_uri: Text | None = None
    threshold: Share | None = None
    class_names: Texts | None = None
    max_classes: PositiveInt | None = None
    absent_reward: AbsentReward | None = None
    baseline: Text | None = None  # the predictor that the others of the deployment are compared with
    expose: Exposed | None = None
    request_id_from: IdPlaces | None = None
    predictor_from: PredictorPlaces | None = None
    custom_metrics: CustomNames | None = None

    @property
    def is_of_whole_deployments(self) -> bool:
        return not (self.predictor or self.model)

    def matches(self, labels: Labels) -> bool:
        wanted = (self.namespace, self.deployment, self.predictor, self.model)
        return all(want in ("", got) for want, got in zip(wanted, labels, strict=True))


Deployments = Annotated[tuple[Deployment, ...], "a list of deployments"]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set. A field is an option, an environment variable and a key of the configuration file."""

    host: Annotated[Text, "address to listen on; 0.0.0.0 for all"] = "127.0.0.1"
    http_port: Annotated[Port, "port to listen on; without it PORT from the environment counts (Knative)"] = 8080
    protocol: Annotated[Text, "name answered on /protocol; the payload's own protocol is recognised"] = (
        "seldonfeedback.http"
    )
    model_name: Annotated[Text, "name of this server in its log"] = "model"
    storage_uri: Annotated[
        Text, "metric model: auto, or the dotted path of a class; adserver.cm_models.* are aliases of cm_models.*"
    ] = "auto"
    threshold: Annotated[Share, "lowest score of class 1 that counts as positive, for BinaryMetrics"] = 0.5
    class_names: Annotated[Texts, "names of the classes in the order of their indexes, separated by commas"] = ()
    reply_url: Annotated[
        Text,
        "where to send the reply event of each feedback besides, with --event_type and --event_source; a dead"
        " one costs nothing",
    ] = ""
    event_type: Annotated[Text, "type of reply events; with --event_source feedback is answered by such an event"] = ""
    event_source: Annotated[Text, "source of reply events"] = ""
    elasticsearch_uri: Annotated[
        Text,
        "where the request logger wrote predictions; a truth that waits has its own looked up there, beside"
        " the request path",
    ] = ""
    elasticsearch_index: Annotated[
        Text,
        "the request logger's index for predictions; a part that an event leaves open is unknown-namespace and so on",
    ] = "inference-log-seldon-{namespace}-{service}-{endpoint}"
    elasticsearch_ca: Annotated[
        Text, "file with the certificates that Elasticsearch is verified by, in place of those that the machine trusts"
    ] = ""
    kafka_brokers: Annotated[Text, "Kafka brokers to consume from, as host:port separated by commas"] = ""
    kafka_topic: Annotated[
        Text, "topics to consume, separated by commas, or one regular expression that starts with ^"
    ] = "seldon"
    kafka_group: Annotated[Text, "consumer group; servers of one group share the records, and must share a store"] = (
        "feedback-metrics-server"
    )
    kafka_config: Annotated[
        Text, "file with settings of librdkafka as name=value lines: security.protocol, sasl.*, ssl.* and others"
    ] = ""
    store: Annotated[
        Text, "where the state lives: sqlite:///file, sqlite:////absolute/file, postgresql://… or memory://"
    ] = "sqlite:///metrics-server.db"
    workers: Annotated[PositiveInt, "processes that share the port, one for each core; needs postgresql://"] = 1
    windows: Annotated[Durations, "windows of the gauges, separated by commas"] = ("1h", "1d", "7d", "30d")
    history: Annotated[Duration, "how long sums are kept, by prediction time"] = "400d"
    retention: Annotated[Duration, "how long a prediction stays open to truth and corrections, from receipt"] = "35d"
    dedupe_retention: Annotated[Duration, "how long the key of an event without a request id is kept"] = "1d"
    max_pending: Annotated[
        PositiveInt,
        "rows, and further ids of rows, kept at most for pairing and correction; beyond it the oldest go first",
    ] = 5_000_000
    max_pending_bytes: Annotated[PositiveInt, "about what they may take on disk; beyond it the oldest go first"] = (
        4 * 2**30
    )
    max_dedupe_keys: Annotated[
        PositiveInt, "keys of events without a request id kept at most; beyond it the oldest go first"
    ] = 50_000_000
    score_models: Annotated[
        Texts, "models, as events name them, whose predictions count, separated by commas; all"
    ] = ()
    slices: Annotated[
        Texts,
        "dimensions to slice by: name=attribute:…, name=tag:…, name=header:… or name=annotation:…, separated by commas",
    ] = ()
    max_slices: Annotated[
        PositiveInt, "slices of a model in one dimension at most; the rest count as name=__other__"
    ] = 100
    absent_reward: Annotated[
        AbsentReward,
        "what feedback with a truth and without a reward says of it: none, or zero where senders leave zeros out, as"
        " JSON of protobuf does",
    ] = "none"
    request_id_from: Annotated[
        IdPlaces,
        "where the id to join on stands, the first that is there: header:NAME, attribute:NAME or body:PATH, separated"
        " by commas; then ids belong to their deployment, which truths have to name",
    ] = ()
    predictor_from: Annotated[
        PredictorPlaces,
        "where the name of the predictor stands, the first that is there: annotation:NAME, header:NAME, attribute:NAME"
        " or tag:NAME, separated by commas; else as events state it",
    ] = ()
    custom_metrics: Annotated[
        CustomNames,
        "metrics in meta.metrics of Seldon's responses to expose, by their keys, separated by commas; * for all, of"
        " models that are trusted",
    ] = ()
    series_retention: Annotated[Duration, "after how long without events a series is forgotten"] = "30d"
    max_series: Annotated[PositiveInt, "series at most; events that need one more are refused"] = 1000
    max_classes: Annotated[PositiveInt, "classes of a series at most; later ones count as __other__"] = 1000
    max_exported_classes: Annotated[PositiveInt, "classes of a series with gauges of their own at most"] = 100
    expose: Annotated[
        Exposed,
        "how much of a series is on /v1/metrics: essential (what alerts ask for), standard (all but values of classes"
        " and the like) or full",
    ] = Exposure.FULL
    min_support: Annotated[
        PositiveInt, "values that rest on fewer labelled rows, of the class for a class, are not shown"
    ] = 1
    max_body_bytes: Annotated[PositiveInt, "size of a request body at most, after decompression"] = 8 * 2**20
    max_bodies_bytes: Annotated[PositiveInt, "size of all bodies being received at most; beyond it 503"] = 64 * 2**20
    max_queue_events: Annotated[PositiveInt, "events waiting to be applied at most; beyond it 503"] = 20_000
    max_connections: Annotated[PositiveInt, "open connections at most; further ones are closed at once"] = 2000
    events_prefix: Annotated[
        PathPrefix, "a path, such as /seldon-events, at which and below which events are taken as at /"
    ] = ""
    token_file: Annotated[
        Text, "file with tokens, one a line, of which who sends events or retires a series must show one"
    ] = ""
    send_token_file: Annotated[Text, "file with tokens for sending events alone, beside those of --token_file"] = ""
    read_token_file: Annotated[
        Text,
        "file with tokens of which who reads /v1/metrics, the JSON API or the page must show one; empty for anyone",
    ] = ""
    delete_token_file: Annotated[Text, "file with tokens for retiring series alone, beside those of --token_file"] = ""
    tls_cert: Annotated[Text, "file with the certificate chain to serve HTTPS with, with --tls_key"] = ""
    tls_key: Annotated[Text, "file with the certificate's private key"] = ""
    tls_client_ca: Annotated[
        Text, "file with the authorities of client certificates, one of which every request but probes then needs"
    ] = ""
    tls_clients: Annotated[
        Texts,
        "names in client certificates, separated by commas, of those who may send events and retire series; who reads"
        " then needs none",
    ] = ()
    shutdown_delay: Annotated[Seconds, "seconds to go on serving after SIGTERM, while /readyz already says 503"] = 0.0
    drain_seconds: Annotated[Seconds, "seconds at most to apply and answer what was received before the shutdown"] = (
        20.0
    )
    seldon_metrics: Annotated[Switch, "expose the ancestor's seldon_metric_* counters too"] = True
    allow_pickle: Annotated[Switch, "let --storage_uri name a local pickle, which can run any code"] = False
    log_format: Annotated[
        LogFormat, "text, or json for one object a line, with the trace of an event that a line is about"
    ] = "text"
    log_level: Annotated[LogLevel, "least severe messages to log: DEBUG, INFO, WARNING or ERROR"] = "INFO"
    deployments: Annotated[
        Deployments, "metric model, threshold and class names by deployment; only in the configuration file"
    ] = ()

    def __post_init__(self) -> None:
        """Checks what the types of single fields cannot say; raises BadConfiguration."""
        if seconds_of(self.series_retention) < 2 * 3600:
            raise BadConfiguration(
                f"--series_retention {self.series_retention}: want at least 2h; when a series was used is noted"
                f" once an hour"
            )
        for window in self.windows:
            check_window(window, seconds_of(self.history))
        if self.event_type in (*KINDS, WRAPPED_TYPE):
            raise BadConfiguration(
                f"--event_type {self.event_type} is a type of events this server takes in: replies would come"
                f" back as input"
            )
        if bool(self.tls_cert) != bool(self.tls_key):
            raise BadConfiguration("--tls_cert and --tls_key: want both or none")
        if self.tls_client_ca and not self.tls_cert:
            raise BadConfiguration("--tls_client_ca: want --tls_cert and --tls_key too")
        if self.tls_clients and not self.tls_client_ca:
            raise BadConfiguration("--tls_clients: want --tls_client_ca too, to verify their certificates by")
        if self.kafka_brokers and not (self.kafka_topic.strip(", ") and self.kafka_group):
            raise BadConfiguration("--kafka_topic, --kafka_group: want both with --kafka_brokers")
        for at, entry in enumerate(self.deployments):
            places = entry.request_id_from is not None or entry.predictor_from is not None
            if places and not entry.is_of_whole_deployments:
                raise BadConfiguration(
                    f"--deployments[{at}]: request_id_from and predictor_from hold for whole deployments; want them in"
                    f" an entry without predictor and model"
                )

    @property
    def model_paths(self) -> set[str]:
        """The metric models that are named."""
        return {
            path
            for path in (self.storage_uri, *(entry.storage_uri for entry in self.deployments))
            if path and path != "auto"
        }

    def scoring_of(self, labels: Labels) -> Scoring:
        """Tells how predictions with these labels are scored: by the first entry of `deployments` that matches."""
        found = self._entry_of(labels)
        names = self.class_names if found.class_names is None else found.class_names
        return Scoring(
            storage_uri=found.storage_uri or self.storage_uri,
            threshold=self.threshold if found.threshold is None else found.threshold,
            class_names=names,
            max_classes=self.max_classes if found.max_classes is None else found.max_classes,
            revision=REVISION,
        )

    def sender_rules(self, build: Build) -> RulesOf:
        """Makes the rules by which events are read, by their labels; `build` makes metric models."""
        row_tasks = {path: row_task_of(path, build) for path in self.model_paths}
        if not any(row_tasks.values()) and not self._tells_of_senders:
            return as_sent

        @lru_cache(4096)
        def rules_of(labels: Labels) -> SenderRules:
            found, whole = self._entry_of(labels), self._whole_entry_of(labels)
            return SenderRules(
                absent_reward=0.0 if (found.absent_reward or self.absent_reward) == "zero" else None,
                row_task=row_tasks.get(found.storage_uri or self.storage_uri, ""),
                request_id_from=_places(whole.request_id_from, self.request_id_from),
                predictor_from=_places(whole.predictor_from, self.predictor_from),
                custom_metrics=self.custom_metrics_of(labels),
            )

        return rules_of

    def exposure_of(self, labels: Labels) -> Exposure:
        """Tells how much of the series with these labels is exposed."""
        return self._entry_of(labels).expose or self.expose

    def custom_metrics_of(self, labels: Labels) -> frozenset[str]:
        """Tells which custom metrics of the series with these labels are exposed."""
        own = self._entry_of(labels).custom_metrics
        return names_asked_for(self.custom_metrics if own is None else own)

    @property
    def _tells_of_senders(self) -> bool:
        """Tells whether anything is set that `sender_rules` has beside the tasks of metric models."""
        parts: tuple[Settings | Deployment, ...] = (self, *self.deployments)
        return any(
            part.absent_reward == "zero" or part.request_id_from or part.predictor_from or part.custom_metrics
            for part in parts
        )

    def declared_baseline(self, labels: Labels) -> str | None:
        """Tells which predictor the others are compared with, by the first entry that matches; None leaves it open."""
        return self._entry_of(labels).baseline

    def _entry_of(self, labels: Labels) -> Deployment:
        return next((entry for entry in self.deployments if entry.matches(labels)), Deployment())

    def _whole_entry_of(self, labels: Labels) -> Deployment:
        """Finds the first entry that holds for all of a deployment: a truth seldom names a predictor and a model."""
        entries = (entry for entry in self.deployments if entry.is_of_whole_deployments)
        return next((entry for entry in entries if entry.matches(labels)), Deployment())


def _places(of_deployment: tuple[str, ...] | None, otherwise: tuple[str, ...]) -> tuple[Place, ...]:
    return tuple(map(place_of, otherwise if of_deployment is None else of_deployment))


_METAVARS = {int: "N", float: "NUMBER", tuple: "A,B"}
HELP: dict[str, str] = {
    name: hint.__metadata__[-1] for name, hint in get_type_hints(Settings, include_extras=True).items()
}
DEFAULTS: dict[str, Any] = {name: getattr(Settings(), name) for name in HELP}
OPTIONS = [name for name in HELP if name != "deployments"]


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


def _from_file(path: str | None) -> dict[str, Any]:
    if not path:
        return {}
    try:
        content = yaml.safe_load(Path(path).read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
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


def _explained(error: str, given: Any) -> str:
    """The error of msgspec for who set it: `Expected `int` >= 1 - at `$.max_series`` becomes
    `--max_series 0: want a whole number from 1`.
    """
    fault, _, place = error.rstrip("`").partition(" - at `$.")
    if not fault.startswith("Expected"):
        return f"--{place}: {fault}"
    steps = re.findall(r"\w+", place)
    for step in steps:
        given = given[int(step) if step.isdecimal() else step]
    shown = "" if given in ("", []) else f" {given}"
    element = re.compile(r"\[\d+\]$")  # it is shown itself, so its place is not
    return f"--{element.sub('', place)}{shown}: want {_wanted(*(step for step in steps if not step.isdecimal()))}"


def _wanted(field: str, part: str = "") -> str:
    """Tells what is wanted of a field, or of a part of a deployment, as its type says."""
    hint = get_type_hints(Deployment if part else Settings, include_extras=True)[part or field]
    annotated = hint if get_origin(hint) is Annotated else get_args(hint)[0]
    return next(text for text in annotated.__metadata__ if isinstance(text, str))


# What may change while a server runs: neither what a series is nor what is paired depends on it.
LIVE = frozenset(("absent_reward", "custom_metrics", "expose", "log_level", "min_support"))
LIVE_OF_DEPLOYMENT = ("absent_reward", "baseline", "custom_metrics", "expose")
MATCHED = ("namespace", "deployment", "predictor", "model")


class Reloaded(NamedTuple):
    """What becomes of changed settings.

    Attributes:
        settings: those that hold from now on.
        taken: names of those that have changed.
        waiting: names of those that need a restart to change.
    """

    settings: Settings
    taken: list[str]
    waiting: list[str]


def reloaded(running: Settings, found: Settings) -> Reloaded:
    """Tells what a server that runs with some settings takes of others."""
    changed = [name for name in HELP if getattr(running, name) != getattr(found, name)]
    taken = [name for name in changed if _is_live(name, running, found)]
    settings = msgspec.structs.replace(running, **{name: getattr(found, name) for name in taken})
    return Reloaded(settings, taken, [name for name in changed if name not in taken])


def _is_live(name: str, running: Settings, found: Settings) -> bool:
    if name == "deployments":
        return _fixed(running.deployments) == _fixed(found.deployments)
    if name == "tls_clients":  # they say nothing without their authority, or with another
        return running.tls_client_ca == found.tls_client_ca
    return name in LIVE


def _fixed(entries: Sequence[Deployment]) -> list[Deployment]:
    """What of entries needs a restart to change. Entries behind all others that have nothing of it change no series:
    the first that matches counts.
    """
    fixed = [msgspec.structs.replace(entry, **dict.fromkeys(LIVE_OF_DEPLOYMENT)) for entry in entries]
    while fixed and msgspec.structs.replace(fixed[-1], **dict.fromkeys(MATCHED, "")) == Deployment():
        fixed.pop()
    return fixed
