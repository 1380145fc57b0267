"""Sign-in by device flow at a certified OpenID provider, end to end: `documents login`, renewal, rotation, the end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from device_sign_in import AUDIENCE, CLIENT, DeviceProvider, approve, refuse
from document_client import DocumentClient, issuer, renewal
from document_client.errors import NoDeviceSignIn, SignInRefused
from document_client.issuer import Prompt
from documents_command import PASSPHRASE, documents, environment
from engines import EngineRequirement
from running_service import Service

# Longer than a whole login, shorter than a test: what is left to wait for is the end of a token.
_LIFE_SECONDS = 8


@pytest.fixture(scope="module")
def provider(require_engine: EngineRequirement) -> Iterator[DeviceProvider]:
    require_engine("openid-provider")
    running = DeviceProvider(_LIFE_SECONDS).start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def clinic(
    provider: DeviceProvider, tmp_path_factory: pytest.TempPathFactory, fhir_url: str
) -> Iterator[tuple[Service, str]]:
    service = Service(
        tmp_path_factory.mktemp("device-flow") / "data",
        DOCUMENT_SERVICE_OIDC_ISSUER=provider.url,
        DOCUMENT_SERVICE_OIDC_AUDIENCE=AUDIENCE,
        DOCUMENT_SERVICE_OIDC_CLIENT_ID=CLIENT,
    ).start("--workers", "1")
    try:
        tenant = service.create_tenant(fhir_url)
        provider.knows("nurse", tenant=tenant, roles=["CLINICIAN"], facilities=None)
        provider.knows("nobody", roles=["CLINICIAN"])
        yield service, tenant
    finally:
        service.stop()


@pytest.fixture(autouse=True)
def patient_person(monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider names no interval, and the five seconds of RFC 8628 are for people; the command keeps to them."""
    monkeypatch.setattr(issuer, "_INTERVAL_SECONDS", 0.2)


def signs_in(user: str) -> Any:
    """A ``show`` whose person goes to the page at once."""
    seen: list[Prompt] = []

    def show(prompt: Prompt) -> None:
        if not seen:
            seen.append(prompt)
            approve(prompt.address, prompt.code, user)

    return show


@pytest.fixture
def nurse(clinic: tuple[Service, str], tmp_path: Path) -> Iterator[DocumentClient]:
    with DocumentClient(tmp_path / "home", passphrase=PASSPHRASE) as client:
        client.login(clinic[0].url, show=signs_in("nurse"))
        yield client


def token_of(client: DocumentClient) -> str:
    return str(client.account().token())


def spoil_token(client: DocumentClient) -> None:
    """Leave a token that the service does not take: its words are the same, its signature is another's."""
    account = client.account()
    header, claims, signature = token_of(client).split(".")
    account.vault.put(f"token/{account.session.account_id}", f"{header}.{claims}.{signature[::-1]}".encode())


def ask(client: DocumentClient) -> str:
    patient = "demo-patient-ahmadzai"
    return str(client.request("General Test Requisition", patient)["clientMutationId"])


