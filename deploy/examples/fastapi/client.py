# ruff: noqa: INP001 - a program of its own, with the standard library alone
"""Asks the model server for predictions and tells the feedback metrics server what was true: load without Locust.

python client.py --count 1000 --rate 50
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import urllib.request
from random import Random
from typing import Any

from flower import flower, question, statement

TIMEOUT_SECONDS = 10


def post(url: str, body: dict[str, Any]) -> Any:
    """Returns the JSON of an answer.

    Raises:
        OSError: there is none, or it is an error.
    """
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 - the user's own
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
        return json.load(answer)


def is_right(options: argparse.Namespace, random: Random) -> bool:
    """Asks about one flower, and says what it was; returns whether the model knew."""
    asked = flower(random)
    answer = post(f"{options.url}/predict", question(asked))
    if random.random() < options.label_share:
        post(f"{options.feedback_url}/v1/feedback", statement(asked, answer["request_id"]))
    return bool(answer["species"] == [asked.species])


def run(options: argparse.Namespace) -> int:
    """Makes all calls at their times; returns 1 if any failed."""
    random, right, failed, began = Random(options.seed), 0, 0, time.monotonic()  # noqa: S311 - load
    for number in range(options.count):
        time.sleep(max(0.0, began + number / options.rate - time.monotonic()))
        try:
            right += is_right(options, random)
        except OSError as error:
            failed += 1
            print(f"call {number + 1}: {error}", file=sys.stderr)  # noqa: T201
    print(f"{options.count} calls, {right} right, {failed} failed")  # noqa: T201
    return int(failed > 0)


def main() -> int:
    """Reads the options and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="address of the model server")
    parser.add_argument(
        "--feedback_url", default="http://127.0.0.1:8080", help="address of the feedback metrics server"
    )
    parser.add_argument("--count", type=int, default=300, help="number of calls")
    parser.add_argument("--rate", type=float, default=10.0, help="calls a second, at most")
    parser.add_argument("--label_share", type=float, default=0.8, help="share of the calls whose truth is told")
    parser.add_argument("--seed", type=int, help="makes the flowers the same in every run")
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
