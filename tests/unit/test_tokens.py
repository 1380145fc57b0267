"""Bearer tokens: who is let in, as whom, and every way of not being let in."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import os
import stat
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from joserfc import jws
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

from document_service.errors import IssuerUnavailable, NotAuthenticated, TokenExpired
from document_service.tokens import Caller, Issuer, LocalIssuer, Verifier, parse_issuers
from loopback_http import Asked, LoopbackHttp, Reply, json_reply

NOW = 1_790_000_000.0
AUDIENCE = "document-service"

RSA = RSAKey.generate_key(2048, {"kid": "rsa-1"})
EC = ECKey.generate_key("P-256", {"kid": "ec-1"})
ED = OKPKey.generate_key("Ed25519", {"kid": "ed-1"})
# The public half of a 1024-bit key; joserfc warns when asked to make one.
SMALL_RSA: dict[str, str | list[str]] = {
    "kty": "RSA",
    "e": "AQAB",
    "n": "unLwnfxeWCViEFjV1kw8o2S5p2I6TlyqB0SF4Kr6cOom1OrGFSyi3aV4VXwsJ7fc_waV92bmrSbTkdcYt6yLWlZObYGkbMmxT6-v1AYp-g64"
    "-gaupKlG1v8eloWewolj20tLudiLcsB1yUX3P1opBcBtxLyrlFrouPXIFH_0P3U",
}
ALGORITHM = {"rsa-1": "RS256", "ec-1": "ES256", "ed-1": "EdDSA"}


class Clock:
    """A hand-set clock for both Unix and monotonic time."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class IssuerStub:
    """An OpenID issuer whose key set a test can change, break or silence."""

    def __init__(self) -> None:
        self.keys: list[dict[str, object]] = [public(RSA), public(EC), public(ED)]
        self.broken: Reply | None = None
        self.named: str | None = None
        self.jwks_uri: str | None = None
        self.server = LoopbackHttp(self.respond)

    @property
    def url(self) -> str:
        return self.server.url

    def respond(self, asked: Asked) -> Reply:
        if self.broken is not None:
            return self.broken
        if asked.path == "/.well-known/openid-configuration":
            return json_reply({"issuer": self.named or self.url, "jwks_uri": self.jwks_uri or f"{self.url}/jwks"})
        return json_reply({"keys": self.keys})

    @property
    def fetches(self) -> int:
        return sum(asked.path == "/jwks" for asked in self.server.asked)


def public(key: Key, **extra: object) -> dict[str, object]:
    return {**key.as_dict(private=False), **extra}


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def token(
    key: Key, claims: dict[str, object], header: dict[str, object] | None = None, algorithm: str | None = None
) -> str:
    kid = str(key.as_dict()["kid"])
    head: dict[str, object] = {"alg": algorithm or ALGORITHM[kid], "typ": "at+jwt", "kid": kid} | (header or {})
    registry = jws.JWSRegistry(algorithms=[str(head["alg"])], strict_check_header=False)
    return jws.serialize_compact(
        {name: value for name, value in head.items() if value is not None}, json.dumps(claims), key, registry=registry
    )


@pytest.fixture
async def issuer() -> AsyncIterator[IssuerStub]:
    stub = IssuerStub()
    async with stub.server:
        yield stub


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def verifier(issuer: IssuerStub, clock: Clock) -> AsyncIterator[Verifier]:
    async with httpx2.AsyncClient(trust_env=False) as client:
        yield Verifier([Issuer(issuer.url, AUDIENCE)], client=client, clock=clock, monotonic=clock)


@pytest.fixture
def claims(issuer: IssuerStub) -> dict[str, object]:
    return {
        "iss": issuer.url,
        "aud": AUDIENCE,
        "sub": "user-7",
        "tenant": "kabul-clinic",
        "roles": ["CLINICIAN", "offline_access"],
        "exp": NOW + 600,
        "nbf": NOW - 5,
    }


pytestmark = pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")


