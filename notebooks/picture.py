"""How notebooks show charts: interactive, or as pictures, since a code host runs no scripts.

`build.py` asks for pictures. They are made by Chromium from what would be shown.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from bokeh.embed import file_html
from bokeh.io import output_notebook
from bokeh.io import show as show_figure
from bokeh.resources import INLINE
from IPython.display import Markdown, display
from PIL import Image, ImageChops

from metrics_server.web import figure
from metrics_server.web.chart import Chart

CHARTS = "NOTEBOOK_CHARTS"  # the variable that asks for them, by "png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH, TALLEST = 760, 1000  # of the window
DENSITY = 2  # pixels of the picture by pixel of the window
COLOURS = 64
MARGIN = 8


def show(chart: Chart | None) -> None:
    """Shows a chart with its title and its summary."""
    if chart is None:
        display(Markdown("*Nothing to show yet.*"))
        return
    display(Markdown(f"**{chart.title}.** {chart.summary}"))
    if os.environ.get(CHARTS) == "png":
        png, width = picture(chart)
        bundle = {"image/png": png, "text/plain": f"{chart.title}. {chart.summary}"}
        display(bundle, raw=True, metadata={"image/png": {"width": width}})
    else:
        _load_bokeh()
        show_figure(figure.draw(chart))


@cache
def _load_bokeh() -> None:
    output_notebook(INLINE, hide_banner=True)


def picture(chart: Chart) -> tuple[bytes, int]:
    """A chart as PNG, and its width on the page."""
    with tempfile.TemporaryDirectory() as directory:
        page, shot = Path(directory, "chart.html"), Path(directory, "chart.png")
        page.write_text(file_html(figure.draw(chart), INLINE, chart.title))
        command = [_browser(), "--headless", "--disable-gpu", "--hide-scrollbars", "--disable-background-networking"]
        command += [
            f"--force-device-scale-factor={DENSITY}",
            f"--window-size={WIDTH},{TALLEST}",
            "--virtual-time-budget=5000",
        ]
        command += ["--no-sandbox"] if os.geteuid() == 0 else []  # root has none
        command += [f"--user-data-dir={directory}/profile", f"--screenshot={shot}", page.as_uri()]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        return _trimmed(Image.open(shot).convert("RGB"))


def _browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise FileNotFoundError(f"pictures need one of {', '.join(BROWSERS)}")
    return found


def _trimmed(shot: Image.Image) -> tuple[bytes, int]:
    """Without the empty space below, in few colours: a figure has few, and the file stays small."""
    drawn = ImageChops.difference(shot, Image.new("RGB", shot.size, "white")).getbbox()
    if drawn is None:
        raise ValueError("the picture of a chart is empty")
    height = min(drawn[3] + MARGIN * DENSITY, shot.height)
    small = shot.crop((0, 0, shot.width, height)).quantize(COLOURS)
    out = io.BytesIO()
    small.save(out, "PNG", optimize=True)
    return out.getvalue(), shot.width // DENSITY
