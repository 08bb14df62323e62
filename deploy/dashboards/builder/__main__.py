"""`python -m deploy.dashboards.builder [DIRECTORY]`: writes the dashboards, beside this package or into a directory."""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.dashboards.builder import canary, model, platform, quality, server, serving
from deploy.dashboards.builder.assembly import assembled

BOARDS = {
    "quality": quality,
    "model": model,
    "canary": canary,
    "serving": serving,
    "platform": platform,
    "server": server,
}


def main() -> None:
    """Writes all dashboards."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    for name, module in BOARDS.items():
        (directory / f"{name}.json").write_text(assembled(module.board()))


if __name__ == "__main__":
    main()
