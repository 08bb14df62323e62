"""Stateful feedback metrics server: pairs predictions with later truth and exposes live model quality."""

__version__ = "0.1.0"
