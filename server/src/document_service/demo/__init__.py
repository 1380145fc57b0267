"""The walk of ``make demo``: the main job of the product with every real part on it, each step checked.

    stage     what the walk stands on: FHIR server, service, network, the clinic's device; started and ended here
    walk      the steps, in order; a step that does not hold ends the walk
    report    the table at the end

Everything lies under ``demo/`` of the virtual environment and is made anew each time. Nothing is imported from the
client: the device is the ``documents`` command, as a clinic types it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from document_service.demo.report import print_report
from document_service.demo.stage import Stage, StageError
from document_service.demo.walk import Walk


def run_demo(*, keep: bool = False, folder: Path | None = None) -> int:
    """Walk the main job and return the exit code: 0 when every step held, 1 when one did not, 69 without a stage.

    ``keep`` leaves the service running afterwards until Ctrl+C. ``folder`` is for tests; the default lies in the
    virtual environment.
    """
    from rich.console import Console

    # In a log or a pipe rich assumes 80 columns, too few for the table at the end.
    console = Console(width=None if sys.stdout.isatty() else 140)
    stage = Stage(folder or Path(sys.prefix) / "demo", console)
    try:
        stage.clear()
    except (StageError, OSError) as error:
        console.print(f"[red]The demo cannot start:[/red] {error}")
        return 69
    with stage:
        walk = Walk(stage)
        held = walk.run()
        print_report(console, walk)
        if keep and held:
            stage.linger()
    return 0 if held else 1
