"""Our steps against the engine's own walk of the same tree, with the same functions: the same items, or both refuse.

Every expression of the platform forms, on whole records, bare ones and spoilt ones, and every expression of the
official suite on its resource.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import pytest
from fhirpathpy.engine import do_eval
from fhirpathpy.engine.evaluators import evaluators, member_invocation
from fhirpathpy.engine.nodes import ResourceNode

from document_service.bindings.evaluation import EvaluationFailed, EvaluationTimeout, alarm, evaluate, forget_time
from document_service.bindings.filters import Descending
from document_service.bindings.steps import step_of
from document_service.definitions.expressions import ExpressionInvalid, parse_expression, parse_unbounded
from platform_pages import FORMS, LOCALES, bare_resources, full_inputs, full_resources
from unit.test_fhirpath_suite import SUITE, VARIABLES, cases

pytestmark = pytest.mark.usefixtures("bounded_memory", "engine_knows_our_nodes")

Node = dict[str, Any]
# Enough that members of every record are missing, doubled and of another kind; all of them take ten seconds.
SPOILT_RECORDS = 12


@pytest.fixture(scope="module")
def engine_knows_our_nodes() -> Iterator[None]:
    """The three names that only our parser writes, for the engine: its own member access, and what it lacks."""
    ours = {
        "Member": lambda ctx, parent, node: member_invocation(ctx, parent, node),
        "ExactNumberLiteral": lambda ctx, parent, node: [
            Decimal(node["text"]) if "." in node["text"] else int(node["text"])
        ],
        "DescendingKey": lambda ctx, parent, node: list(map(Descending, do_eval(ctx, parent, node["children"][0]))),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, evaluator in ours.items():
            patch.setitem(evaluators, name, evaluator)
        yield


def _found(way: Any, focus: list[Any], variables: Mapping[str, Any]) -> list[Any] | None:
    """What one way finds: type, path and value of each item; None where it refuses."""
    forget_time()
    try:
        with alarm():
            found = evaluate(way, focus, variables)
    except EvaluationTimeout:
        raise
    except EvaluationFailed:
        return None
    return [_described(item) for item in found]


def _described(item: Any) -> Any:
    if isinstance(item, ResourceNode):
        return ("node", item.path, item.data)
    return (type(item).__name__, repr(vars(item)) if hasattr(item, "__dict__") else item)


def _agree(source: str, tree: Node, focus: list[Any], variables: Mapping[str, Any]) -> None:
    def engines(ctx: dict[str, Any], parent: list[Any]) -> Any:
        return do_eval(ctx, parent, tree)

    assert _found(step_of(tree), focus, variables) == _found(engines, focus, variables), source


def _paths(bindings: Mapping[str, Any], within: str | None = None) -> Iterator[tuple[str | None, str]]:
    """Every path of a definition, with the collection's path that it stands in."""
    for binding in bindings.values():
        if "path" in binding:
            yield within, binding["path"]
        yield from _paths(binding.get("items", {}), binding.get("path"))


def _spoil(value: Any, chance: random.Random) -> Any:
    """The record with some of it gone, doubled, or of another kind."""
    if isinstance(value, dict):
        kept = {key: _spoil(member, chance) for key, member in value.items() if chance.random() > 0.05}
        if kept and chance.random() < 0.05:
            key = chance.choice(list(kept))
            kept[f"_{key}"] = {"extension": [{"url": "urn:x", "valueString": "x"}]}
        return kept
    if isinstance(value, list):
        return [_spoil(item, chance) for item in value for _ in range(chance.choice((1, 1, 1, 1, 1, 2, 0)))]
    if chance.random() < 0.06:
        return chance.choice([None, 7, "", False, True, [], {}, "x", Decimal("1.10"), [value, value], {"value": 1}])
    return value


def _spoilt(resources: Mapping[str, Any], chance: random.Random) -> dict[str, Any]:
    return {name: _spoil(copy.deepcopy(found), chance) for name, found in resources.items()}


@pytest.mark.parametrize("key", FORMS)
def test_every_path_of_a_form_finds_what_the_engine_finds(key: str) -> None:
    form = FORMS[key]
    bindings = json.loads(form.definition)["bindings"]
    chance = random.Random(key)
    for locale in LOCALES:
        whole = full_resources(form, locale)
        records = [whole, bare_resources(form), *(_spoilt(whole, chance) for _ in range(SPOILT_RECORDS))]
        for record in records:
            variables = {
                **record,
                "inputs": full_inputs(key, locale),
                "issuedAt": "2026-09-18T12:00:00+04:30",
                "dataAsOf": "2026-09-18T12:00:00+04:30",
                "ucum": "http://unitsofmeasure.org",
                "sct": "http://snomed.info/sct",
                "loinc": "http://loinc.org",
            }
            for within, path in _paths(bindings):
                entries: list[Any] = [[]]
                if within is not None:
                    try:
                        found = evaluate(step_of(parse_expression(within).tree), [], variables)
                    except EvaluationFailed:
                        continue
                    entries = [[entry] for entry in found]
                for focus in entries:
                    _agree(path, parse_expression(path).tree, focus, variables)


def test_every_expression_of_the_suite_finds_what_the_engine_finds() -> None:
    if not SUITE.is_dir():
        pytest.skip("the FHIRPath suite is not on this machine; set FHIRPATH_SUITE")
    for case in cases():
        try:
            tree = parse_unbounded(case.expression)["children"][0]
        except ExpressionInvalid:
            continue
        focus = [case.resource] if case.resource is not None else []
        _agree(case.name, tree, focus, VARIABLES | dict.fromkeys(("context", "resource", "rootResource"), focus))
