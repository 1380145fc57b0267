"""Being asked to stop: requests and jobs in hand end, then PostgreSQL, then the process; nothing is left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from running_service import Service, request_for


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_service_leaves_no_process_and_ends_well(
    tmp_path: Path, fhir_url: str, number: signal.Signals
) -> None:
    service = Service(tmp_path / "data").start()
    with service.caller(service.create_tenant(fhir_url)) as api:
        job = api.post("/v1/documents/render-jobs", json=request_for(api.platform_version())).json()
    process = service._process
    assert process is not None
    process.send_signal(number)
    assert process.wait(40) == 0
    assert not list((tmp_path / "data").rglob("postmaster.pid"))
    service._process = None
    service.start()
    try:
        with service.caller(job_tenant(service)) as api:
            assert api.wait(job["id"])["status"] == "completed"
    finally:
        service.stop()


def job_tenant(service: Service) -> str:
    listed = subprocess.run(
        [sys.executable, "-m", "document_service", "tenant", "list", "--data-dir", str(service.data_dir)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return listed.split()[0]