@pytest.mark.parametrize("key", [RSA, EC, ED], ids=["RS256", "ES256", "EdDSA"])
async def test_a_good_token_names_its_caller(verifier: Verifier, claims: dict[str, object], key: Key) -> None:
    caller = await verifier.verify(token(key, claims))
    assert caller == Caller("kabul-clinic", "user-7", frozenset({"CLINICIAN"}), None)
    assert caller.has_role("CLINICIAN", "AUDITOR")
    assert not caller.has_role("TENANT_ADMIN")


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "application/at+jwt", None])
async def test_the_types_of_access_tokens_are_taken(
    verifier: Verifier, claims: dict[str, object], kind: str | None
) -> None:
    assert (await verifier.verify(token(ED, claims, {"typ": kind}))).tenant == "kabul-clinic"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"aud": "another-service"}, "aud"),
        ({"aud": ["a", "b"]}, "aud"),
        ({"aud": None}, "aud"),
        ({"iss": "https://elsewhere.example"}, "issuer"),
        ({"iss": None}, "issuer"),
        ({"iss": ["x"]}, "issuer"),
        ({"exp": None}, "exp"),
        ({"exp": "tomorrow"}, "exp"),
        ({"exp": True}, "exp"),
        ({"nbf": NOW + 60}, "nbf"),
        ({"tenant": None}, "tenant"),
        ({"tenant": "platform"}, "tenant"),
        ({"tenant": "Kabul"}, "tenant"),
        ({"tenant": "../other"}, "tenant"),
        ({"tenant": "a" * 64}, "tenant"),
        ({"tenant": "-a"}, "tenant"),
        ({"tenant": "kabul\n"}, "tenant"),
        ({"tenant": ["kabul"]}, "tenant"),
        ({"sub": None}, "sub"),
        ({"sub": ""}, "sub"),
        ({"sub": "a\nb"}, "sub"),
        ({"sub": 7}, "sub"),
        ({"roles": "TENANT_ADMIN"}, "roles"),
        ({"roles": [7]}, "roles"),
        ({"facilities": "kabul-1"}, "facilities"),
        ({"facilities": {"a": 1}}, "facilities"),
        ({"cnf": {"jkt": "x"}}, "cnf"),
    ],
)
async def test_a_claim_of_another_shape_refuses_the_token(
    verifier: Verifier, claims: dict[str, object], change: dict[str, object], says: str
) -> None:
    changed = {name: value for name, value in (claims | change).items() if value is not None}
    with pytest.raises(NotAuthenticated, match=says) as caught:
        await verifier.verify(token(ED, changed))
    assert "WWW-Authenticate" in caught.value.headers


async def test_not_a_number_is_not_an_expiry(verifier: Verifier, claims: dict[str, object]) -> None:
    with pytest.raises(NotAuthenticated, match="readable"):
        await verifier.verify(token(ED, claims | {"exp": float("nan")}))
    with pytest.raises(NotAuthenticated, match="readable"):
        await verifier.verify(token(ED, claims | {"exp": float("inf")}))


async def test_expiry_has_thirty_seconds_of_leeway_even_from_the_cache(
    verifier: Verifier, claims: dict[str, object], clock: Clock
) -> None:
    bearer = token(ED, claims | {"exp": NOW + 10})
    clock.now = NOW + 39
    await verifier.verify(bearer)
    clock.now = NOW + 41
    with pytest.raises(TokenExpired):
        await verifier.verify(bearer)


async def test_facilities_absent_is_the_tenant_and_empty_is_none(verifier: Verifier, claims: dict[str, object]) -> None:
    assert (await verifier.verify(token(ED, claims | {"facilities": ["f1", "f2"]}))).facilities == {"f1", "f2"}
    assert (await verifier.verify(token(ED, claims | {"facilities": []}))).facilities == frozenset()
    assert (await verifier.verify(token(ED, {k: v for k, v in claims.items() if k != "roles"}))).roles == frozenset()


async def test_the_algorithm_follows_from_the_key(verifier: Verifier, claims: dict[str, object]) -> None:
    # The oldest attack: the issuer's public RSA key used as an HMAC secret; made by hand, as joserfc will not help.
    signed = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': 'rsa-1'})}.{part(claims)}"
    mac = hmac.digest(RSA.as_pem(private=False), signed.encode(), "sha256")
    with pytest.raises(NotAuthenticated, match="algorithm"):
        await verifier.verify(f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}")
    # Another allowed algorithm under the key id of an RSA key.
    with pytest.raises(NotAuthenticated, match="key"):
        await verifier.verify(token(ED, claims, {"kid": "rsa-1"}))
    # A weaker or unlisted algorithm of the same key.
    with pytest.raises(NotAuthenticated, match="algorithm"):
        await verifier.verify(token(RSA, claims, algorithm="RS512"))


