"""``document-service template``: for authors who work in files and git.

``check`` and ``preview`` need no database and no network; ``export`` and ``import`` move definitions between files and
a tenant's catalogue, as the owner role. Exit codes: 0 good, 64 usage, 65 the definition has problems.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from document_service.commands.counting import counted
from document_service.commands.options import Options, run, setting_options
from document_service.commands.owner import owner_transaction

if TYPE_CHECKING:
    from document_service.errors import Problem
    from document_service.sample_patients import SampleRecord
    from document_service.trials import Sheet

#: sysexits.h EX_DATAERR: the input is not what it should be.
EXIT_DATA = 65

#: Twice the largest definition that is taken; a larger file is no definition.
MOST_BYTES = 1024 * 1024

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class _NotJson(Exception):
    """The file is not JSON; the text says where."""


def _read(file: Path) -> tuple[str, Any]:
    if file.stat().st_size > MOST_BYTES:
        raise click.BadParameter(f"the file has more than {MOST_BYTES // 1024} KB", param_hint="FILE")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise _NotJson(f"{file}:1: save the file as UTF-8") from None
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise _NotJson(f"{file}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None
    except (RecursionError, ValueError):
        raise _NotJson(f"{file}:1: nested too deeply, or a number beyond any program's") from None
    from document_service.definitions import read_json

    return text, read_json(text)


def _report(file: Path, text: str, problems: tuple[Problem, ...], warnings: tuple[Problem, ...]) -> None:
    """One line for each finding, in the form that editors and CI turn into a link: file, line, pointer, remedy."""
    from document_service.commands.json_lines import line_of, lines_of

    lines = lines_of(text)
    for kind, findings in (("", problems), ("warning: ", warnings)):
        for found in findings:
            where = f"{file}:{line_of(lines, found.pointer)}"
            click.echo(f"{where}: {kind}{found.pointer or '(whole form)'}: {found.title} [{found.code}]", err=True)


def listed(found: tuple[Problem, ...]) -> list[dict[str, str]]:
    """Findings as ``--json`` shows them."""
    return [{"pointer": one.pointer, "code": one.code, "title": one.title} for one in found]


@click.group()
@setting_options
def template() -> None:
    """Forms as files: schema, check, preview, import, publish, export, diff; pin and unpin of platform forms."""


@template.command()
@setting_options
@click.argument("file", metavar="FILE", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="As JSON on standard output.")
@click.pass_obj
def check(options: Options, file: Path, as_json: bool) -> int:
    """Everything wrong with a definition, and a trial render in each of its locales; exit 0, or 65 with problems."""
    from document_service import definitions, trials

    try:
        text, definition = _read(file)
    except _NotJson as error:
        if as_json:
            problem = {"pointer": "", "code": "NOT_JSON", "title": str(error)}
            click.echo(json.dumps({"problems": [problem], "warnings": [], "pages": {}}))
        else:
            click.echo(str(error), err=True)
        return EXIT_DATA
    problems = tuple(definitions.check(definition))
    verdict = trials.Verdict(problems, (), {})
    if not problems:

        async def try_out() -> trials.Verdict:
            from document_service.typesetting.pool import TypesettingPool

            async with TypesettingPool(1, spares=0) as pool:
                return await trials.try_out(pool, trials.Form(definition, file.stem), trials.Letterhead())

        verdict = run(try_out())
    if as_json:
        findings = {"problems": listed(verdict.problems), "warnings": listed(verdict.warnings)}
        click.echo(json.dumps({**findings, "pages": dict(verdict.pages)}, ensure_ascii=False))
    else:
        _report(file, text, verdict.problems, verdict.warnings)
        pages = ", ".join(f"{locale} {count}" for locale, count in verdict.pages.items())
        told = counted(len(verdict.problems), "problem") if verdict.problems else f"good; pages: {pages}"
        click.echo(f"{file}: {told}")
    return EXIT_DATA if verdict.problems else 0


@template.command()
@setting_options
@click.argument("file", metavar="FILE", type=_FILE)
@click.option("--locale", help="Locale to show; the form's first when left out.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="A .pdf or .png; FILE.preview.pdf.")
@click.option("--bundle", type=_FILE, help="A FHIR Bundle to show instead of the made-up patient.")
@click.option("--inputs", "inputs_file", type=_FILE, help="A JSON file with the inputs to show.")
@click.pass_obj
def preview(
    options: Options, file: Path, locale: str | None, output: Path | None, bundle: Path | None, inputs_file: Path | None
) -> int:
    """Print a definition with a made-up patient, marked as a preview; exit 65 when no page could be printed."""
    from document_service import definitions

    output = output or file.with_suffix(".preview.pdf")
    if output.suffix.lower() not in (".pdf", ".png"):
        raise click.BadParameter("allowed is a name that ends in .pdf or .png", param_hint="--output")
    try:
        text, definition = _read(file)
        record = None if bundle is None else _record(bundle)
        inputs = None if inputs_file is None else _read(inputs_file)[1]
    except _NotJson as error:
        click.echo(str(error), err=True)
        return EXIT_DATA
    problems = tuple(definitions.check(definition))
    if problems:
        _report(file, text, problems, ())
        return EXIT_DATA
    if locale is not None and locale not in definition["locales"]:
        raise click.BadParameter(f"the form has {', '.join(definition['locales'])}", param_hint="--locale")
    if inputs is not None and not isinstance(inputs, dict):
        raise click.BadParameter("the file holds no JSON object", param_hint="--inputs")
    as_png = output.suffix.lower() == ".png"
    sheet = run(_print(file.stem, definition, locale or definition["locales"][0], record, inputs, as_png))
    _report(file, text, sheet.problems, sheet.warnings)
    if sheet.result is None:
        return EXIT_DATA
    written = _written(output, sheet.result.png if as_png else (sheet.result.pdf,))
    click.echo("\n".join(map(str, written)))
    return 0


def _record(file: Path) -> SampleRecord:
    from document_service import sample_patients

    try:
        return sample_patients.from_bundle(_read(file)[1])
    except sample_patients.NoPatient:
        raise click.BadParameter("the file is no FHIR Bundle with a Patient", param_hint="--bundle") from None


async def _print(
    name: str, definition: Any, locale: str, record: SampleRecord | None, inputs: dict[str, Any] | None, as_png: bool
) -> Sheet:
    from document_service import trials
    from document_service.typesetting.pool import TypesettingPool

    subject = trials.sample_subject(definition, locale, record, inputs)
    form = trials.Form(definition, name)
    async with TypesettingPool(1, spares=0) as pool:
        return await trials.print_sheet(
            pool, form, locale, trials.Letterhead(), subject, output="png" if as_png else "pdf"
        )


def _written(output: Path, sheets: tuple[bytes, ...]) -> list[Path]:
    """Write the file; further pages of pictures get their number."""
    paths = [output, *(output.with_stem(f"{output.stem}-{number}") for number in range(2, len(sheets) + 1))]
    for path, content in zip(paths, sheets, strict=True):
        path.write_bytes(content)
    return paths


@template.command()
@setting_options
def schema() -> None:
    """Write the JSON Schema of the template language, for editors to complete and check with, to standard output."""
    from document_service.definitions import definition_schema

    click.echo(json.dumps(definition_schema(), ensure_ascii=False, indent=2))


@template.command("export")
@setting_options
@click.argument("template_id", metavar="TEMPLATE_ID")
@click.option("--tenant", "tenant_id", required=True, help="The tenant whose catalogue is read.")
@click.option(
    "--version", "semver", help="A published version such as 1.2.0; the newest draft or version when left out."
)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="File to write; standard output if none."
)
@click.pass_obj
def export_(options: Options, template_id: str, tenant_id: str, semver: str | None, output: Path | None) -> None:
    """Write a template's definition to a file."""
    from document_service import templates
    from document_service.errors import NotFound

    async def read() -> str:
        async with owner_transaction(options.settings()) as connection:
            found = await templates.show(connection, _operator(tenant_id), template_id)
            if found.tenant_id not in (tenant_id, "platform"):
                # The owner role sees every tenant; this command is about one.
                raise NotFound()
            if semver is None and found.draft_definition is not None:
                return found.draft_definition
            for version in await templates.list_versions(connection, found):
                if version.semver == semver or (semver is None and version.id == found.current_version_id):
                    return version.definition
            raise NotFound("The template has no such version.")

    # Read and written by Python's own parser: what it prints of a decimal is what RFC 8785 keeps of it.
    text = json.dumps(json.loads(run(read())), ensure_ascii=False, indent=2) + "\n"
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")


