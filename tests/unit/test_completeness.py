"""What exists is documented, what is documented exists, and nothing has grown beyond its bounds."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path

import click
import pytest

from document_client import errors as client_errors
from document_client.__main__ import build
from document_service import errors, settings
from document_service.__main__ import all_commands
from document_service.api import ROUTERS, outcomes

ROOT = Path(__file__).parent.parent.parent
SOURCES = ("server/src/document_service", "client/src/document_client")
DOCS = ROOT / "docs"


@cache
def tracked() -> tuple[Path, ...]:
    """The files of the repository: what git knows, and what it would take."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a checkout of git")
    return tuple(path for name in listed.stdout.splitlines() if (path := ROOT / name).is_file())


def python_files(*roots: str) -> Iterator[tuple[str, str]]:
    for path in tracked():
        name = path.relative_to(ROOT).as_posix()
        if name.endswith(".py") and name.startswith(roots):
            yield name, path.read_text(encoding="utf-8")


def branch(root: type) -> Iterator[type]:
    yield root
    for child in root.__subclasses__():
        yield from branch(child)


def test_generated_documents_are_in_step_with_the_code() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/check_docs.py"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_setting_is_documented() -> None:
    text = (DOCS / "settings.md").read_text(encoding="utf-8")
    for entry in fields(settings.Settings):
        assert f"`{settings.PREFIX}{entry.name.upper()}`" in text
        assert entry.metadata["meaning"].strip(), entry.name


def test_every_variable_that_the_client_reads_is_documented() -> None:
    text = (DOCS / "settings.md").read_text(encoding="utf-8")
    # Where other programs keep their folders; not settings of ours.
    ours = re.compile(r"(?:environ(?:\.get)?[(\[]|envvar=)\s*\"([A-Z_]+)\"")
    for name, source in python_files(SOURCES[1]):
        for variable in ours.findall(source):
            assert variable in text, f"{name} reads {variable}, which docs/settings.md does not name"


@pytest.mark.parametrize(
    ("root", "package"),
    [(errors.ServiceError, SOURCES[0]), (client_errors.ClientError, SOURCES[1])],
    ids=["service", "client"],
)
def test_every_error_is_documented_and_raised(root: type, package: str) -> None:
    text = (DOCS / "errors.md").read_text(encoding="utf-8")
    code = "\n".join(source for name, source in python_files(package) if not name.endswith("/errors.py"))
    unused = []
    for found in branch(root):
        assert f"`{found.code}`" in text  # type: ignore[attr-defined]
        assert found.title.endswith((".", "…")), found  # type: ignore[attr-defined]
        # A class with others below it is a shelf: it may be caught and never raised.
        used = re.search(rf"\b{found.__name__}\b", code) or f'"{found.code}"' in code  # type: ignore[attr-defined]
        if not used and not found.__subclasses__():
            unused.append(found.__name__)
    assert not unused, "add an error when something raises it"


def test_codes_are_not_shared_by_different_errors() -> None:
    for root in (errors.ServiceError, client_errors.ClientError):
        by_code: dict[str, list[type]] = {}
        for found in branch(root):
            by_code.setdefault(found.code, []).append(found)  # type: ignore[attr-defined]
        for code, classes in by_code.items():
            assert all(issubclass(later, classes[0]) for later in classes[1:]), code


def test_every_route_says_what_it_answers_and_is_documented() -> None:
    text = (DOCS / "http-api.md").read_text(encoding="utf-8")
    seen = set()
    for route in outcomes.described(ROUTERS):
        seen.add((route.method, route.path))
        assert route.outcome is not None, f"{route.method} {route.path} is not in api/outcomes.py"
        assert route.summary, f"{route.method} {route.path} has no summary"
        assert f"`{route.method} {route.path}`" in text
        needs_token = route.path.startswith("/v1/") and not route.path.endswith("/content")
        assert (route.roles is not None) == needs_token, f"{route.method} {route.path}: who may call it?"
    assert seen == set(outcomes.OUTCOMES), "api/outcomes.py names a route that is not there"


@pytest.mark.parametrize(("name", "root"), [("document-service", all_commands()), ("documents", build())])
def test_every_command_and_option_is_documented(name: str, root: click.Group) -> None:
    text = (DOCS / "commands.md").read_text(encoding="utf-8")

    def walk(path: str, command: click.Command) -> None:
        assert (command.help or "").strip(), f"{path} has no help"
        if isinstance(command, click.Group):
            for verb, inner in command.commands.items():
                walk(f"{path} {verb}", inner)
            return
        assert f"### `{path}" in text, path
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert parameter.help or parameter.metavar, f"{path} {parameter.opts[0]} has no help"

    walk(name, root)