def test_the_command_shows_page_and_code_and_then_the_session_works(
    clinic: tuple[Service, str], tmp_path: Path
) -> None:
    service, tenant = clinic
    home = tmp_path / "home"
    login = subprocess.Popen(
        [sys.executable, "-m", "document_client", "login", "--server", service.url],
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert login.stderr is not None
    told = ""
    while "Waiting" not in told:
        line = login.stderr.readline()
        assert line, told
        told += line
    page, code = re.findall(r"^    (\S+)$", told, re.MULTILINE)
    approve(page, code, "nurse")
    out, err = login.communicate(timeout=60)
    assert login.returncode == 0, err
    assert f"Signed in as nurse of {tenant}" in out
    who = json.loads(documents(home, "whoami", "--json").stdout)
    assert (who["tenant"], who["user"], who["roles"], who["tokenRenews"]) == (tenant, "nurse", ["CLINICIAN"], True)
    documents(home, "request", "General Test Requisition", "--patient", "demo-patient-ahmadzai")
    synced = documents(home, "sync")
    assert synced.returncode == 0, synced.stdout + synced.stderr
    assert "sent 1 request, received 1 document" in synced.stdout
    assert documents(home, "logout").returncode == 0


def test_what_the_service_says_before_anybody_signed_in(clinic: tuple[Service, str], provider: DeviceProvider) -> None:
    told = httpx2.get(f"{clinic[0].url}/.well-known/oauth-protected-resource", trust_env=False).json()
    assert told["resource"] == clinic[0].url
    assert told["authorization_servers"] == [provider.url]
    assert told["device_sign_in"] == {
        "issuer": provider.url,
        "client_id": CLIENT,
        "scope": "openid offline_access",
        "resource": AUDIENCE,
        "tenant_claim": "tenant",
    }


def test_a_person_who_says_no_leaves_nothing(clinic: tuple[Service, str], tmp_path: Path) -> None:
    def show(prompt: Prompt) -> None:
        refuse(prompt.address, prompt.code)

    with DocumentClient(tmp_path / "home", passphrase=PASSPHRASE) as client, pytest.raises(SignInRefused):
        client.login(clinic[0].url, show=show)
    assert not (tmp_path / "home" / "session.json").exists()


def test_a_service_with_its_local_issuer_names_no_page(service: Service, tmp_path: Path) -> None:
    with DocumentClient(tmp_path / "home", passphrase=PASSPHRASE) as client, pytest.raises(NoDeviceSignIn):
        client.login(service.url, show=signs_in("nurse"))


def test_a_token_that_ends_soon_is_renewed_before_it_is_used(nurse: DocumentClient, provider: DeviceProvider) -> None:
    """The life of a token is shorter here than the time before its end at which it is renewed."""
    before, spent = token_of(nurse), provider.renewals()
    ask(nurse)
    assert nurse.sync(wait_seconds=20).success
    assert token_of(nurse) != before
    assert provider.renewals() > spent


def test_a_refused_token_is_renewed_once_and_the_requests_go(
    nurse: DocumentClient, provider: DeviceProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "is_due", lambda *any: False)
    nurse.templates()
    ask(nurse)
    spoil_token(nurse)
    spent = provider.renewals()
    report = nurse.sync(wait_seconds=20)
    assert (report.success, report.acknowledged) == (True, 1)
    assert provider.renewals() == spent + 1


def test_two_programs_do_not_both_spend_a_refresh_token(nurse: DocumentClient, provider: DeviceProvider) -> None:
    """The provider ends the session of whoever spends one twice: both must go on with the one new token."""
    account = nurse.account()
    used, spent = token_of(nurse), provider.renewals()

    script = (
        "import sys, time; from document_client import DocumentClient, renewal\n"
        "client = DocumentClient(sys.argv[1], passphrase=sys.argv[2]); account = client.account()\n"
        "sys.stdout.write('ready\\n'); sys.stdout.flush(); sys.stdin.readline()\n"
        "print(renewal.renew(account.home, account.vault, account.session.account_id, sys.argv[3], time.time()))\n"
    )
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(nurse.home), PASSPHRASE, used],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for program in programs:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda program: program.communicate("go\n", timeout=60)[0].strip(), programs))
    assert len(set(answers)) == 1
    assert answers[0] not in ("None", used)
    assert provider.renewals() == spent + 1
    assert renewal.renew(account.home, account.vault, account.session.account_id, answers[0], time.time())


def test_a_session_that_the_issuer_ended_waits_for_a_sign_in(
    nurse: DocumentClient, provider: DeviceProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the refresh token is in no file and in no word that is said."""
    nurse.templates()
    cmid = ask(nurse)
    account = nurse.account()
    kept = renewal._read(account.vault, account.session.account_id)
    assert kept is not None
    grant = kept[0]
    renewal.end(grant)
    spoil_token(nurse)
    report = nurse.sync()
    assert (report.stopped, report.acknowledged) == ("SIGN_IN", 0)
    assert not renewal.is_renewable(account.vault, account.session.account_id)
    assert nurse.queue.show(cmid)["status"] == "queued"
    for path in nurse.home.rglob("*"):
        if path.is_file():
            assert str(grant.refresh).encode() not in path.read_bytes(), path
    nurse.login(nurse.account().session.server, show=signs_in("nurse"))
    assert nurse.sync(wait_seconds=20).acknowledged == 1


def test_signing_out_ends_the_session_at_the_issuer_too(nurse: DocumentClient, provider: DeviceProvider) -> None:
    account = nurse.account()
    kept = renewal._read(account.vault, account.session.account_id)
    assert kept is not None
    assert nurse.logout().requests == 0
    assert kept[0].issuing is not None
    form = {"client_id": CLIENT, "grant_type": "refresh_token", "refresh_token": kept[0].refresh, "resource": AUDIENCE}
    answer = httpx2.post(kept[0].issuing.token_endpoint, data=form, trust_env=False)
    assert answer.json()["error"] == "invalid_grant"
