"""The operator's tools: what runs, what is missing, and what to do."""

from __future__ import annotations

import json
from typing import Any

import click

from document_service.commands.options import Options, has_begun, run, setting_options


@click.command()
@setting_options
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def doctor(options: Options, as_json: bool) -> int:
    """What runs, what is missing, what to do; exit 0 when the service can serve."""
    from document_service import diagnosis

    settings = options.first_settings()
    findings = run(diagnosis.examine(settings, options.data_folder(settings), begun=has_begun(settings)))
    if as_json:
        click.echo(json.dumps([finding.as_json() for finding in findings]))
    else:
        for finding in findings:
            click.echo(f"{finding.state:8} {finding.part:14} {finding.detail}")
            if finding.remedy:
                click.echo(f"{'':23} → {finding.remedy}")
    return 0 if all(finding.state != "missing" for finding in findings) else 69


COMMANDS: list[Any] = [doctor]