def test_what_the_readme_says_is_missing_is_missing() -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## What is not there yet")[1].split("\n## ")[0]
    written = (DOCS / "http-api.md").read_text(encoding="utf-8") + (DOCS / "commands.md").read_text(encoding="utf-8")
    for name in re.findall(r"`((?:GET|POST|document-service|documents) [^`]+)`", section):
        assert not re.search(rf"`{re.escape(name)}[` ]", written), f"{name} is there now; tell the README"


def test_every_decision_is_one_page_with_a_title() -> None:
    for path in (DOCS / "decisions").glob("[0-9]*.md"):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert re.match(r"^# \d+[. ]", lines[0]), path.name
        assert int(re.findall(r"\d+", lines[0])[0]) == int(path.name[:4]), path.name
        assert sum(len(line) for line in lines) < 6000, f"{path.name} is longer than a page"


def test_links_between_documents_lead_somewhere() -> None:
    for path in tracked():
        if path.suffix != ".md":
            continue
        for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{path.relative_to(ROOT)} links to {target}"


def test_tests_import_modules_that_are_there() -> None:
    """Who renames a module of the tests hears it here of every file, and not in a run of the whole suite."""
    for name, source in python_files("tests/"):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                first = node.module.split(".")[0]
                assert first == "tests" or importlib.util.find_spec(first), f"{name} imports {node.module}"


FORBIDDEN = {"util", "helper", "common", "base", "core", "misc", "manager", "service", "handler", "impl"}


def test_no_module_has_a_name_that_says_nothing() -> None:
    for name, _ in python_files(*SOURCES, "bench/", "scripts/"):
        for part in Path(name).with_suffix("").parts[3:]:
            words = {word.removesuffix("s") for word in part.strip("_").split("_")} | {part}
            assert not words & FORBIDDEN, name


def allowed_sizes() -> dict[str, int]:
    text = (DOCS / "decisions/0008-file-sizes.md").read_text(encoding="utf-8")
    return {what: int(most) for what, most in re.findall(r"^\| `([^`]+)` \| (\d+) \|", text, re.MULTILINE)}


def larger_than_the_rule() -> Iterator[tuple[str, int]]:
    """Name and size of every file, function and class beyond 400 lines, 70 lines, 10 public methods."""
    for name, source in python_files("server/", "client/", "bench/", "scripts/", "tests/"):
        is_test = name.startswith("tests/")
        lines = source.count("\n")
        if lines > (800 if is_test else 400):
            yield name, lines
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > 70:
                    yield f"{Path(name).name}: {node.name}", length
            elif isinstance(node, ast.ClassDef) and not is_test:
                methods = [
                    entry
                    for entry in node.body
                    if isinstance(entry, ast.FunctionDef | ast.AsyncFunctionDef) and not entry.name.startswith("_")
                ]
                if len(methods) > 10:
                    yield f"{Path(name).name}: {node.name}", len(methods)


def test_nothing_is_larger_than_the_rule_without_a_reason() -> None:
    allowed, found = allowed_sizes(), dict(larger_than_the_rule())
    grown = {what: size for what, size in found.items() if size > allowed.get(what, 0)}
    assert not grown, "split it, or give the reason in docs/decisions/0008-file-sizes.md"
    assert not set(allowed) - set(found), "docs/decisions/0008-file-sizes.md excuses what needs no excuse"


#: Paths of one machine, and addresses of registries: neither belongs into a repository.
STRANGE = re.compile(
    r"/work/(?:main|shared)|/tmp/plan|/root/\.|\.pyenv|pypi\.org|files\.pythonhosted|registry\.npmjs"
    r"|index-url\s*=|extra-index"
)


def test_no_file_names_a_machine_or_a_registry() -> None:
    here = Path(__file__).resolve()
    for path in tracked():
        if path.suffix in {".png", ".pdf", ".otf", ".ttf", ".icc", ".jpg"} or path.resolve() == here:
            continue
        found = STRANGE.search(path.read_text(encoding="utf-8", errors="replace"))
        assert found is None, f"{path.relative_to(ROOT)} holds {found[0]!r}"  # type: ignore[index]