async def test_none_is_not_an_algorithm(verifier: Verifier, claims: dict[str, object]) -> None:
    for name in ("none", "None", "NONE", "", None, 7, ["EdDSA"]):
        with pytest.raises(NotAuthenticated):
            await verifier.verify(f"{part({'alg': name, 'kid': 'ed-1'})}.{part(claims)}.")


async def test_keys_inside_the_token_are_not_looked_at(
    verifier: Verifier, claims: dict[str, object], issuer: IssuerStub
) -> None:
    stranger = OKPKey.generate_key("Ed25519", {"kid": "ed-1"})
    header: dict[str, object] = {"jwk": public(stranger), "jku": f"{issuer.url}/other-jwks"}
    with pytest.raises(NotAuthenticated, match="signature"):
        await verifier.verify(token(stranger, claims, header))
    assert not any(asked.path == "/other-jwks" for asked in issuer.server.asked)


async def test_a_critical_extension_refuses(verifier: Verifier, claims: dict[str, object]) -> None:
    good = token(ED, claims)
    header = json.dumps({"alg": "EdDSA", "kid": "ed-1", "typ": "JWT", "crit": ["b64"], "b64": False})
    forged = base64.urlsafe_b64encode(header.encode()).rstrip(b"=").decode() + "." + good.split(".", 1)[1]
    with pytest.raises(NotAuthenticated, match="extension"):
        await verifier.verify(forged)


@pytest.mark.parametrize(
    "bearer",
    ["", ".", "..", "a.b", "a.b.c.d", "ä.ö.ü", "\ud800.a.b", "e30.e30.e30", "W10.e30.AA", "x" * 8193, "e30=.e30.AA"],
)
async def test_what_is_not_a_token_is_refused(verifier: Verifier, bearer: str) -> None:
    with pytest.raises(NotAuthenticated):
        await verifier.verify(bearer)


async def test_deeply_nested_claims_are_refused(verifier: Verifier) -> None:
    deep = base64.urlsafe_b64encode(b"[" * 5000).rstrip(b"=").decode()
    with pytest.raises(NotAuthenticated):
        await verifier.verify(f"e30.{deep}.AA")


async def test_a_changed_claim_breaks_the_signature(verifier: Verifier, claims: dict[str, object]) -> None:
    head, _, signature = token(ED, claims).split(".")
    changed = base64.urlsafe_b64encode(json.dumps(claims | {"tenant": "other"}).encode()).rstrip(b"=").decode()
    with pytest.raises(NotAuthenticated, match="signature"):
        await verifier.verify(f"{head}.{changed}.{signature}")


async def test_an_unknown_key_id_forces_one_fetch_in_thirty_seconds(
    verifier: Verifier, claims: dict[str, object], issuer: IssuerStub, clock: Clock
) -> None:
    await verifier.verify(token(ED, claims))
    assert issuer.fetches == 1
    for attempt in range(5):
        with pytest.raises(NotAuthenticated, match="key"):
            await verifier.verify(token(ED, claims, {"kid": f"made-up-{attempt}"}))
    assert issuer.fetches == 2
    clock.now += 31
    with pytest.raises(NotAuthenticated):
        await verifier.verify(token(ED, claims, {"kid": "made-up"}))
    assert issuer.fetches == 3


async def test_a_rotated_key_is_found_at_once_and_the_old_one_ends(
    verifier: Verifier, claims: dict[str, object], issuer: IssuerStub, clock: Clock
) -> None:
    old = token(ED, claims)
    await verifier.verify(old)
    fresh = OKPKey.generate_key("Ed25519", {"kid": "ed-2"})
    issuer.keys = [public(fresh)]
    assert (await verifier.verify(token(fresh, claims, algorithm="EdDSA"))).user == "user-7"
    assert issuer.fetches == 2
    # The token cache does not keep a withdrawn key alive beyond the key cache.
    clock.now += 301
    with pytest.raises(NotAuthenticated, match="key"):
        await verifier.verify(old)


