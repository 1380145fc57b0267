"""The command line of the service: ``document-service``. Every option works before or after the verb."""

from __future__ import annotations

import asyncio
import sys

import click

from document_service import __version__
from document_service.commands.argv import behind_the_verb
from document_service.commands.options import Options, run, setting_options
from document_service.errors import Conflict, Forbidden, InvalidRequest, NotFound, ServiceError
from document_service.settings import SettingError

#: Exit codes by class (sysexits.h): usage, unavailable, configuration.
EXIT_USAGE, EXIT_UNAVAILABLE, EXIT_CONFIGURATION = 64, 69, 78

#: What whoever typed the command can mend: an id that is not there, a value, a state that does not allow the act.
_MENDABLE = (InvalidRequest, Forbidden, NotFound, Conflict)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@setting_options
@click.version_option(__version__)
@click.pass_context
def cli(context: click.Context) -> None:
    """Clinical documents from live FHIR R4 data, with an offline contract."""
    context.ensure_object(Options)


@cli.command()
@setting_options
@click.option("--no-worker", is_flag=True, help="Only the API; workers run elsewhere.")
@click.pass_obj
def serve(options: Options, no_worker: bool) -> None:
    """Run API, worker and housekeeping in one process."""
    from document_service import serving, telemetry

    settings = options.first_settings()
    telemetry.configure(settings.log_level)
    run(serving.serve(settings, with_worker=not no_worker, ready=lambda where: click.echo(f"listening on {where}")))


@cli.command()
@setting_options
@click.pass_obj
def worker(options: Options) -> None:
    """Run a worker alone, on any machine that reaches PostgreSQL, the store and the keys."""
    from document_service import serving, telemetry

    settings = options.first_settings()
    telemetry.configure(settings.log_level)
    run(serving.work_alone(settings, lambda where: click.echo(f"{where} ready")))


@cli.command()
@setting_options
@click.pass_obj
def migrate(options: Options) -> None:
    """Apply migrations and bring the platform's forms to this version, as the owner role."""
    from document_service import runtime

    async def apply() -> None:
        settings = options.first_settings()
        settings.make_data_dir()
        async with runtime.open_address(settings, stays=False) as address:
            await runtime.prepare_database(address)

    run(apply())
    click.echo("the database is up to date")


@cli.command()
@setting_options
@click.option("--tenant", required=True, help="The tenant that the token is for.")
@click.option("--user", required=True, help="The user's id (sub).")
@click.option("--role", "roles", multiple=True, help="CLINICIAN, DOCUMENT_AUTHOR, TENANT_ADMIN or AUDITOR.")
@click.option("--facility", "facilities", multiple=True, help="A facility of the user; none = whole tenant.")
@click.option("--expires", default="12h", show_default=True, help="Life of the token.")
@click.pass_obj
def token(
    options: Options, tenant: str, user: str, roles: tuple[str, ...], facilities: tuple[str, ...], expires: str
) -> None:
    """Issue a token of this machine's local issuer; the token alone is on standard output."""
    from document_service.settings import parse_duration
    from document_service.tokens import CLINICIAN, ROLES, LocalIssuer, tenant_id_problem
    from document_service.tokens.local_issuer import KEY_FILE

    settings = options.first_settings()
    if not (settings.data_dir / KEY_FILE).exists():
        # A key that nobody's service knows would make tokens that nobody takes.
        settings = options.begin() if options.names_folder else options.settings()
    if settings.oidc_issuer is not None:
        raise SettingError("DOCUMENT_SERVICE_OIDC_ISSUER is set: tokens come from that issuer, not from here.")
    problem = tenant_id_problem(tenant)
    if problem is not None:
        raise click.BadParameter(problem, param_hint="--tenant")
    unknown = [role for role in roles if role not in ROLES]
    if unknown:
        raise click.BadParameter(f"allowed are {', '.join(sorted(ROLES))}", param_hint="--role")
    try:
        lifetime = parse_duration(expires)
    except ValueError as reason:
        raise click.BadParameter(str(reason), param_hint="--expires") from None
    issuer = LocalIssuer(settings.data_dir)
    try:
        click.echo(issuer.issue(tenant, user, roles or (CLINICIAN,), facilities or None, lifetime))
    except ValueError as reason:
        raise click.UsageError(str(reason)) from None


@cli.command()
@setting_options
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def settings(options: Options, as_json: bool) -> None:
    """Every setting with value, source and meaning."""
    import json

    lines = options.lines()
    if as_json:
        click.echo(
            json.dumps([{"name": x.name, "value": x.value, "source": x.source, "meaning": x.meaning} for x in lines])
        )
        return
    for line in lines:
        click.echo(f"{line.name:36} {line.value:34} {line.source}\n{'':36} {line.meaning}")


@cli.command()
@setting_options
@click.option("--keep", is_flag=True, help="Keep the demo's service running at the end.")
@click.pass_obj
def demo(options: Options, keep: bool) -> None:
    """Walk the main job: queue offline, sync, open and print offline."""
    from document_service.demo import run_demo

    sys.exit(run_demo(keep=keep))


def all_commands() -> click.Group:
    """The command with everything below it."""
    from document_service.commands import (
        audit_commands,
        job_commands,
        operators,
        pin_commands,
        publish_commands,
        recovery_commands,
        retention_commands,
        store_commands,
        template_commands,
        tenant_commands,
    )

    tenant_commands.tenant.add_command(recovery_commands.recover)
    cli.add_command(tenant_commands.tenant)
    cli.add_command(template_commands.template)
    for verb in (*pin_commands.COMMANDS, *publish_commands.COMMANDS):
        template_commands.template.add_command(verb)
    for module in (operators, audit_commands, job_commands, store_commands, retention_commands):
        for command in module.COMMANDS:
            cli.add_command(command)
    return cli


def main() -> None:
    """Entry of the console script: errors of ours are one line on standard error and an exit code."""
    try:
        root = all_commands()
        code = root.main(behind_the_verb(root, sys.argv[1:]), prog_name="document-service", standalone_mode=False)
    except SettingError as error:
        click.echo(f"document-service: {error}", err=True)
        sys.exit(EXIT_CONFIGURATION)
    except ServiceError as error:
        click.echo(f"document-service: {error.title} {error.detail or ''}".rstrip(), err=True)
        sys.exit(EXIT_USAGE if isinstance(error, _MENDABLE) else EXIT_UNAVAILABLE)
    except OSError as error:
        # A full disk, or a folder that cannot be made: which one is all that an operator needs to know.
        click.echo(f"document-service: {error.strerror or error}: {error.filename or 'no file is named'}", err=True)
        sys.exit(EXIT_UNAVAILABLE)
    except click.UsageError as error:
        error.show()
        sys.exit(EXIT_USAGE)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
