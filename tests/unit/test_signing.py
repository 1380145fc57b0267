"""Download links: only an unaltered, unexpired link of the right document and tenant is a claim."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, urlencode

import pytest

from document_service.errors import SignatureExpired, SignatureInvalid, TenantKeyMissing
from document_service.keys import KeyStore
from document_service.signing import SignedClaim, UrlSigner

NOW = 1_790_000_000.9
DOCUMENT = "doc_01J8ZQ4Y7N3W5T2R6M9K0H1G5F"


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def keys(tmp_path: Path) -> KeyStore:
    keys = KeyStore.open(tmp_path / "keys")
    for tenant in ("t1", "t2", "a&b=c کلینیک"):
        keys.create_tenant(tenant)
    return keys


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def signer(keys: KeyStore, clock: Clock) -> UrlSigner:
    return UrlSigner(keys, clock)


@pytest.mark.parametrize("tenant", ["t1", "a&b=c کلینیک"])
@pytest.mark.parametrize("disposition", ["inline", "attachment"])
def test_a_link_is_its_claim(signer: UrlSigner, tenant: str, disposition: str) -> None:
    query = signer.sign(tenant, DOCUMENT, disposition, 900)  # type: ignore[arg-type]
    assert signer.verify(DOCUMENT, query) == SignedClaim(tenant, 1_790_000_900, disposition)  # type: ignore[arg-type]
    assert set(parse_qs(query)) == {"tenant", "expires", "disposition", "signature"}


def test_a_link_lives_to_its_second(signer: UrlSigner, clock: Clock) -> None:
    query = signer.sign("t1", DOCUMENT, "inline", 900)
    clock.now = 1_790_000_899.999
    signer.verify(DOCUMENT, query)
    clock.now = 1_790_000_900.0
    with pytest.raises(SignatureExpired):
        signer.verify(DOCUMENT, query)


def test_another_document_or_tenant_is_refused(signer: UrlSigner) -> None:
    query = signer.sign("t1", DOCUMENT, "inline", 900)
    with pytest.raises(SignatureInvalid):
        signer.verify(DOCUMENT[:-1] + "G", query)
    for tenant in ("t2", "nobody", "", "T1", "x" * 400, "../t1"):
        with pytest.raises(SignatureInvalid):
            signer.verify(DOCUMENT, urlencode({**dict(parse_qsl(query)), "tenant": tenant}))


def test_every_altered_field_is_refused(signer: UrlSigner, clock: Clock) -> None:
    fields = dict(parse_qsl(signer.sign("t1", DOCUMENT, "inline", 900)))
    signature = fields["signature"]
    numbers = "1790000901 01790000900 +1790000900 1790000900.0 1_790_000_900 -1 999999999999 ١٧٩٠٠٠٠٩٠٠"
    # The last of 43 characters carries four bits: other spellings of the same bytes are refused too.
    endings = [signature[:-1] + other for other in "ABCDQRST" if other != signature[-1]]
    alterations = {
        "expires": ["", *numbers.split()],
        "disposition": ["", "attachment", "INLINE", "inline\n"],
        "signature": ["", signature[:-1], signature + "=", signature + "A", "ی", *endings],
    }
    for field, values in alterations.items():
        for value in values:
            with pytest.raises(SignatureInvalid):
                signer.verify(DOCUMENT, urlencode({**fields, field: value}))
    clock.now += 10_000
    with pytest.raises(SignatureInvalid):
        # Forged and expired is forged: an answer tells nothing about links that we never made.
        signer.verify(DOCUMENT, urlencode({**fields, "disposition": "attachment"}))


def test_missing_repeated_unknown_and_malformed_fields_are_refused(signer: UrlSigner) -> None:
    query = signer.sign("t1", DOCUMENT, "inline", 900)
    for field in ("tenant", "expires", "disposition", "signature"):
        rest = [(name, value) for name, value in parse_qsl(query) if name != field]
        with pytest.raises(SignatureInvalid):
            signer.verify(DOCUMENT, urlencode(rest))
    for wrong in ("", "&", "?", "%ff", "tenant", query + "&x=1", query + "&tenant=t1", query + "&" * 2000):
        with pytest.raises(SignatureInvalid):
            signer.verify(DOCUMENT, wrong)


def test_a_link_dies_with_its_tenant(signer: UrlSigner, keys: KeyStore) -> None:
    query = signer.sign("t1", DOCUMENT, "inline", 900)
    keys.rotate_master()
    signer.verify(DOCUMENT, query)
    keys.shred("t1")
    with pytest.raises(SignatureInvalid):
        signer.verify(DOCUMENT, query)
    with pytest.raises(TenantKeyMissing):
        signer.sign("t1", DOCUMENT, "inline", 900)


def test_a_link_that_is_dead_at_birth_is_not_made(signer: UrlSigner) -> None:
    with pytest.raises(ValueError, match="second"):
        signer.sign("t1", DOCUMENT, "inline", 0)
