"""Certificates: ours, and those by which clients say who they are. No name of a client ever becomes a label."""

from __future__ import annotations

import ssl
from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

from metrics_server.errors import BadConfiguration, Reason, Rejected
from metrics_server.http.watched_files import WatchedFiles

MAX_SHOWN_NAMES = 200  # characters of a client's names that it is told

# The names in a client's certificate, which was verified; None of a client without one.
ClientNames: TypeAlias = frozenset[str] | None


class Certificates(WatchedFiles[ssl.SSLContext]):
    """The certificate chain to serve HTTPS with, its key, and the authorities by which clients are verified, if any."""

    def __init__(self, chain: str, key: str, authorities: str = "") -> None:
        self._chain, self._key, self._authorities = chain, key, authorities
        super().__init__([path for path in (chain, key, authorities) if path], self._context)

    def current(self) -> ssl.SSLContext:
        """The context for a connection that is made now."""
        return self.content

    def _context(self) -> ssl.SSLContext:
        """A context of its own each time: one whose renewal fails half way would have neither the old nor the new."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(self._chain, self._key)
        except (OSError, ssl.SSLError) as error:
            raise BadConfiguration(f"--tls_cert {self._chain} --tls_key {self._key}: {error}") from error
        if self._authorities:
            try:
                context.load_verify_locations(self._authorities)
            except (OSError, ssl.SSLError) as error:
                raise BadConfiguration(f"--tls_client_ca {self._authorities}: {error}") from error
            # Not required of a connection: who probes it has no certificate, and what it asks for says whether it needs
            # one. A certificate that is shown has to be good, or the handshake fails.
            context.verify_mode = ssl.CERT_OPTIONAL
        return context


def names_in(certificate: Mapping[str, Any] | None) -> ClientNames:
    """The names that a certificate is for, as `ssl` tells of it: those for DNS and URIs, such as of SPIFFE; its common
    name only if there are none (RFC 9525, 6.4.4 of RFC 6125 before it).
    """
    if not certificate:
        return None
    named = [value for kind, value in certificate.get("subjectAltName", ()) if kind in ("DNS", "URI")]
    common = [value for part in certificate.get("subject", ()) for kind, value in part if kind == "commonName"]
    return frozenset(named or common)


class Clients:
    """Which clients may do what, by their certificates.

    Args:
        are_verified: whether there is an authority to verify them by; without one nobody needs a certificate.
        senders: names of those who send events and retire series. If there are any, who only reads needs no
            certificate; if there are none, whoever has one may do all. They may be replaced.
    """

    def __init__(self, *, are_verified: bool = False, senders: Collection[str] = ()) -> None:
        self.are_verified = are_verified
        self.senders = frozenset(senders)

    @property
    def guard_reading(self) -> bool:
        """Tells whether who only reads needs a certificate, too."""
        return self.are_verified and not self.senders

    def check_sender(self, names: ClientNames) -> None:
        """Raises `Rejected` unless this client may send events and retire series."""
        if not self.are_verified:
            return
        known = _required(names)
        if self.senders and not known & self.senders:
            shown = ", ".join(sorted(known))[:MAX_SHOWN_NAMES]
            raise Rejected(
                Reason.CLIENT_REFUSED, f"the certificate of this client is for {shown or 'nobody'}, who may not do this"
            )

    def check_reader(self, names: ClientNames) -> None:
        """Raises `Rejected` unless this client may read."""
        if self.guard_reading:
            _required(names)


def _required(names: ClientNames) -> frozenset[str]:
    if names is None:
        raise Rejected(Reason.CLIENT_REFUSED, "a client certificate is required")
    return names
