"""`python -m docs.screenshots`: makes the pictures of the page in docs/images, from a simulated cluster.

It takes a minute, and needs Chromium and the extras `demo`, `web` and `test`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image

from tests.support.browser import Chromium, chromium
from tests.support.running import RunningServer, free_port

IMAGES = Path(__file__).resolve().parent / "images"
WIDTH = 1280

# Name -> page, colours, height.
PICTURES = {
    "overview": ("ui", "light", 400),
    "model": ("ui/models/seldon/multiclass-model/default/classifier?window=1d", "light", 1300),
    "drift": ("ui/models/seldon/diabetes/default/regressor?window=1d", "light", 560),
    "canary": ("ui/deployments/seldon/digits?window=1d", "light", 800),
    "dark": ("ui/models/seldon/digits/canary/classifier?window=1d", "dark", 1000),
}


def main() -> None:
    """Takes all pictures."""
    with tempfile.TemporaryDirectory() as directory:
        server = RunningServer(Path(directory))
        try:
            _simulate(server.url)
            for browser in chromium():
                for name, (path, scheme, height) in PICTURES.items():
                    _take(browser, f"{server.url}/{path}", scheme, height, IMAGES / f"{name}.png")
        finally:
            server.stop()


def _simulate(url: str) -> None:
    """Simulates twelve hours of the past, and a few live calls."""
    options = {"url": url, "ingress_port": free_port(), "seed": 1, "count": 60, "rate": 30, "label_delay": 1}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    subprocess.run([sys.executable, "-m", "metrics_server", "simulate", *words], check=True)  # noqa: S603 - ourselves


def _take(browser: Chromium, url: str, scheme: str, height: int, path: Path) -> None:
    tab = browser.tab(url, color_scheme=scheme, viewport={"width": WIDTH, "height": height})
    tab.open(url)
    tab.until("[...document.querySelectorAll('figure .plot')].every(plot => plot.firstElementChild)")
    tab.until(
        "(window.Bokeh?.documents ?? []).every(one => one.is_idle) && [...document.images].every(one => one.complete)"
    )
    picture = Image.open(BytesIO(tab.do(lambda page: page.screenshot()))).convert("RGB")
    tab.close()
    path.parent.mkdir(exist_ok=True)
    reduced = picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)  # rare colours remain
    reduced.save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
