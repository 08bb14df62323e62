"""Who may send, read or retire: by tokens, by certificates, or by both."""

from __future__ import annotations

from dataclasses import dataclass

from metrics_server.errors import BadRequest
from metrics_server.http.certificate import ClientNames, Clients
from metrics_server.http.token import Tokens, token_of_reader, token_of_sender


@dataclass(frozen=True)
class Access:
    """What opens what. Where both a token and a certificate are wanted, a request needs both."""

    sending: Tokens
    reading: Tokens
    retiring: Tokens
    clients: Clients

    @property
    def guards_sending(self) -> bool:
        """Tells whether not everybody may send."""
        return self.sending.are_wanted or self.clients.are_verified

    @property
    def guards_reading(self) -> bool:
        """Tells whether not everybody may read."""
        return self.reading.are_wanted or self.clients.guard_reading

    def check_sender(self, client: ClientNames, authorization: str, query: str) -> None:
        """Raises `Rejected` unless the client may send, with a bearer token, or one as access_token in the query."""
        self.clients.check_sender(client)
        if self.sending.are_wanted:
            self.sending.check(token_of_sender(authorization, query))

    def check_reader(self, client: ClientNames, authorization: str) -> None:
        """Raises `Rejected` unless the client may read what tells of models and events."""
        self.clients.check_reader(client)
        if self.reading.are_wanted:
            self.reading.check(token_of_reader(authorization))

    def check_owner(self, client: ClientNames, authorization: str, query: str) -> None:
        """As `check_sender`, for what only the owner of the server may do: without a token configured nobody may, a
        `BadRequest`.
        """
        self.clients.check_sender(client)
        if not self.retiring.are_wanted:
            raise BadRequest(
                "this needs a token, and the server has none for it: start it with --delete_token_file or --token_file",
                403,
                "forbidden",
            )
        self.retiring.check(token_of_sender(authorization, query))
