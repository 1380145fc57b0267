"""`document-service template check | preview | export | import | publish`, as an author types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from document_service.commands.json_lines import line_of, lines_of
from document_service.synthetic import handmade_resources
from running_service import Service, request_for

FORM: dict[str, Any] = {
    "language": 1,
    "locales": ["en", "fa-AF"],
    "labels": {"en": {"title": "Letter", "name": "Name"}, "fa-AF": {"title": "نامه", "name": "نام"}},
    "translations": {"fa-AF": {"reviewedBy": "Dr. Haidari"}},
    "context": {"patient": {"read": "Patient"}},
    "bindings": {"name": {"path": "%patient.name.where(use = 'official').first()", "type": "humanName"}},
    "sections": [{"type": "header"}, {"type": "fieldGrid", "fields": [{"label": "name", "value": "name"}]}],
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command without a data folder in reach: these verbs need none."""
    command = [sys.executable, "-m", "document_service", "template", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def written(folder: Path, form: Any) -> Path:
    """The form as an author's file."""
    file = folder / "letter.json"
    file.write_text(json.dumps(form, indent=2, ensure_ascii=False), encoding="utf-8")
    return file


def test_a_good_form(tmp_path: Path) -> None:
    done = run("check", str(written(tmp_path, FORM)))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("good; pages: en 1, fa-AF 1\n")


def test_problems_lead_to_their_lines(tmp_path: Path) -> None:
    broken = json.loads(json.dumps(FORM))
    del broken["labels"]["fa-AF"]["name"]
    broken["bindings"]["name"]["path"] = "%patient.name.where("
    file = written(tmp_path, broken)
    done = run("check", str(file))
    assert done.returncode == 65
    lines = file.read_text(encoding="utf-8").splitlines()
    for line in done.stderr.splitlines():
        _, number, rest = line.split(":", 2)
        pointer = rest.strip().split(":")[0]
        assert f'"{pointer.rpartition("/")[2]}"' in lines[int(number) - 1]
    machine = json.loads(run("check", str(file), "--json").stdout)
    assert {problem["pointer"] for problem in machine["problems"]} == {"/labels/fa-AF", "/bindings/name/path"}


@pytest.mark.parametrize("text", [b'{"a": 1,}', b"", b"\xff\xfe", b"[" * 5000, b'{"a": NaN'])
def test_what_is_no_json_says_where(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "letter.json"
    file.write_bytes(text)
    done = run("check", str(file))
    assert done.returncode == 65
    assert done.stderr.startswith(f"{file}:1")
    assert "Traceback" not in done.stderr


def test_the_schema_that_editors_use_is_the_one_that_checks() -> None:
    schema = json.loads(run("schema").stdout)
    validator = Draft202012Validator(schema)
    assert list(validator.iter_errors(FORM | {"$schema": "definition.schema.json"})) == []
    assert [error.validator for error in validator.iter_errors(FORM | {"lables": {}})] == ["additionalProperties"]


def test_a_preview_of_each_kind(tmp_path: Path) -> None:
    file = written(tmp_path, FORM)
    assert run("preview", str(file)).stdout.strip() == str(tmp_path / "letter.preview.pdf")
    assert (tmp_path / "letter.preview.pdf").read_bytes().startswith(b"%PDF-")
    picture = tmp_path / "shown.png"
    assert run("preview", str(file), "--locale", "fa-AF", "--output", str(picture)).returncode == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run("preview", str(file), "--locale", "ps-AF").returncode == 64
    assert run("preview", str(file), "--output", "x.docx").returncode == 64


def test_a_preview_of_the_author_s_own_record(tmp_path: Path) -> None:
    entries = [{"resource": resource} for resource in handmade_resources()]
    bundle = tmp_path / "bundle.json"
    bundle.write_text(json.dumps({"resourceType": "Bundle", "entry": entries}), encoding="utf-8")
    file = written(tmp_path, FORM)
    assert run("preview", str(file), "--bundle", str(bundle)).returncode == 0
    assert run("preview", str(file), "--bundle", str(file)).returncode == 64


def test_out_of_the_catalogue_and_in_again(service: Service, tenant: str, tmp_path: Path) -> None:
    file = written(tmp_path, FORM)
    made = service.command(
        "template", "import", str(file), "--tenant", tenant, "--name", "Letter", "--category", "letter"
    )
    template = made.strip()
    exported = tmp_path / "out.json"
    service.command("template", "export", template, "--tenant", tenant, "--output", str(exported))
    assert json.loads(exported.read_text(encoding="utf-8")) == FORM
    changed = {**FORM, "page": {"size": "A5"}}
    again = service.command(
        "template",
        "import",
        str(written(tmp_path, changed)),
        "--tenant",
        tenant,
        "--name",
        "letter",
        "--category",
        "letter",
    )
    assert again.strip() == template
    with service.caller(tenant) as caller:
        assert caller.get(f"/v1/document-templates/{template}").json()["draft"] == changed
        route = f"/v1/document-templates/{template}/publish"
        assert caller.post(route, headers={"Idempotency-Key": "one"}).status_code == 201
    assert json.loads(service.command("template", "export", template, "--tenant", tenant)) == changed
    other = service.create_tenant("http://127.0.0.1:9/fhir")
    service.command("template", "export", template, "--tenant", other, "--version", "1.0.0", check=False)
    assert "Letter" not in service.command("template", "export", template, "--tenant", other, check=False)


def test_an_import_does_not_replace_what_an_author_saved(service: Service, tmp_path: Path) -> None:
    tenant = service.create_tenant("http://127.0.0.1:9/fhir")
    named = ("--tenant", tenant, "--name", "Letter", "--category", "letter")
    with service.caller(tenant) as caller:
        body = {"name": "Letter", "category": "letter", "definition": FORM}
        route = caller.post("/v1/document-templates", json=body).headers["location"]
        changed = written(tmp_path, {**FORM, "page": {"size": "A5"}})
        with pytest.raises(AssertionError, match="exit 64"):
            service.command("template", "import", str(changed), *named)
        assert caller.get(route).json()["draft"] == FORM
        service.command("template", "import", str(changed), *named, "--replace")
        assert caller.get(route).json()["draft"] == {**FORM, "page": {"size": "A5"}}
        # From now on the draft is the operator's, who may go on with the file.
        service.command("template", "import", str(written(tmp_path, FORM)), *named)
        assert caller.get(route).json()["draft"] == FORM


def test_a_draft_is_published_at_the_shell_as_by_the_route(service: Service, fhir_url: str, tmp_path: Path) -> None:
    tenant = service.create_tenant(fhir_url)
    named = ("--tenant", tenant, "--name", "Letter", "--category", "letter")
    template = service.command("template", "import", str(written(tmp_path, FORM)), *named).strip()
    publish = ("template", "publish", template, "--tenant", tenant, "--by", "dr.haidari")
    made = json.loads(service.command(*publish, "--json"))
    assert (made["semver"], made["templateId"], made["warnings"]) == ("1.0.0", template, [])
    with pytest.raises(AssertionError, match=r"exit 64(?s:.)*There is no draft to publish"):
        service.command(*publish)
    with service.caller(tenant) as caller:
        shown = caller.get(f"/v1/document-templates/{template}").json()
        assert (shown["status"], shown["currentVersionId"]) == ("published", made["id"])
        assert shown["versions"][0]["checksum"] == made["checksum"]
        [event] = caller.get("/v1/audit-events", params={"action": "template.publish"}).json()["items"]
        assert (event["actor"], event["detail"]) == ("dr.haidari", {"versionId": made["id"]})
        asked = request_for(made["id"], encounterId=None)
        assert caller.render(asked)["status"] == "completed", "devices can ask for it at once"
    # The next one: by the number that the author chose, and not below the last.
    service.command("template", "import", str(written(tmp_path, {**FORM, "page": {"size": "A5"}})), *named)
    with pytest.raises(AssertionError, match="choose a higher number"):
        service.command(*publish, "--version", "0.9.0")
    assert " 2.0.0 is published: tv_" in service.command(*publish, "--version", "2.0.0")


def test_a_draft_with_problems_is_not_published_at_the_shell(service: Service, tenant: str, tmp_path: Path) -> None:
    broken = json.loads(json.dumps(FORM))
    broken["labels"]["en"]["title"] = "Letter \u0b95"
    broken["bindings"]["name"]["path"] = "%patient.name.given"
    named = ("--tenant", tenant, "--name", "Broken letter", "--category", "letter")
    template = service.command("template", "import", str(written(tmp_path, broken)), *named).strip()
    command = [sys.executable, "-m", "document_service", "template", "publish", template, "--tenant", tenant]
    command += ["--by", "me", "--json", "--data-dir", str(service.data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 65
    with service.caller(tenant) as caller:
        route = f"/v1/document-templates/{template}"
        refused = caller.post(f"{route}/publish", headers={"Idempotency-Key": "as-by-the-route"})
        assert caller.get(route).json()["status"] == "draft"
    assert (refused.status_code, json.loads(done.stdout)["problems"]) == (422, refused.json()["errors"])
    assert len(done.stderr.splitlines()) >= len(refused.json()["errors"])
    theirs = service.create_tenant("http://127.0.0.1:9/fhir")
    with pytest.raises(AssertionError, match="exit 64"):
        service.command("template", "publish", template, "--tenant", theirs, "--by", "me")


def test_every_value_has_its_line() -> None:
    text = '{\n "a": [1,\n  {"b/c": "x\\"]"},\n  [[]]],\n "d": {}\n}'
    assert dict(lines_of(text)) == {
        "": 1,
        "/a": 2,
        "/a/0": 2,
        "/a/1": 3,
        "/a/1/b~1c": 3,
        "/a/2": 4,
        "/a/2/0": 4,
        "/d": 5,
    }
    assert line_of(lines_of(text), "/a/1/b~1c/0/nothing") == 3
