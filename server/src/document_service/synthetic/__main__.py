"""``python -m document_service.synthetic [--port N]``: the made-up FHIR server in the foreground, until Ctrl+C."""

from __future__ import annotations

import signal
import sys
import threading

import click

from document_service.synthetic.fhir_server import (
    DEFAULT_COHORT,
    DEFAULT_SEED,
    SyntheticFhirServer,
    SyntheticServerError,
)


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1; 0 takes a free one.")
@click.option("--patients", "generated", type=click.IntRange(0, 1000), default=DEFAULT_COHORT, show_default=True)
@click.option("--seed", type=int, default=DEFAULT_SEED, show_default=True)
@click.option("--token", help="Refuse requests without this bearer token.")
def main(port: int, generated: int, seed: int, token: str | None) -> None:
    """Serve made-up patients as FHIR R4; prints the base URL and the patients' ids."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        with SyntheticFhirServer(port=port, generated=generated, seed=seed, token=token) as server:
            click.echo(server.base_url)
            for patient in server.patients:
                click.echo(f"{patient.id}  {patient.encounter_id}  {patient.locale}  {patient.name}")
            sys.stdout.flush()
            ended.wait()
    except (SyntheticServerError, OSError) as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