@template.command()
@setting_options
@click.argument("template_id", metavar="TEMPLATE_ID")
@click.option("--tenant", "tenant_id", required=True, help="The tenant whose fork is compared.")
@click.option("--json", "as_json", is_flag=True, help="As JSON on standard output, with what either says.")
@click.pass_obj
def diff(options: Options, template_id: str, tenant_id: str, as_json: bool) -> None:
    """How a fork differs from the newest version of its platform form, and who made each difference."""
    from document_service import origins, templates
    from document_service.errors import NotFound

    async def read() -> origins.Origin:
        async with owner_transaction(options.settings()) as connection:
            found = await templates.show(connection, _operator(tenant_id), template_id)
            if found.tenant_id != tenant_id:
                raise NotFound()
            three = await origins.read(connection, found)
        return await origins.compare(three)

    origin = run(read())
    if as_json:
        click.echo(json.dumps([asdict(found) for found in origin.differences], ensure_ascii=False))
        return
    for found in origin.differences:
        click.echo(f"{found.pointer}: {found.kind} (by {found.by})")
    told = "has everything of it" if origin.up_to_date else "lacks what is marked platform or both"
    click.echo(
        f"forked from {origin.form.name} {origin.forked.semver}; newest is {origin.newest.semver}: the fork {told}"
    )


