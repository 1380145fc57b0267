"""Which files of tests are begun first, so that no process is left alone at the end with a long one.

pytest-xdist hands out whole files (``--dist loadfile``), by itself those with the most tests first: hundreds of quick
cases of the units, and last the flows that start and kill services.
"""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parent

#: The files that took most processor time or waited longest, the longest first, by a run on two cores on 29 November
#: 2026. A wrong place costs time and never a test.
LONGEST = (
    "flows/test_data_folder.py",
    "flows/test_uploads_scanner_lost.py",
    "flows/test_postgres_supervisor.py",
    "flows/test_operator_commands.py",
    "flows/test_power_cuts.py",
    "flows/test_openapi_conformance.py",
    "contract/from_outside/test_device_commands.py",
    "flows/test_backup.py",
    "flows/test_bad_input.py",
    "contract/from_outside/test_lives.py",
    "contract/from_outside/test_generate.py",
    "flows/test_client_over_bad_networks.py",
    "flows/test_queue_recovery.py",
    "flows/test_job_commands.py",
    "flows/test_patient_volume.py",
    "flows/test_lanes.py",
    "flows/test_backup_s3.py",
    "flows/test_bulk_and_admission.py",
    "flows/test_device_sign_in.py",
    "flows/test_client_online.py",
    "flows/test_client_kill.py",
    "flows/test_demo.py",
)

#: The rest: what starts processes before what computes.
FOLDERS = ("contract", "flows", "simulation", "golden", "unit")


def place(path: Path) -> tuple[int, int, str]:
    """Where a file of tests stands in the order; raises ValueError for a folder of tests that has no place."""
    name = path.relative_to(TESTS).as_posix()
    first = LONGEST.index(name) if name in LONGEST else len(LONGEST)
    return first, FOLDERS.index(name.split("/")[0]), name
