"""Commands that look after what is kept: backup and restore, the store, the epoch, the keys, a document's proof."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from document_service.commands.counting import counted
from document_service.commands.options import Options, run, setting_options
from document_service.commands.owner import owner_connection, owner_transaction
from document_service.settings import Settings

#: ``prove``: the document cannot be compared, because this installation is not the one that made it.
EXIT_DIFFERS = 2


def _tell(text: str) -> None:
    """Progress is for a person who watches; standard output is for the result."""
    click.echo(text, err=True)


@click.command()
@setting_options
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def backup(options: Options, folder: Path, as_json: bool) -> int:
    """Copy database and sealed objects, without the keys, while the service runs; again into DIR copies what is new."""
    from document_service import backup as backups
    from document_service.errors import BackupRefused

    try:
        done = run(backups.take(options.settings(), folder, _tell))
    except BackupRefused as refused:
        raise click.UsageError(f"{refused.title} {refused.detail}") from None
    if as_json:
        click.echo(json.dumps(asdict(done)))
        return 1 if done.damaged else 0
    for key in done.damaged:
        click.echo(f"{key}: cannot be read here, or differs from the copy in the backup, which was kept", err=True)
    click.echo(f"{folder}: {counted(done.objects, 'object')} and a database of {done.database_bytes // 2**20} MB")
    settings = options.settings()
    issuer = _issuer_key(settings)
    apart = f"{settings.keys} and {issuer}" if issuer is not None and issuer.exists() else f"{settings.keys}"
    click.echo(f"the keys are not in it; copy {apart} to another place")
    return 1 if done.damaged else 0


def _issuer_key(settings: Settings) -> Path | None:
    """The local issuer's key, by which everybody is signed in; None where another issuer makes the tokens."""
    from document_service.tokens.local_issuer import KEY_FILE

    return None if settings.oidc_issuer is not None else settings.data_dir / KEY_FILE


@click.command()
@setting_options
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Set a database that is here aside and restore in its place.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def restore(options: Options, folder: Path, force: bool, as_json: bool) -> None:
    """Put a backup back into a stopped service and draw a new epoch; nothing that is here is deleted."""
    from document_service import backup as backups
    from document_service.errors import BackupRefused

    # That the database is behind the store, and gets a new epoch, is what a restore is for and no warning.
    logging.getLogger("document_service").setLevel(logging.ERROR)
    try:
        settings = options.first_settings()
        done = run(backups.put_back(settings, folder, force=force, tell=_tell))
    except BackupRefused as refused:
        raise click.UsageError(f"{refused.title} {refused.detail}") from None
    if as_json:
        aside = None if done.set_aside is None else str(done.set_aside)
        click.echo(json.dumps(asdict(done) | {"set_aside": aside}))
        return
    click.echo(f"restored the state of {done.backup.taken_at}; devices will ask for what came after it")
    if done.set_aside is not None:
        click.echo(f"the database that was here is now {done.set_aside}")
    for key in done.backup.damaged:
        click.echo(f"{key}: could not be read, or differed, when the backup was made: see `store verify`")
    for tenant in done.without_key:
        click.echo(f"tenant {tenant} has no key here: put it back from the copy of the key folder")
    issuer = _issuer_key(settings)
    if issuer is not None and not issuer.exists():
        click.echo(f"{issuer} is not here: put it back from its copy before the start, or everybody signs in again")


@click.group()
@setting_options
def epoch() -> None:
    """The sync epoch, by which devices notice that the server was restored."""


@epoch.command("renew")
@setting_options
@click.pass_obj
def renew_epoch(options: Options) -> None:
    """Draw a new epoch by hand: at its next sync every device asks what became of its requests."""
    from document_service import epoch as epochs

    async def renew() -> str:
        async with owner_transaction(options.settings()) as connection:
            return await epochs.renew(connection, "an operator asked for it")

    click.echo(run(renew()))
    click.echo("at its next sync every device asks what became of its requests", err=True)


@click.group()
@setting_options
def store() -> None:
    """The object store."""


@store.command()
@setting_options
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def verify(options: Options, as_json: bool) -> int:
    """Read every object that a row names and compare it with its row; exit 1 and a list when one differs."""
    from document_service import runtime, store_care
    from document_service.store import open_store

    settings = options.settings()

    async def read() -> Any:
        async with owner_connection(options.settings()) as connection:
            keys = await runtime.open_keys(settings, connection)
            await runtime.refuse_absent_store(settings, connection)
            return await store_care.verify(connection, open_store(settings.objects, keys), keys)

    report = run(read())
    if as_json:
        click.echo(json.dumps(report.as_json()))
    else:
        for fault in report.faults:
            click.echo(f"{fault.tenant} {fault.id} {fault.part}: {fault.problem}")
        for tenant in report.shredded:
            click.echo(f"{tenant}: shredded, not read")
        click.echo(
            f"{counted(report.objects, 'object')} of {report.bytes} bytes read, {counted(len(report.faults), 'fault')}"
        )
    return 1 if report.faults else 0


@click.group()
@setting_options
def keys() -> None:
    """The key folder."""


@keys.command()
@setting_options
@click.pass_obj
def rotate(options: Options) -> None:
    """Wrap every key under a new master key and destroy the old one; running processes go on with the new one."""
    from document_service import runtime
    from document_service.keys import KeyStore

    settings = options.settings()

    async def wrap() -> int:
        if not runtime.lacks_keys(settings.keys):
            # The keys alone are needed: the database may be down, or on a machine that was stolen.
            return KeyStore.open(settings.keys).rotate_master()
        async with owner_connection(settings) as connection:
            return (await runtime.open_keys(settings, connection)).rotate_master()

    count = run(wrap())
    click.echo(
        f"wrapped by a new master key: {counted(count, 'key')}; copy {settings.keys} anew and destroy its old copies"
    )


@click.command()
@setting_options
@click.argument("document_id", metavar="DOC_ID")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def prove(options: Options, document_id: str, as_json: bool) -> int:
    """Render a document again from its sealed snapshot: exit 0 identical, 2 made by something else, 1 altered."""
    from document_service import proof, runtime
    from document_service.store import open_store

    settings = options.settings()

    async def render() -> Any:
        async with owner_connection(options.settings()) as connection:
            keys = await runtime.open_keys(settings, connection)
            await runtime.refuse_absent_store(settings, connection)
            return await proof.prove(connection, open_store(settings.objects, keys), keys, document_id)

    found = run(render())
    if as_json:
        click.echo(json.dumps(found.as_json()))
    else:
        click.echo(found.verdict)
        for difference in found.differences:
            click.echo(f"{difference.what} was {difference.then or 'absent'} and is {difference.now or 'absent'}")
        if found.stored != found.recorded:
            click.echo("the stored bytes are not those that were recorded")
    return {"identical": 0, "differs": EXIT_DIFFERS}.get(str(found.verdict), 1)


COMMANDS: list[Any] = [backup, restore, epoch, store, keys, prove]
