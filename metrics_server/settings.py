"""Settings: one table of fields feeds the command line, the environment, the configuration file and the docs.

A value given on the command line wins over METRICS_SERVER_<NAME> in the environment, which wins over --config. Every
option of Seldon's `adserver MetricsServer` is taken with its spelling and meaning.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_type_hints

import msgspec
import yaml

from metrics_server import __version__
from metrics_server.errors import BadConfiguration
from metrics_server.ingest.cloudevent import KINDS, WRAPPED_TYPE
from metrics_server.metrics.window import check_window, seconds_of
from metrics_server.series.series import REVISION, Labels, Scoring

logger = logging.getLogger(__name__)

ENVIRONMENT_PREFIX = "METRICS_SERVER_"
ANCESTOR_MODE = "MetricsServer"
UNKNOWN = "NOT_IMPLEMENTED"  # what the ancestor writes where it knows nothing


def _help(text: str) -> Any:
    return msgspec.Meta(description=text)


class Deployment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the predictions of some deployments are scored; a part left out matches any. Only in the configuration
    file.
    """

    namespace: str = ""
    deployment: str = ""
    predictor: str = ""
    model: str = ""
    storage_uri: str | None = None
    threshold: float | None = None
    class_names: tuple[str, ...] | None = None
    max_classes: int | None = None

    def matches(self, labels: Labels) -> bool:
        wanted = (self.namespace, self.deployment, self.predictor, self.model)
        return all(want in ("", got) for want, got in zip(wanted, labels, strict=True))


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set. A field is an option, an environment variable and a key of the configuration file."""

    host: Annotated[str, _help("address to listen on; 0.0.0.0 for all")] = "127.0.0.1"
    http_port: Annotated[int, _help("port to listen on; without it PORT from the environment counts (Knative)")] = 8080
    protocol: Annotated[str, _help("name answered on /protocol; the payload's own protocol is recognised")] = (
        "seldonfeedback.http"
    )
    model_name: Annotated[str, _help("name of this server in its log")] = "model"
    storage_uri: Annotated[
        str, _help("metric model: auto, or the dotted path of a class; adserver.cm_models.* are aliases of cm_models.*")
    ] = "auto"
    threshold: Annotated[float, _help("lowest score of class 1 that counts as positive, for BinaryMetrics")] = 0.5
    class_names: Annotated[
        tuple[str, ...], _help("names of the classes in the order of their indexes, separated by commas")
    ] = ()
    reply_url: Annotated[
        str, _help("where to send the reply event of each feedback besides; a dead one costs nothing")
    ] = ""
    event_type: Annotated[
        str, _help("type of reply events; with --event_source feedback is answered by such an event")
    ] = ""
    event_source: Annotated[str, _help("source of reply events")] = ""
    elasticsearch_uri: Annotated[
        str,
        _help(
            "where the request logger wrote predictions; a truth that waits has its own looked up there, beside the request path"
        ),
    ] = ""
    elasticsearch_index: Annotated[
        str,
        _help(
            "the request logger's index for predictions; a part that an event leaves open is unknown-namespace and so on"
        ),
    ] = "inference-log-seldon-{namespace}-{service}-{endpoint}"
    elasticsearch_ca: Annotated[
        str,
        _help(
            "file with the certificates that Elasticsearch is verified by, in place of those that the machine trusts"
        ),
    ] = ""
    kafka_brokers: Annotated[str, _help("Kafka brokers to consume from, as host:port separated by commas")] = ""
    kafka_topic: Annotated[
        str, _help("topics to consume, separated by commas, or one regular expression that starts with ^")
    ] = "seldon"
    kafka_group: Annotated[
        str, _help("consumer group; servers of one group share the records, and must share a store")
    ] = "feedback-metrics-server"
    kafka_config: Annotated[
        str, _help("file with settings of librdkafka as name=value lines: security.protocol, sasl.*, ssl.* and others")
    ] = ""
    store: Annotated[str, _help("where the state lives: sqlite:///file, sqlite:////absolute/file or memory://")] = (
        "sqlite:///metrics-server.db"
    )
    windows: Annotated[tuple[str, ...], _help("windows of the gauges, separated by commas")] = ("1h", "1d", "7d", "30d")
    history: Annotated[str, _help("how long sums are kept, by prediction time")] = "400d"
    retention: Annotated[str, _help("how long a prediction stays open to truth and corrections, from receipt")] = "35d"
    dedupe_retention: Annotated[str, _help("how long the key of an event without a request id is kept")] = "1d"
    max_pending: Annotated[
        int,
        _help("rows, and further ids of rows, kept at most for pairing and correction; beyond it the oldest go first"),
    ] = 5_000_000
    max_pending_bytes: Annotated[int, _help("about what they may take on disk; beyond it the oldest go first")] = (
        4 * 2**30
    )
    max_dedupe_keys: Annotated[
        int, _help("keys of events without a request id kept at most; beyond it the oldest go first")
    ] = 50_000_000
    score_models: Annotated[
        tuple[str, ...], _help("models, as events name them, whose predictions count, separated by commas; all")
    ] = ()
    slices: Annotated[
        tuple[str, ...],
        _help(
            "dimensions to slice by: name=attribute:…, name=tag:…, name=header:… or name=annotation:…, separated by commas"
        ),
    ] = ()
    max_slices: Annotated[
        int, _help("slices of a model in one dimension at most; the rest count as name=__other__")
    ] = 100
    series_retention: Annotated[str, _help("after how long without events a series is forgotten")] = "30d"
    max_series: Annotated[int, _help("series at most; events that need one more are refused")] = 1000
    max_classes: Annotated[int, _help("classes of a series at most; later ones count as __other__")] = 1000
    max_exported_classes: Annotated[int, _help("classes of a series with gauges of their own at most")] = 100
    min_support: Annotated[
        int, _help("values that rest on fewer labelled rows, of the class for a class, are not shown")
    ] = 1
    max_body_bytes: Annotated[int, _help("size of a request body at most, after decompression")] = 8 * 2**20
    max_bodies_bytes: Annotated[int, _help("size of all bodies being received at most; beyond it 503")] = 64 * 2**20
    max_queue_events: Annotated[int, _help("events waiting to be applied at most; beyond it 503")] = 20_000
    max_connections: Annotated[int, _help("open connections at most; further ones are closed at once")] = 2000
    token_file: Annotated[str, _help("file with a token that event senders must present as bearer token")] = ""
    tls_cert: Annotated[str, _help("file with the certificate chain to serve HTTPS with, with --tls_key")] = ""
    tls_key: Annotated[str, _help("file with the certificate's private key")] = ""
    shutdown_delay: Annotated[
        float, _help("seconds to go on serving after SIGTERM, while /readyz already says 503")
    ] = 0.0
    drain_seconds: Annotated[
        float, _help("seconds at most to apply and answer what was received before the shutdown")
    ] = 20.0
    seldon_metrics: Annotated[bool, _help("expose the ancestor's seldon_metric_* counters too")] = True
    allow_pickle: Annotated[bool, _help("let --storage_uri name a local pickle, which can run any code")] = False
    log_level: Annotated[str, _help("least severe messages to log: DEBUG, INFO, WARNING or ERROR")] = "INFO"
    deployments: Annotated[
        tuple[Deployment, ...],
        _help("metric model, threshold and class names by deployment; only in the configuration file"),
    ] = ()

    def __post_init__(self) -> None:
        """Checks what types cannot say; raises BadConfiguration."""
        self._check_times()
        self._check_thresholds()
        if self.event_type in (*KINDS, WRAPPED_TYPE):
            raise BadConfiguration(
                f"--event_type {self.event_type} is a type of events this server takes in: replies would come back as input"
            )
        if bool(self.tls_cert) != bool(self.tls_key):
            raise BadConfiguration("--tls_cert and --tls_key: want both or none")
        if self.kafka_brokers and not (self.kafka_topic.strip(", ") and self.kafka_group):
            raise BadConfiguration("--kafka_topic, --kafka_group: want both with --kafka_brokers")
        if not 0 < self.http_port < 65536:
            raise BadConfiguration(f"--http_port {self.http_port}: want 1 to 65535")
        if self.log_level.upper() not in logging.getLevelNamesMapping():
            raise BadConfiguration(f"--log_level {self.log_level}: want DEBUG, INFO, WARNING or ERROR")
        for name in (
            "max_series",
            "max_classes",
            "max_exported_classes",
            "max_body_bytes",
            "max_bodies_bytes",
            "max_queue_events",
            "max_connections",
            "max_pending",
            "max_pending_bytes",
            "max_dedupe_keys",
            "max_slices",
            "min_support",
        ):
            if getattr(self, name) < 1:
                raise BadConfiguration(f"--{name}: want a positive number")

    def _check_thresholds(self) -> None:
        stated = {"threshold": self.threshold}
        stated |= {
            f"deployments[{at}].threshold": entry.threshold
            for at, entry in enumerate(self.deployments)
            if entry.threshold is not None
        }
        for name, threshold in stated.items():
            if not 0 <= threshold <= 1:  # NaN neither
                raise BadConfiguration(f"--{name} {threshold}: want a number from 0 to 1")

    def _check_times(self) -> None:
        for name in ("history", "retention", "dedupe_retention", "series_retention"):
            try:
                seconds_of(getattr(self, name))
            except BadConfiguration as error:
                raise BadConfiguration(f"--{name}: {error}") from error
        if seconds_of(self.series_retention) < 2 * 3600:
            raise BadConfiguration(
                f"--series_retention {self.series_retention}: want at least 2h; when a series was used is noted once an hour"
            )
        if not self.windows:
            raise BadConfiguration("--windows: want at least one, such as 1h")
        for window in self.windows:
            check_window(window, seconds_of(self.history))

    @property
    def model_paths(self) -> set[str]:
        """The metric models that are named."""
        return {
            path
            for path in (self.storage_uri, *(entry.storage_uri for entry in self.deployments))
            if path and path != "auto"
        }

    def scoring_of(self, labels: Labels) -> Scoring:
        """How predictions with these labels are scored: by the first entry of `deployments` that matches."""
        found = next((entry for entry in self.deployments if entry.matches(labels)), Deployment())
        names = self.class_names if found.class_names is None else found.class_names
        return Scoring(
            storage_uri=found.storage_uri or self.storage_uri,
            threshold=self.threshold if found.threshold is None else found.threshold,
            class_names=names,
            max_classes=self.max_classes if found.max_classes is None else found.max_classes,
            revision=REVISION,
        )


_METAVARS = {int: "N", float: "NUMBER", tuple: "A,B"}
HELP: dict[str, str] = {
    name: hint.__metadata__[0].description for name, hint in get_type_hints(Settings, include_extras=True).items()
}
DEFAULTS: dict[str, Any] = {name: getattr(Settings(), name) for name in HELP}
OPTIONS = [name for name in HELP if name != "deployments"]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadConfiguration(message)


def parser() -> argparse.ArgumentParser:
    """The command line, made from the fields of `Settings`."""
    made = _Parser(
        prog="metrics-server",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Pairs predictions with later truth and exposes live quality metrics of served models.",
        epilog="Every option can be set as METRICS_SERVER_<OPTION> in the environment or as a key of the --config file.\n"
        "Hyphens and underscores in options are the same. A switch is turned off by --no-<option>.\n"
        "`metrics-server simulate --help` tells about the demonstration, `metrics-server replay --help` about computing from a file.",
        argument_default=argparse.SUPPRESS,
        add_help=True,
    )
    made.add_argument("--version", action="version", version=f"metrics-server {__version__}")
    made.add_argument("--config", metavar="FILE", help="YAML file with any of these settings")
    for name in OPTIONS:
        default = DEFAULTS[name]
        shown = ",".join(default) if isinstance(default, tuple) else default
        text = HELP[name] + (
            "" if shown in ("", None) else f" (default: {str(shown).lower() if isinstance(shown, bool) else shown})"
        )
        spellings = list(dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"]))
        text = text.replace("%", "%%")
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
        if isinstance(error.__cause__, BadConfiguration):
            raise error.__cause__ from None
        raise BadConfiguration(str(error).replace("at `$.", "at `--")) from error


def default_labels(environment: Mapping[str, str]) -> Labels:
    """The labels for what an event leaves open, from the variables that Seldon sets in a pod."""
    names = ("SELDON_DEPLOYMENT_NAMESPACE", "SELDON_DEPLOYMENT_ID", "PREDICTOR_ID", "PREDICTIVE_UNIT_ID")
    return Labels(*(environment.get(name, "") for name in names))


def image_of(environment: Mapping[str, str]) -> tuple[str, str, str]:
    """Image name, image version and predictor version as the ancestor's labels have them."""
    name, _, version = environment.get("PREDICTIVE_UNIT_IMAGE", "").rpartition(":")
    try:
        predictor_version = msgspec.json.decode(environment.get("PREDICTOR_LABELS", "{}"), type=dict[str, str]).get(
            "version"
        )
    except msgspec.MsgspecError:
        predictor_version = None
    return name or UNKNOWN, (version if name else "") or UNKNOWN, predictor_version or UNKNOWN
