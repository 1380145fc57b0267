"""The official FHIRPath suite for R4 against our evaluation: a floor of passes, and every failure listed in the docs.

The suite is not part of the repository. It is read from FHIRPATH_SUITE or from ../shared/data/fhirpath beside the
checkout, where CI has it; elsewhere the test is skipped when it is absent.
"""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from document_service.bindings.evaluation import EvaluationFailed, alarm, evaluate, forget_time, plain
from document_service.bindings.steps import step_of
from document_service.definitions import read_json
from document_service.definitions.expressions import ExpressionInvalid, parse_unbounded

CHECKOUT = Path(__file__).resolve().parents[2]
SUITE = Path(os.environ.get("FHIRPATH_SUITE", CHECKOUT.parent / "shared" / "data" / "fhirpath"))
DOCUMENTATION = CHECKOUT / "docs" / "fhirpath.md"
pytestmark = pytest.mark.usefixtures("bounded_memory")

RUNNABLE = 935
# fhirpathpy 2.2.4 as published passes 777; we pass this many.
FLOOR = 893


#: What every expression of the suite may name, besides the resource itself.
VARIABLES: dict[str, Any] = {
    "ucum": "http://unitsofmeasure.org",
    "sct": "http://snomed.info/sct",
    "loinc": "http://loinc.org",
    "vs-administrative-gender": "http://hl7.org/fhir/ValueSet/administrative-gender",
    "ext-patient-birthTime": "http://hl7.org/fhir/StructureDefinition/patient-birthTime",
}


@dataclass(frozen=True)
class Case:
    name: str
    expression: str
    resource: dict[str, Any] | None
    invalid: str | None
    predicate: bool
    ordered: bool
    outputs: tuple[tuple[str | None, str], ...]


@cache
def resource_of(file_name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = read_json((SUITE / "inputs" / file_name.replace(".xml", ".json")).read_bytes())
    return loaded


def cases() -> Iterator[Case]:
    root = ElementTree.parse(SUITE / "tests-fhir-r4.xml").getroot()
    for index, node in enumerate(root.iter("test")):
        expression = node.find("expression")
        assert expression is not None
        input_file = node.get("inputfile")
        yield Case(
            f"{index:03} {node.get('name')}",
            expression.text or "",
            resource_of(input_file) if input_file else None,
            expression.get("invalid"),
            node.get("predicate") == "true",
            node.get("ordered") != "false",
            tuple((output.get("type"), output.text or "") for output in node.findall("output")),
        )


def result_of(case: Case) -> list[Any]:
    tree = parse_unbounded(case.expression)["children"][0]
    focus = [case.resource] if case.resource is not None else []
    forget_time()
    variables = VARIABLES | dict.fromkeys(("context", "resource", "rootResource"), focus)
    return [plain(item) for item in evaluate(step_of(tree), focus, variables)]


def agrees(kind: str | None, text: str, value: Any) -> bool:
    """Whether one result equals one expected output of the suite."""
    if kind is None:
        kind = _kind_of(text)
    if kind == "boolean":
        return value is (text == "true")
    if kind in ("integer", "decimal"):
        try:
            return not isinstance(value, bool) and Decimal(str(value)) == Decimal(text)
        except InvalidOperation:
            return False
    if kind == "Quantity":
        match = re.fullmatch(r"([-\d.]+)\s*'?([^']*)'?", text)
        assert match is not None
        return (
            isinstance(value, dict)
            and Decimal(str(value["value"])) == Decimal(match[1])
            and (value.get("code") or value.get("unit")) == match[2]
        )
    if kind in ("date", "dateTime", "time"):
        return str(value).lstrip("@T") == text.lstrip("@T")
    return str(value) == text


def _kind_of(text: str) -> str | None:
    """The type of an expected output that the suite leaves out."""
    if text in ("true", "false"):
        return "boolean"
    if text.startswith("@"):
        return "time" if text.startswith("@T") else "dateTime"
    return "Quantity" if re.fullmatch(r"-?[\d.]+ '[^']+'", text) else None


def passes(case: Case) -> bool:
    try:
        with alarm():
            found = result_of(case)
    except (ExpressionInvalid, EvaluationFailed):
        return case.invalid is not None
    if case.invalid is not None:
        return False
    if case.predicate:
        found = [bool(found)]
    if len(found) != len(case.outputs):
        return False
    if case.ordered:
        return all(agrees(kind, text, value) for (kind, text), value in zip(case.outputs, found, strict=True))
    return all(any(agrees(kind, text, value) for value in found) for kind, text in case.outputs)


@pytest.fixture(scope="module")
def failures() -> list[Case]:
    if not SUITE.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"the FHIRPath suite is missing at {SUITE}; set FHIRPATH_SUITE")
        pytest.skip("the FHIRPath suite is not on this machine; set FHIRPATH_SUITE")
    every = list(cases())
    assert len(every) == RUNNABLE
    return [case for case in every if not passes(case)]


def test_floor_of_passes(failures: list[Case]) -> None:
    assert RUNNABLE - len(failures) >= FLOOR


def test_every_failure_is_documented(failures: list[Case]) -> None:
    documented = set(re.findall(r"^\| `(\d{3} [^`]+)` \|", DOCUMENTATION.read_text(encoding="utf-8"), re.MULTILINE))
    assert {case.name for case in failures} == documented
