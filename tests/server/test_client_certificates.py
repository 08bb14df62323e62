"""Certificates of clients and of the server: who is let in by its name, and what is renewed while the server runs."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from metrics_server.errors import BadConfiguration
from metrics_server.http.certificate import names_in
from metrics_server.settings import load
from tests.conftest import Serve
from tests.support.certificates import Authority, Certificate
from tests.support.running import Answer, RunningServer
from tests.support.waiting import until

PAIR = json.dumps({"namespace": "shop", "deployment": "wine", "truth": 1, "prediction": 1})
JSON = {"Content-Type": "application/json"}
SPIFFE = "spiffe://cluster.local/ns/models/sa/logger"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that the server does not know."""
    return Authority(tmp_path_factory.mktemp("stranger"), "theirs")


@pytest.fixture
def secure(serve: Serve, authority: Authority, tmp_path: Path) -> Callable[..., RunningServer]:
    """Starts a server that verifies its clients by the authority."""

    def start(*options: str) -> RunningServer:
        own = authority.signed("localhost", "IP:127.0.0.1", usage="serverAuth")
        (tmp_path / "cert.pem").write_bytes(own.chain.read_bytes())
        (tmp_path / "key.pem").write_bytes(own.key.read_bytes())
        tls = ("--tls_cert", str(tmp_path / "cert.pem"), "--tls_key", str(tmp_path / "key.pem"))
        words = ("--store", "memory://", *tls, "--tls_client_ca", str(authority.certificate.chain), *options)
        return serve(*words, scheme="https")

    return start


def ask(server: RunningServer, context: ssl.SSLContext, method: str, path: str, body: str | None = None) -> Answer:
    """What a client with these certificates gets."""
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=10, context=context)
    try:
        connection.request(method, path, body, JSON if body else {})
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def _statuses(server: RunningServer, context: ssl.SSLContext) -> tuple[int, int, int]:
    """What a client gets for sending, reading and probing."""
    return (
        ask(server, context, "POST", "/v1/feedback", PAIR).status,
        ask(server, context, "GET", "/v1/metrics").status,
        ask(server, context, "GET", "/readyz").status,
    )


def test_all_but_probes_need_a_certificate(secure: Callable[..., RunningServer], authority: Authority) -> None:
    """With --tls_client_ca whoever has a certificate of these authorities may send and read, and others may only probe:
    the kubelet has none. The refusal is a 403 with a sentence, counted, and nothing is applied."""
    server = secure()
    assert _statuses(server, authority.trusting()) == (403, 403, 200)
    refused = ask(server, authority.trusting(), "POST", "/v1/feedback", PAIR)
    assert json.loads(refused.body)["error"] == {
        "reason": "client_refused",
        "detail": "a client certificate is required",
    }
    known = authority.trusting(authority.signed("anybody"))
    page = ask(server, known, "GET", "/v1/metrics").body.decode()
    assert 'metrics_server_rejected_total{reason="client_refused"} 2' in page
    assert "shop" not in page
    assert _statuses(server, known) == (200, 200, 200)


def test_names_say_who_may_send(secure: Callable[..., RunningServer], authority: Authority) -> None:
    """With --tls_clients only those names may send, whether of DNS, a URI, or the common name of a certificate without
    other names; who reads needs no certificate. Another name is told what it is, and is in no series."""
    server = secure("--tls_clients", f"sender.models,{SPIFFE},old-sender")
    for client in (
        authority.signed("any", "DNS:sender.models"),
        authority.signed("any", "DNS:other", f"URI:{SPIFFE}"),
        authority.signed("old-sender"),
    ):
        assert _statuses(server, authority.trusting(client)) == (200, 200, 200)
    other = authority.trusting(authority.signed("old-sender", "DNS:reader.monitoring"))
    assert _statuses(server, other) == (403, 200, 200)
    assert _statuses(server, authority.trusting()) == (403, 200, 200)
    refused = ask(server, other, "POST", "/", PAIR)
    assert json.loads(refused.body)["error"]["detail"] == (
        "the certificate of this client is for reader.monitoring, who may not do this"
    )
    assert b"reader.monitoring" not in ask(server, other, "GET", "/v1/metrics").body


