# ruff: noqa: INP001 - a program of one file, copied into the image
"""`healthcheck.py http://127.0.0.1:8080/healthz` ends with 0 when the answer is 200, with 1 otherwise. The image has no
curl.
"""

from __future__ import annotations

import http.client
import sys
from urllib.parse import urlsplit

SECONDS = 3.0


def is_healthy(url: str) -> bool:
    """Asks directly: urllib.request would go through a proxy that the environment names."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=SECONDS)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(not is_healthy(sys.argv[1]))
