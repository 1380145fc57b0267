"""``document-service tenant recover``: answer a device that lost the keys of its request queue or its audit outbox."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from document_service.commands.counting import counted
from document_service.commands.options import Options, run, setting_options
from document_service.commands.owner import owner_transaction


@click.command("recover")
@setting_options
@click.argument("tenant_id", metavar="TENANT")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The answer, for that device alone.")
@click.option("--by", required=True, help="Who answers, for the audit trail.")
@click.pass_obj
def recover(options: Options, tenant_id: str, file: Path, out: Path, by: str) -> None:
    """Answer FILE, which a device wrote by `documents recover --ask`, with the keys of its set-aside files.

    The device must be enrolled, not revoked, and have signed the file. The answer opens nothing elsewhere; the act is
    recorded.
    """
    from document_service import audit, devices, recovery, runtime, tenants

    settings = options.settings()
    if out.exists():
        raise click.BadParameter(f"{out} exists; nothing was written", param_hint="--out")
    try:
        asked = recovery.read(file.read_bytes(), tenant_id)
    except ValueError as reason:
        raise click.BadParameter(str(reason), param_hint="FILE") from None

    async def answer() -> tuple[dict[str, Any], str]:
        async with owner_transaction(settings, tenant_id) as connection:
            keys = await runtime.open_keys(settings, connection)
            await tenants.show(connection, tenant_id)
            device = await devices.find(connection, asked.device_id)
            if device is None or not asked.is_signed_by(device.public_key):
                raise click.BadParameter("no device enrolled in this tenant signed it", param_hint="FILE")
            if device.revoked_at is not None:
                raise click.BadParameter(f"the device {device.id} was revoked", param_hint="FILE")
            made = recovery.answer(keys, tenant_id, asked)
            outboxes = sum(file.startswith("audit.db") for file, _, _ in asked.items)
            detail = {"queues": len(asked.items) - outboxes, "outboxes": outboxes}
            event = audit.Event("queue.recover", by, device_id=device.id, detail=detail)
            await audit.record(connection, tenant_id, event)
            return made, device.user_id

    made, user = run(answer())
    with open(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        json.dump(made, stream)
    click.echo(
        f"{out}: the keys of {counted(len(made['items']), 'file')}, for the device {made['deviceId']} of {user} alone"
    )