async def test_fifty_first_tokens_fetch_the_keys_once(
    verifier: Verifier, claims: dict[str, object], issuer: IssuerStub
) -> None:
    bearers = [token(ED, claims | {"sub": f"user-{number}"}) for number in range(50)]
    callers = await asyncio.gather(*map(verifier.verify, bearers))
    assert {caller.user for caller in callers} == {f"user-{number}" for number in range(50)}
    assert issuer.fetches == 1


async def test_known_keys_outlive_the_issuer_for_an_hour(
    verifier: Verifier, claims: dict[str, object], issuer: IssuerStub, clock: Clock
) -> None:
    claims["exp"] = NOW + 10_000
    await verifier.verify(token(ED, claims))
    issuer.broken = Reply(b"<html>sign in</html>", 200, "text/html")
    clock.now += 3000
    await verifier.verify(token(ED, claims))
    clock.now += 700
    with pytest.raises(IssuerUnavailable):
        await verifier.verify(token(ED, claims | {"sub": "another"}))
    issuer.broken = None
    clock.now += 6
    await verifier.verify(token(ED, claims))


@pytest.mark.parametrize(
    "broken",
    [
        Reply(b"", 500),
        Reply(b"", 302, headers={"Location": "http://127.0.0.1:9/"}),
        Reply(b"[" * 100_000),
        Reply(b"[]"),
        Reply(b"{}"),
        Reply(b" " * 300_000),
    ],
    ids=["500", "redirect", "deep", "list", "empty", "large"],
)
async def test_an_issuer_that_answers_badly_is_unavailable(
    verifier: Verifier, claims: dict[str, object], issuer: IssuerStub, broken: Reply
) -> None:
    issuer.broken = broken
    with pytest.raises(IssuerUnavailable):
        await verifier.verify(token(ED, claims))


async def test_a_discovery_document_of_another_issuer_is_not_used(
    verifier: Verifier, claims: dict[str, object], issuer: IssuerStub
) -> None:
    issuer.named = "https://another.example"
    with pytest.raises(IssuerUnavailable):
        await verifier.verify(token(ED, claims))


async def test_a_key_set_over_plain_http_is_not_fetched(
    verifier: Verifier, claims: dict[str, object], issuer: IssuerStub
) -> None:
    issuer.jwks_uri = "http://keys.example/jwks"
    with pytest.raises(IssuerUnavailable):
        await verifier.verify(token(ED, claims))


@pytest.mark.parametrize(
    "keys",
    [
        [{**SMALL_RSA, "kid": "ed-1"}],
        [public(ECKey.generate_key("P-384", {"kid": "ed-1"}))],
        [public(OKPKey.generate_key("Ed448", {"kid": "ed-1"}))],
        [public(ED, use="enc")],
        [public(ED, alg="RS256")],
        [public(ED, key_ops=["sign"])],
        [OctKey.generate_key(256, {"kid": "ed-1"}).as_dict()],
        [7, None, {}, {"kty": "OKP"}, {"kty": "OKP", "crv": "Ed25519", "x": "!"}],
    ],
    ids=["small RSA", "P-384", "Ed448", "for encryption", "other alg", "not to verify", "symmetric", "garbage"],
)
async def test_keys_of_no_use_are_skipped(
    verifier: Verifier, claims: dict[str, object], issuer: IssuerStub, keys: list[dict[str, object]]
) -> None:
    issuer.keys = [*keys, public(RSA)]
    with pytest.raises(NotAuthenticated, match="key"):
        await verifier.verify(token(ED, claims))
    assert (await verifier.verify(token(RSA, claims))).user == "user-7"


async def test_without_a_key_id_there_must_be_no_choice(
    verifier: Verifier, claims: dict[str, object], issuer: IssuerStub, clock: Clock
) -> None:
    assert (await verifier.verify(token(ED, claims, {"kid": None}))).user == "user-7"
    issuer.keys.append(public(OKPKey.generate_key("Ed25519", {"kid": "ed-2"})))
    clock.now += 301
    with pytest.raises(NotAuthenticated, match="key"):
        await verifier.verify(token(ED, claims, {"kid": None}))


