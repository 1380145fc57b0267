"""A real OpenID provider: discovery, its keys and their rotation, and tokens that are for somebody else.

`tests/unit/test_tokens.py` writes every token itself. Here a provider that is not ours signs, and the service is told
its address and nothing more.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import oidc_provider_mock
import pytest
from joserfc.jwk import RSAKey

from running_service import Api, Service, request_for
from seaweedfs import free_ports

# The provider's own library calls what it calls old.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

AUDIENCE = "document-service"


class Provider:
    """An OpenID provider on a port of its own; ``restart`` gives it new keys, as a rotation does."""

    def __init__(self) -> None:
        self.port = free_ports(1)[0]
        self.url = f"http://localhost:{self.port}"
        self._running = ExitStack()
        self._users: list[oidc_provider_mock.User] = []

    def start(self) -> None:
        server = oidc_provider_mock.run_server_in_thread(port=self.port, user_claims=self._users)
        self._running.enter_context(server)

    def stop(self) -> None:
        self._running.close()

    def restart(self) -> None:
        self.stop()
        self.start()

    def knows(self, user: str, **claims: Any) -> None:
        self._users.append(oidc_provider_mock.User(sub=user, claims=claims))

    def token(self, user: str, client: str = AUDIENCE) -> str:
        """Sign in with the code flow, as a browser and a desktop application do together."""
        back = "http://localhost/back"
        asked = {"client_id": client, "redirect_uri": back, "response_type": "code", "scope": "openid"}
        signed_in = httpx2.post(f"{self.url}/oauth2/authorize", params=asked, data={"sub": user}, trust_env=False)
        code = parse_qs(urlsplit(signed_in.headers["location"]).query)["code"][0]
        answer = httpx2.post(
            f"{self.url}/oauth2/token",
            data={"grant_type": "authorization_code", "code": code, "redirect_uri": back},
            auth=(client, "secret"),
            trust_env=False,
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id_token"])

    def key(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx2.get(f"{self.url}/jwks", trust_env=False).json()["keys"][0]
        return found


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    running = Provider()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def clinic(
    provider: Provider, tmp_path_factory: pytest.TempPathFactory, fhir_url: str
) -> Iterator[tuple[Service, str]]:
    service = Service(
        tmp_path_factory.mktemp("openid") / "data",
        DOCUMENT_SERVICE_OIDC_ISSUER=provider.url,
        DOCUMENT_SERVICE_OIDC_AUDIENCE=AUDIENCE,
    ).start("--workers", "1")
    try:
        tenant = service.create_tenant(fhir_url)
        provider.knows("nurse", tenant=tenant, roles=["CLINICIAN"])
        provider.knows("stranger", tenant="no-such-tenant", roles=["CLINICIAN"])
        provider.knows("nobody", roles=["CLINICIAN"])
        provider.start()
        yield service, tenant
    finally:
        service.stop()


def status_of(service: Service, token: str) -> int:
    with Api(service.url, token) as caller:
        return caller.get("/v1/documents/render-jobs").status_code


def test_who_signed_in_there_works_here(clinic: tuple[Service, str], provider: Provider) -> None:
    service, _ = clinic
    with Api(service.url, provider.token("nurse")) as caller:
        assert caller.render(request_for(caller.platform_version()))["status"] == "completed"
        refused = caller.post("/v1/document-templates", json={"name": "Mine", "category": "letter"})
        assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN")
    assert httpx2.get(f"{service.url}/.well-known/document-service").json()["issuer"] == provider.url


def test_a_token_for_another_program_is_refused(clinic: tuple[Service, str], provider: Provider) -> None:
    service, _ = clinic
    assert status_of(service, provider.token("nurse", client="another-program")) == 401
    assert status_of(service, provider.token("nobody")) == 401
    assert status_of(service, provider.token("stranger")) in (401, 404)


def test_another_issuer_is_refused_whatever_it_says(clinic: tuple[Service, str]) -> None:
    service, tenant = clinic
    other = Provider()
    other.knows("nurse", tenant=tenant, roles=["CLINICIAN", "TENANT_ADMIN"])
    other.start()
    try:
        assert status_of(service, other.token("nurse")) == 401
    finally:
        other.stop()


def _part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def test_other_algorithms_are_refused(clinic: tuple[Service, str], provider: Provider) -> None:
    """The public key as a shared secret, and no signature at all: what the first libraries fell for."""
    service, _ = clinic
    _, claims, signature = provider.token("nurse").split(".")
    kid = {"kid": provider.key()["kid"]} if "kid" in provider.key() else {}
    assert status_of(service, f"{_part({'alg': 'none', **kid})}.{claims}.") == 401
    assert status_of(service, f"{_part({'alg': 'none', **kid})}.{claims}.{signature}") == 401
    public = RSAKey.import_key(provider.key()).as_pem(private=False)
    signed = f"{_part({'alg': 'HS256', 'typ': 'JWT', **kid})}.{claims}"
    mac = base64.urlsafe_b64encode(hmac.digest(public, signed.encode(), "sha256")).decode().rstrip("=")
    confused = f"{signed}.{mac}"
    assert status_of(service, confused) == 401


def test_new_keys_are_found_and_known_ones_outlive_the_issuer(clinic: tuple[Service, str], provider: Provider) -> None:
    service, _ = clinic
    before = provider.token("nurse")
    assert status_of(service, before) == 200
    old = provider.key()
    provider.restart()
    assert provider.key()["n"] != old["n"]
    after = provider.token("nurse")
    assert status_of(service, after) == 200
    provider.stop()
    assert status_of(service, after) == 200
    provider.start()
