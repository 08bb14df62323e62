"""The command line of `metrics-server migrate`: a bar of progress and what went wrong, on standard error."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing

from tqdm import tqdm

from metrics_server.errors import BadConfiguration, StoreRefused, StoreUnavailable
from metrics_server.store import open_store, redacted
from metrics_server.store.interface import Store
from metrics_server.store.migration import Migration


def main(arguments: Sequence[str]) -> int:
    """Runs the command and returns its exit status: 0 when all was moved, 1 when it was not, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        with closing(open_store(options.source)) as source, closing(open_store(options.target)) as target:
            _migrate(source, target, redacted(options.source))
    except (BadConfiguration, StoreRefused, StoreUnavailable) as error:
        print(f"metrics-server migrate: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.", file=sys.stderr)
        return 130
    print(f"All is in {redacted(options.target)}; start the servers with --store of it.", file=sys.stderr)
    return 0


def _migrate(source: Store, target: Store, source_name: str) -> None:
    with tqdm(unit="step", unit_scale=True, disable=None, leave=False) as bar:
        migration = Migration(source, target, source_name, bar.update)
        bar.reset(migration.total)
        migration.run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="metrics-server migrate",
        description="Moves the state of a store that no server uses to an empty one, and checks that all has arrived.",
        epilog="When it is stopped, the same command goes on from there. Servers refuse a store that is half filled.",
    )
    parser.add_argument("source", metavar="FROM", help="such as sqlite:////var/lib/metrics-server/metrics-server.db")
    parser.add_argument("target", metavar="TO", help="such as postgresql://metrics@db/metrics")
    return parser
