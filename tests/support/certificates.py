"""Certificates of real authorities, made by openssl in a directory of the test's own."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.support.running import peer

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Certificate(NamedTuple):
    """A certificate and its key."""

    chain: Path
    key: Path


class Authority:
    """One that signs certificates."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory / name
        self._directory.mkdir()
        self.certificate = Certificate(self._directory / "ca.pem", self._directory / "ca.key")
        paths = ("-keyout", self.certificate.key, "-out", self.certificate.chain)
        _openssl("req", "-x509", *_KEY, "-days", "2", "-subj", f"/CN={name}", *paths)

    def signed(self, common_name: str, *names: str, days: int = 2, usage: str = "clientAuth") -> Certificate:
        """A certificate of this authority; `names` are such as `DNS:a`. With less than no days it has run out."""
        stem = self._directory / f"{common_name}-{len(list(self._directory.iterdir()))}"
        request, made = stem.with_suffix(".csr"), Certificate(stem.with_suffix(".pem"), stem.with_suffix(".key"))
        _openssl("req", *_KEY, "-subj", f"/CN={common_name}", "-keyout", made.key, "-out", request)
        extensions = stem.with_suffix(".ext")
        named = f"subjectAltName={','.join(names)}\n" if names else ""
        extensions.write_text(f"{named}extendedKeyUsage={usage}\n")
        by = ("-CA", self.certificate.chain, "-CAkey", self.certificate.key, "-extfile", extensions)
        _openssl("x509", "-req", "-in", request, *by, "-days", str(days), "-out", made.chain)
        return made

    def trusting(self, client: Certificate | None = None) -> ssl.SSLContext:
        """A context that trusts servers of this authority, and shows a certificate if there is one."""
        context = ssl.create_default_context(cafile=str(self.certificate.chain))
        if client is not None:
            context.load_cert_chain(client.chain, client.key)
        return context


def _openssl(*words: str | Path) -> None:
    subprocess.run([peer("openssl"), *map(str, words)], check=True, capture_output=True)