async def test_an_issuer_may_name_the_tenant_in_another_claim(
    issuer: IssuerStub, claims: dict[str, object], clock: Clock
) -> None:
    (allowed,) = parse_issuers(f"{issuer.url}#org", AUDIENCE)
    async with httpx2.AsyncClient(trust_env=False) as client:
        verifier = Verifier([allowed], client=client, clock=clock, monotonic=clock)
        assert (await verifier.verify(token(ED, claims | {"org": "herat"}))).tenant == "herat"
        with pytest.raises(NotAuthenticated, match="tenant"):
            await verifier.verify(token(ED, claims))


@pytest.mark.parametrize(
    "setting",
    [
        "http://issuer.example",
        "issuer.example",
        "https://",
        "https://u:p@issuer.example",
        "https://a https://a",
        "https://[",
    ],
)
def test_an_unsafe_issuer_setting_is_refused(setting: str) -> None:
    with pytest.raises(ValueError):
        parse_issuers(setting, AUDIENCE)


async def test_verified_tokens_are_remembered_within_bounds(
    verifier: Verifier, claims: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    from document_service.tokens import verifier as module

    monkeypatch.setattr(module, "MAX_CACHED_TOKENS", 3)
    for number in range(10):
        await verifier.verify(token(ED, claims | {"sub": f"user-{number}"}))
    assert len(verifier._verified) == 3


# --- The local issuer -----------------------------------------------------------------------------------------


async def test_the_local_issuer_and_its_verifier_agree(tmp_path: Path, clock: Clock) -> None:
    local = LocalIssuer(tmp_path, clock)
    verifier = Verifier(local=LocalIssuer(tmp_path, clock), clock=clock, monotonic=clock)
    bearer = local.issue("kabul-clinic", "dr", {"CLINICIAN", "AUDITOR"}, {"f1"}, timedelta(hours=1))
    assert await verifier.verify(bearer) == Caller(
        "kabul-clinic", "dr", frozenset({"CLINICIAN", "AUDITOR"}), frozenset({"f1"})
    )
    clock.now += 3631
    with pytest.raises(TokenExpired):
        await verifier.verify(bearer)


def test_the_key_file_is_private_and_kept(tmp_path: Path) -> None:
    first = LocalIssuer(tmp_path / "data")
    path = tmp_path / "data" / "local-issuer.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert LocalIssuer(tmp_path / "data").kid == first.kid
    assert os.listdir(tmp_path / "data") == ["local-issuer.json"]
    path.chmod(0o644)
    with pytest.raises(PermissionError, match="chmod 600"):
        LocalIssuer(tmp_path / "data")
    path.chmod(0o600)
    path.write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        LocalIssuer(tmp_path / "data")


async def test_a_token_of_another_machine_is_refused(tmp_path: Path) -> None:
    stranger = LocalIssuer(tmp_path / "a").issue("kabul-clinic", "dr", {"CLINICIAN"})
    with pytest.raises(NotAuthenticated, match="signature"):
        await Verifier(local=LocalIssuer(tmp_path / "b")).verify(stranger)


async def test_local_tokens_are_not_taken_beside_an_issuer(
    verifier: Verifier, tmp_path: Path, issuer: IssuerStub
) -> None:
    local = LocalIssuer(tmp_path)
    with pytest.raises(ValueError, match="local issuer"):
        Verifier([Issuer(issuer.url, AUDIENCE)], local=local)
    with pytest.raises(NotAuthenticated, match="issuer"):
        await verifier.verify(local.issue("kabul-clinic", "dr", {"CLINICIAN"}))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("platform", "dr", ["CLINICIAN"]), "reserved"),
        (("Kabul", "dr", ["CLINICIAN"]), "lower-case"),
        (("kabul", "", ["CLINICIAN"]), "user"),
        (("kabul", "dr", ["ADMIN"]), "ADMIN"),
        (("kabul", "dr", ["CLINICIAN"], None, timedelta(0)), "lives"),
        (("kabul", "dr", ["CLINICIAN"], None, timedelta(days=91)), "lives"),
    ],
)
def test_the_local_issuer_says_what_it_will_not_issue(
    tmp_path: Path, arguments: tuple[str, str, list[str]], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        LocalIssuer(tmp_path).issue(*arguments)
