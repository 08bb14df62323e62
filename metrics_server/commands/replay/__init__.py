"""`metrics-server replay`: the numbers that a server would show, computed from files of predictions and truths."""

from metrics_server.commands.replay.engine import replay

__all__ = ["replay"]
