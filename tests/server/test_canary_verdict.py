"""The verdict of a canary: the same of a real server by route, page and scrape, over restarts, and nothing too early."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.support.exposed import gauges
from tests.support.running import RunningServer

DECLARED = """
deployments:
  - namespace: shop
    deployment: pets
    baseline: main
    margin: 0.02
    traffic: {main: 75, canary: 25}
"""
VERDICT = "/v1/models/shop/pets/verdict"
