"""A connection under the session of the person who is signed in, whose token is renewed when it ends soon."""

from __future__ import annotations

from . import renewal
from .account import Account
from .errors import SignInNeeded
from .http import Connection, Transport


class Connected:
    """A connection for the length of a ``with`` block; raises SignInNeeded when the session has no token."""

    def __init__(self, account: Account, transport: Transport | None) -> None:
        """Prepare to connect to the session's server."""
        self._account = account
        self._transport = transport

    def __enter__(self) -> Connection:
        account = self._account
        token = account.token()
        if token is None:
            raise SignInNeeded("the session has no token; sign in again")
        if renewal.is_due(account.vault, account.session.account_id, account.time.wall()):
            # Without a connection to the issuer the old one is as good as none: the service says so.
            token = self._renew(token) or token
        self._connection = Connection(
            account.session.server,
            token,
            self._transport,
            device_id=account.vault.device_id,
            renew=self._renew,
        )
        return self._connection

    def __exit__(self, *rest: object) -> None:
        self._connection.close()

    def _renew(self, used: str) -> str | None:
        account = self._account
        wall, account_id = account.time.wall(), account.session.account_id
        return renewal.renew(account.home, account.vault, account_id, used, wall, self._transport)