@template.command("import")
@setting_options
@click.argument("file", metavar="FILE", type=_FILE)
@click.option("--tenant", "tenant_id", required=True, help="The tenant whose catalogue gets the draft.")
@click.option("--name", required=True, help="The template's name; one of this name and category gets its next draft.")
@click.option("--category", required=True, help="Such as letter or referral; see docs/http-api.md.")
@click.option("--replace", is_flag=True, help="Also over a draft that an author has saved there.")
@click.pass_obj
def import_(options: Options, file: Path, tenant_id: str, name: str, category: str, replace: bool) -> int:
    """Save a file as a draft, new or next, to be published by its id; problems in it are shown as warnings."""
    from document_service import audit, definitions, templates, tenants
    from document_service.exact_json import dumps_exact

    if category not in templates.CATEGORIES:
        raise click.BadParameter(f"allowed are {', '.join(templates.CATEGORIES)}", param_hint="--category")
    try:
        text, definition = _read(file)
    except _NotJson as error:
        click.echo(str(error), err=True)
        return EXIT_DATA
    problems = tuple(definitions.check(definition))
    if not isinstance(definition, dict) or any(
        problem.code in ("NOT_JSON", "DEFINITION_TOO_LARGE") for problem in problems
    ):
        _report(file, text, problems, ())
        return EXIT_DATA
    kept = dumps_exact(definition).decode()

    async def save() -> str:
        async with owner_transaction(options.settings()) as connection:
            await tenants.show(connection, tenant_id)
            caller = _operator(tenant_id)
            known = await templates.find_by_name(connection, tenant_id, category, name)
            if known is None:
                saved = await templates.create(connection, caller, name=name, category=category, definition=kept)
            elif not replace and known.draft_saved_by not in (None, caller.user) and known.draft_definition != kept:
                # Nobody overwrites an author's draft without having read it, as at PUT …/draft.
                raise click.UsageError(f"{known.id} has a draft that an author saved; export it, or add --replace")
            else:
                saved = await templates.save_draft(connection, known, kept, caller.user)
            await audit.record(connection, tenant_id, audit.Event("template.import", caller.user, template_id=saved.id))
            return saved.id

    click.echo(run(save()))
    _report(file, text, (), problems)
    return 0


def _operator(tenant_id: str) -> Any:
    return author(tenant_id, "operator")


def author(tenant_id: str, user: str) -> Any:
    """An author of the tenant; the platform, whose forms are the product's, has none."""
    from document_service.tokens import DOCUMENT_AUTHOR, Caller, tenant_id_problem

    problem = tenant_id_problem(tenant_id)
    if problem is not None:
        raise click.BadParameter(problem, param_hint="--tenant")
    return Caller(tenant_id, user, frozenset({DOCUMENT_AUTHOR}))
