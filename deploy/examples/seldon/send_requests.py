# ruff: noqa: INP001, T201 - runs as a script
"""Asks a deployment behind Seldon's ingress for the prices of houses: `send_requests.py [--url URL] [--requests N]`."""

from __future__ import annotations

import argparse
import json
import random
import urllib.request
from collections.abc import Sequence

TIMEOUT_SECONDS = 10


def price(url: str, area: float, rooms: int) -> float:
    """Asks for the price of one house."""
    body = json.dumps({"data": {"names": ["area", "rooms"], "ndarray": [[area, rooms]]}}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - the user's own
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
        (found,) = json.load(answer)["data"]["ndarray"]
    return float(found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Sends the requests, and says what came back."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8003", help="address of the ingress (default: %(default)s)")
    parser.add_argument("--deployment", default="seldon/house-price", help="namespace and name (default: %(default)s)")
    parser.add_argument("--requests", type=int, default=60, help="how many (default: %(default)s)")
    options = parser.parse_args(arguments)
    url = f"{options.url}/seldon/{options.deployment}/api/v1.0/predictions"
    prices = [price(url, random.uniform(40, 200), random.randint(1, 7)) for _ in range(options.requests)]  # noqa: S311
    print(
        f"{len(prices)} predictions: min {min(prices):.0f}, mean {sum(prices) / len(prices):.0f}, max {max(prices):.0f}"
    )


if __name__ == "__main__":
    main()