def test_to_retire_takes_name_and_token(
    secure: Callable[..., RunningServer], authority: Authority, tmp_path: Path
) -> None:
    """A certificate does not stand for a token: where both are wanted a request needs both."""
    (tmp_path / "token").write_text("s3cret")
    server = secure("--tls_clients", "sender", "--delete_token_file", str(tmp_path / "token"))
    named, other = (authority.trusting(authority.signed(name)) for name in ("sender", "other"))
    assert ask(server, named, "POST", "/v1/feedback", PAIR).status == 200
    path = "/v1/models/shop/wine/-/-"
    for client, query, status in ((other, "?access_token=s3cret", 403), (named, "", 401)):
        assert ask(server, client, "DELETE", path + query).status == status
    assert ask(server, named, "DELETE", f"{path}?access_token=s3cret").status == 204


@pytest.mark.parametrize(
    "shown",
    [
        lambda ours, theirs: theirs.signed("sender"),
        lambda ours, theirs: ours.signed("sender", days=-1),
        lambda ours, theirs: ours.signed("sender", usage="serverAuth"),
    ],
    ids=["of another authority", "expired", "of a server"],
)
def test_a_bad_certificate_is_no_certificate(
    secure: Callable[..., RunningServer],
    authority: Authority,
    stranger: Authority,
    shown: Callable[[Authority, Authority], Certificate],
) -> None:
    """Who shows a certificate that is not good gets no connection, not even to read what is open to all."""
    server = secure("--tls_clients", "sender")
    context = authority.trusting(shown(authority, stranger))
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        ask(server, context, "GET", "/readyz")
    assert ask(server, authority.trusting(), "GET", "/readyz").status == 200


def test_certificates_are_renewed_without_a_restart(
    secure: Callable[..., RunningServer], authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    """New connections are served with a renewed certificate and key; while these do not belong together, as between the
    two writes, the old ones are."""
    server = secure("--tls_clients", "sender")
    renewed = stranger.signed("localhost", "IP:127.0.0.1", usage="serverAuth")
    (tmp_path / "cert.pem").write_bytes(renewed.chain.read_bytes())
    until(lambda: "What a changed file held before" in server.log.read_text(), 10, "nothing was logged")
    assert ask(server, authority.trusting(), "GET", "/readyz").status == 200
    (tmp_path / "key.pem").write_bytes(renewed.key.read_bytes())

    def is_renewed() -> bool:
        try:
            return ask(server, stranger.trusting(), "GET", "/readyz").status == 200
        except ssl.SSLError:
            return False

    until(is_renewed, 10, "the renewed certificate is not served")
    assert "cert.pem" in server.log.read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tls_client_ca", "a"], "--tls_client_ca: want --tls_cert and --tls_key too"),
        (["--tls_clients", "a"], "--tls_clients: want --tls_client_ca too"),
    ],
)
def test_settings_that_would_check_nobody_are_refused(words: list[str], message: str) -> None:
    """Names without an authority, or an authority without TLS, would let everybody in."""
    with pytest.raises(BadConfiguration, match=message):
        load(words, {})


def test_a_file_without_an_authority_stops_the_start(secure: Callable[..., RunningServer], tmp_path: Path) -> None:
    """A wrong --tls_client_ca is named, rather than nobody trusted."""
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(AssertionError, match=r"--tls_client_ca .*empty\.pem: "):
        secure("--tls_client_ca", str(tmp_path / "empty.pem"))


def test_a_common_name_counts_only_without_other_names() -> None:
    """Whoever signs a certificate checks its names for DNS and URIs; an address or a mailbox is none of them."""
    subject = ((("commonName", "sender"),),)
    assert names_in(None) is None
    assert names_in({"subject": subject}) == {"sender"}
    assert names_in({"subject": subject, "subjectAltName": (("DNS", "a"), ("URI", "b"))}) == {"a", "b"}
    assert names_in({"subject": subject, "subjectAltName": (("IP Address", "127.0.0.1"),)}) == {"sender"}
    assert names_in({"subject": ()}) == set()
