"""Schemathesis against the OpenAPI document, on the real service with every part of it (issue 5).

It makes thousands of requests from the document, in and out of its bounds, with ids of records that exist. No answer
may be a fault of the server, and none may be one that the document does not promise: status, type and shape.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hostile_files
from clamav import running_clamd
from document_acts import made
from engines import EngineRequirement
from running_service import Api, Service, request_for
from upload_acts import send

#: Requests per operation besides the fixed ones at the schema's bounds. `make soak` runs more.
EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "8"))

#: A busy machine needs about a minute for the default; more is a hang.
SECONDS = 400 + 20 * EXAMPLES

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory, require_engine: EngineRequirement) -> Iterator[Service]:
    require_engine("clamd")
    folder = tmp_path_factory.mktemp("conformance")
    (folder / "clamd").mkdir()
    with running_clamd(folder / "clamd") as clamd:
        running = Service(folder / "data", DOCUMENT_SERVICE_CLAMD=clamd.address).start("--workers", "1")
        try:
            yield running
        finally:
            running.stop()


def ids_of_real_records(api: Api) -> dict[str, Any]:
    """Ids for the paths, so that requests come further than a 404."""
    job = api.render(request_for(api.platform_version()))
    form = api.get("/v1/document-templates", params={"platformFormKey": "general-test-requisition"}).json()["items"][0]
    own = api.post(f"/v1/document-templates/{form['id']}/fork", json={"name": "Ours"}).json()
    verify = json.dumps(api.get(f"/v1/documents/{job['documentId']}").json()).partition("/verify/")[2]
    return {
        "path.document_id": made(api)["id"],
        "path.job_id": job["id"],
        "path.template_id": own["id"],
        "path.version_id": form["currentVersionId"],
        "path.upload_id": send(api, hostile_files.pdf_of()),
        "path.code": verify[:26] or "A" * 26,
    }


def test_no_server_error_and_no_undocumented_answer(complete: Service, fhir_url: str, tmp_path: Path) -> None:
    tenant = complete.create_tenant(fhir_url)
    with complete.caller(tenant) as api:
        ids = ids_of_real_records(api)
    lines = ["[parameters]", *(f'"{name}" = "{value}"' for name, value in ids.items())]
    (tmp_path / "schemathesis.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{complete.url}/openapi.json"),
            *("--header", f"Authorization: Bearer {complete.token(tenant)}"),
            *("--phases", "coverage,fuzzing", "--max-examples", str(EXAMPLES), "--checks", CHECKS),
            *("--seed", "20261122", "--generation-deterministic"),
            *("--no-shrink", "--continue-on-failure", "--warnings", "off", "--suppress-health-check", "all"),
        ],
        cwd=tmp_path,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    told = done.stdout.split("Test cases:")[1]
    assert int(told.split()[0]) > 500, done.stdout[-3000:]
    assert '"level": "error"' not in complete.log
