"""Every setting: one table of fields feeds the command line, the environment, the configuration file and the docs.

A value given on the command line wins over METRICS_SERVER_<NAME> in the environment, which wins over --config. Every
option of Seldon's `adserver MetricsServer` is taken with its spelling and meaning.
"""

from metrics_server.settings.deployment import Deployment
from metrics_server.settings.loading import DEFAULTS, ENVIRONMENT_PREFIX, HELP, OPTIONS, config_file, load, written
from metrics_server.settings.reloading import Reloaded, reloaded
from metrics_server.settings.settings import Settings

__all__ = [
    "DEFAULTS",
    "ENVIRONMENT_PREFIX",
    "HELP",
    "OPTIONS",
    "Deployment",
    "Reloaded",
    "Settings",
    "config_file",
    "load",
    "reloaded",
    "written",
]
