"""`python -m deploy.dashboards.builder.compose [DIRECTORY]`: writes the dashboards that compose.yaml alone has.

They show the model server in FastAPI, as starlette-exporter measures it, and the machine, as node-exporter does.
"""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.dashboards.builder.assembly import Board, Row, assembled
from deploy.dashboards.builder.metric import PER_SECOND
from deploy.dashboards.builder.panel import BAD_ABOVE_ZERO, HALF, THIRD, Panel, graph, now
from deploy.dashboards.builder.query import RATE, Query, by
from deploy.dashboards.builder.variable import source

SERVED = 'job="model-server"'
NODE = 'job="node"'
REQUESTS, SECONDS = "starlette_requests_total", "starlette_request_duration_seconds"
DISK = f'{NODE}, fstype!~"tmpfs|ramfs|squashfs"'


def _rate(name: str, matchers: str = SERVED) -> str:
    return f"rate({name}{{{matchers}}}{RATE})"


def _quantiles() -> list[Query]:
    grouped = by("le, path", _rate(f"{SECONDS}_bucket"))
    return [Query(f"histogram_quantile({q}, {grouped})", f"{{{{path}}}} {q:g}") for q in (0.5, 0.95, 0.99)]


def _served_now() -> Row:
    failed = _rate(REQUESTS, f'{SERVED}, status_code=~"5.."')
    mean = f"sum({_rate(f'{SECONDS}_sum')}) / sum({_rate(f'{SECONDS}_count')})"
    untold = f"sum({_rate('model_server_untold_predictions_total')})"
    return Row(
        "Now",
        [
            now("Requests", "Requests that were answered.", PER_SECOND, f"sum({_rate(REQUESTS)})", span=HALF // 2),
            now("Mean duration", "Of the requests that were answered.", "s", mean, span=HALF // 2),
            now(
                "Failed",
                "Requests that were answered with a status of 500 or more.",
                PER_SECOND,
                f"sum({failed}) or vector(0)",
                steps=BAD_ABOVE_ZERO,
                span=HALF // 2,
            ),
            now(
                "Untold",
                "Predictions that the feedback metrics server did not get.",
                PER_SECOND,
                untold,
                steps=BAD_ABOVE_ZERO,
                span=HALF // 2,
            ),
        ],
    )


def _served() -> Row:
    by_status = Query(by("method, path, status_code", _rate(REQUESTS)), "{{method}} {{path}} {{status_code}}")
    progress = Query(by("method", f"starlette_requests_in_progress{{{SERVED}}}"), "{{method}}")
    species = Query(by("species", _rate("model_server_predictions_total")), "{{species}}")
    return Row(
        "Requests and predictions",
        [
            graph("Requests", "Requests by path and status.", PER_SECOND, by_status),
            graph("Duration", "Quantiles of the time that a request takes.", "s", *_quantiles()),
            graph("In progress", "Requests that are being answered, by method.", "short", progress),
            graph("Predictions by class", "What the model says.", PER_SECOND, species, stacked=True),
        ],
    )


def model_server() -> Board:
    """Returns the dashboard of the model server."""
    return Board(
        "compose-model-server",
        "Model server",
        "A model server in FastAPI: its requests, how long they take, and what it predicts.",
        [source()],
        [],
        [_served_now(), _served()],
    )


def _processor() -> Panel:
    modes = Query(by("mode", _rate("node_cpu_seconds_total", f'{NODE}, mode!="idle"')), "{{mode}}")
    return graph("CPU", "Processors that are busy, by what with.", "short", modes, stacked=True)


def _memory() -> Panel:
    total, free = (f"node_memory_Mem{name}_bytes{{{NODE}}}" for name in ("Total", "Available"))
    queries = Query(f"{total} - {free}", "used"), Query(total, "total")
    return graph("Memory", "What is used and cannot be freed at once.", "bytes", *queries)


def _disks() -> list[Panel]:
    free, size = (f"max by (device) (node_filesystem_{name}_bytes{{{DISK}}})" for name in ("avail", "size"))
    traffic = [
        Query(by("device", _rate(f"node_disk_{name}_bytes_total", NODE)), f"{{{{device}}}} {name}")
        for name in ("read", "written")
    ]
    return [
        graph(
            "Disk space",
            "Share of each file system that is used.",
            "percentunit",
            Query(f"1 - {free} / {size}", "{{device}}"),
            span=THIRD,
        ),
        graph("Disk free", "What is left of each file system.", "bytes", Query(free, "{{device}}"), span=THIRD),
        graph("Disk traffic", "What is read and written.", "Bps", *traffic, span=THIRD),
    ]


def node() -> Board:
    """Returns the dashboard of the machine."""
    rows = [Row("Processors and memory", [_processor(), _memory()]), Row("Disks", _disks())]
    return Board("compose-node", "Machine", "The machine that runs the containers.", [source()], [], rows)


BOARDS = {"model-server": model_server, "node": node}


def main() -> None:
    """Writes both dashboards."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "compose/grafana/dashboards"
    for name, board in BOARDS.items():
        (directory / f"{name}.json").write_text(assembled(board()))


if __name__ == "__main__":
    main()
