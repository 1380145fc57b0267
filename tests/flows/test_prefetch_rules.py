"""A tenant's prefetch rule, from the operator's command to the copy on a colleague's device."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from document_acts import made, supersede
from document_client import DocumentClient
from document_service.commands.tenant_commands import tenant as tenant_command
from running_service import Service


def test_what_the_tenants_rule_names_is_on_a_colleagues_device_before_anybody_asks(
    service: Service, fhir_url: str, tmp_path: Path
) -> None:
    tenant = service.create_tenant(fhir_url, "--prefetch-days", "7", "--prefetch-category", "lab_requisition")
    with (
        service.caller(tenant, "doctor") as doctor,
        DocumentClient(tmp_path / "home", passphrase="correct horse") as nurse,
    ):
        first = made(doctor)
        nurse.login(service.url, service.token(tenant, "nurse", roles=("CLINICIAN",)))
        report = nurse.sync()
        assert report.success
        assert report.downloaded == 1
        assert nurse.documents.list()[0]["id"] == first["id"]
        assert nurse.documents.read(first["id"]).content.startswith(b"%PDF")
        rule = nurse.account().policy().prefetch
        assert rule is not None
        assert (rule.categories, rule.days, rule.most_bytes) == (("lab_requisition",), 7.0, 16 * 1024 * 1024)

        # A correction: the stale copy goes, what replaces it comes, and the device says which it is.
        second = made(doctor)
        assert supersede(doctor, first["id"], second["id"]).status_code == 200
        report = nurse.sync()
        assert report.replaced == {first["number"]: second["number"]}
        states = {d["id"]: (d["state"], d["status"]) for d in nurse.documents.list()}
        assert states == {second["id"]: ("available", "current"), first["id"]: ("withdrawn", "superseded")}

        service.command("tenant", "create", tenant, "--no-prefetch", "--on-expiry", "delete")
        made(doctor)
        assert nurse.sync().downloaded == 0
        assert nurse.account().policy().prefetch is None
        assert nurse.account().policy().on_expiry == "delete"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--prefetch-category", "letter"),
        ("--prefetch-bytes", "1000"),
        ("--prefetch-days", "7", "--prefetch-category", "poem"),
        ("--prefetch-days", "7", "--no-prefetch"),
    ],
)
def test_half_a_rule_is_refused_before_anything_is_changed(arguments: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(click.UsageError):
        tenant_command.main(["create", "t-x", "--data-dir", str(tmp_path), *arguments], standalone_mode=False)
    assert not list(tmp_path.iterdir())
