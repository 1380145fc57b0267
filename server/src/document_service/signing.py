"""Short-lived download links: whoever holds one may read one document until it expires (contract §2).

The link is ``tenant=…&expires=…&disposition=…&signature=…`` on the document's content path. The signature is
an HMAC-SHA256 under the tenant's subkey, so a link dies with the tenant's key, and it covers the document,
the tenant, the expiry in whole seconds of Unix time and the disposition. Nothing about a patient is in it.
"""

from __future__ import annotations

import base64
import hmac
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, cast
from urllib.parse import parse_qsl, urlencode

from document_service.errors import SignatureExpired, SignatureInvalid, TenantKeyMissing
from document_service.keys import KeyStore, framed

Disposition = Literal["inline", "attachment"]

DISPOSITIONS: Final = ("inline", "attachment")
_PURPOSE: Final = "signed-url"
_FIELDS: Final = ("tenant", "expires", "disposition", "signature")
_QUERY_CHARACTERS: Final = 1024  # The longest tenant id, percent-encoded twice, with the other fields is shorter.
_SECONDS = re.compile(r"[1-9][0-9]{0,10}")  # One spelling per number; 11 digits reach the year 5138.


@dataclass(frozen=True, slots=True)
class SignedClaim:
    """What a valid link allows: the tenant, until when (Unix seconds), and how the browser shows the bytes."""

    tenant: str
    expires: int
    disposition: Disposition


class UrlSigner:
    """Makes and checks download links with the tenants' own subkeys."""

    def __init__(self, keys: KeyStore, clock: Callable[[], float] = time.time) -> None:
        """``clock`` gives Unix time in seconds; tests hand in their own."""
        self._keys = keys
        self._clock = clock

    def sign(self, tenant: str, document_id: str, disposition: Disposition, ttl: int) -> str:
        """Return the query string of a link that lives ``ttl`` seconds. Raises TenantKeyMissing."""
        if ttl < 1:
            raise ValueError("a link lives at least one second")
        expires = int(self._clock()) + ttl
        signature = self._signature(tenant, document_id, expires, disposition)
        values = (tenant, str(expires), disposition, signature)
        return urlencode(dict(zip(_FIELDS, values, strict=True)))

    def verify(self, document_id: str, query: str) -> SignedClaim:
        """Check the raw query string of a request for ``document_id``.

        Raises SignatureInvalid for anything that is not exactly a link of ours (unknown, repeated and missing
        fields included; an unknown tenant looks the same) and SignatureExpired for one that was.
        """
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
        except ValueError as error:
            raise SignatureInvalid from error
        fields = dict(pairs)
        if len(query) > _QUERY_CHARACTERS or len(pairs) != len(_FIELDS) or set(fields) != set(_FIELDS):
            raise SignatureInvalid
        tenant, disposition = fields["tenant"], fields["disposition"]
        if not _SECONDS.fullmatch(fields["expires"]) or disposition not in DISPOSITIONS:
            raise SignatureInvalid
        expires = int(fields["expires"])
        try:
            expected = self._signature(tenant, document_id, expires, disposition)
        except TenantKeyMissing as error:
            raise SignatureInvalid from error
        # The signature is judged before the expiry, so that an answer never tells anything about a forged link.
        if not hmac.compare_digest(expected.encode(), fields["signature"].encode()):
            raise SignatureInvalid
        if self._clock() >= expires:
            raise SignatureExpired
        return SignedClaim(tenant, expires, cast(Disposition, disposition))

    def _signature(self, tenant: str, document_id: str, expires: int, disposition: str) -> str:
        data = framed(document_id.encode(), tenant.encode(), str(expires).encode(), disposition.encode())
        return base64.urlsafe_b64encode(self._keys.mac(tenant, _PURPOSE, data)).rstrip(b"=").decode()
