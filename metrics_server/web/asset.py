"""Files of the page: our own, and BokehJS as its package brings it. Nothing is fetched from elsewhere."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
BOKEH = "bokeh.min.js"
TYPES = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
    BOKEH: "text/javascript; charset=utf-8",
}


class Asset(NamedTuple):
    """A file, and the digest in its address: under that address the file never changes."""

    body: bytes
    digest: str


def has_bokeh() -> bool:
    """Returns whether charts can be drawn: Bokeh is the extra `web`."""
    return find_spec("bokeh") is not None


@cache
def asset(name: str) -> Asset:
    """Reads a file; raises `FileNotFoundError` for a name that is none of ours."""
    if name not in TYPES:
        raise FileNotFoundError(name)
    body = _path(name).read_bytes()
    return Asset(body, hashlib.sha256(body).hexdigest()[:16])


@cache
def zipped(name: str) -> bytes:
    """Compresses a file, once: BokehJS takes 60 ms."""
    return gzip.compress(asset(name).body, compresslevel=6, mtime=0)


def _path(name: str) -> Path:
    if name != BOKEH:
        return HERE / "static" / name
    spec = find_spec("bokeh")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(name)
    return Path(spec.origin).parent / "server" / "static" / "js" / name
