"""What an operator mistypes is told as such (64, contract §5), and what only the service lacks is not (69)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from running_service import Service


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``document-service`` on a data folder."""
    command = [sys.executable, "-m", "document_service", *arguments, "--data-dir", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("tenant show nowhere", "This tenant does not exist"),
        ("jobs failed --tenant nowhere", "This tenant does not exist"),
        ("jobs numbers --tenant nowhere", "This tenant does not exist"),
        ("retention show nowhere", "This tenant does not exist"),
        ("audit verify --tenant nowhere", "This tenant does not exist"),
        ("template export tmpl_01JD0000000000000000000000 --tenant {tenant}", "nothing with this id"),
        ("template publish tmpl_01JD0000000000000000000000 --tenant {tenant} --by me", "nothing with this id"),
        ("template publish tmpl_01JD0000000000000000000000 --tenant nowhere --by me", "This tenant does not exist"),
        ("template publish tmpl_01JD0000000000000000000000 --tenant {tenant} --by me --version 1.2", "--version"),
        ("template publish tmpl_01JD0000000000000000000000 --tenant {tenant} --by me --from noon", "--from"),
        ("template publish tmpl_01JD0000000000000000000000 --tenant {tenant}", "--by"),
        ("template publish tmpl_01JD0000000000000000000000 --tenant platform --by me", "--tenant"),
        ("template pin referral-letter --tenant {tenant} --version 99.0.0", "The form has"),
        ("template pin no-such-form --tenant {tenant} --version 1.0.0", "ships no form"),
        ("prove doc_01JD0000000000000000000000", "no document with this id"),
        ("hold release {tenant} no-such-case --reason over", "This case holds nothing"),
    ],
)
def test_what_is_not_there_is_a_mistake_in_the_command(service: Service, tenant: str, line: str, said: str) -> None:
    done = run(service.data_dir, *line.format(tenant=tenant).split())
    assert (done.returncode, done.stdout) == (64, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_numbers_have_their_nouns(service: Service, tenant: str) -> None:
    assert (
        service.command("audit", "verify", "--tenant", tenant)
        .rstrip()
        .endswith("of 1 tenant checked: the chain is whole")
    )


def test_a_copy_names_every_key_that_is_not_in_it(service: Service, tmp_path: Path) -> None:
    said = service.command("backup", str(tmp_path / "backup"))
    issuer = service.data_dir / "local-issuer.json"
    assert f"copy {service.data_dir / 'keys'} and {issuer} to another place" in said
    here = tmp_path / "here"
    here.mkdir()
    subprocess.run(["cp", "-r", str(service.data_dir / "keys"), str(here / "keys")], check=True)
    done = run(here, "restore", str(tmp_path / "backup"))
    assert done.returncode == 0, done.stderr
    assert "local-issuer.json is not here" in done.stdout
    (here / "local-issuer.json").write_bytes(issuer.read_bytes())
    assert "local-issuer" not in run(here, "restore", str(tmp_path / "backup"), "--force").stdout
