"""Paths made ready: each node of a syntax tree becomes one Python function, made once and called for every record.

The engine walks the tree anew each time: it looks every node's evaluator up, copies its table of 120 functions at
each call and reads each name by a regular expression. What a node means is decided here once, by the same tables and
in the same order, so that an evaluation only does what depends on the record. The functions themselves are the
engine's and ours (``functions``); tests hold every expression of the platform forms and of the official suite against
the engine's own walk.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from fhirpathpy.engine import do_eval, make_param, param_check_table
from fhirpathpy.engine.invocations import invocation_registry
from fhirpathpy.engine.util import arraify, is_number

from document_service.bindings.filters import Descending
from document_service.bindings.functions import FUNCTIONS
from document_service.bindings.members import member

Node = dict[str, Any]
Context = dict[str, Any]
Collection = list[Any]

#: What a node finds for a collection. The context holds ``$this``, ``$index`` and the variables.
Step = Callable[[Context, Collection], Collection]
#: A function's argument, as it wants it: a collection, a plain value, a type, or a function of each item.
_Parameter = Callable[[Context, Collection], Any]

_ENGINES: dict[str, dict[str, Any]] = invocation_registry  # type: ignore[assignment]
_TABLE = _ENGINES | FUNCTIONS

# Nodes that are only a pair of brackets, or a level of the grammar.
_TRANSPARENT = frozenset({"TermExpression", "InvocationTerm", "ParenthesizedTerm", "LiteralTerm"})
_CONSTANTS = frozenset({"StringLiteral", "BooleanLiteral"})
_OPERATORS = frozenset(
    f"{kind}Expression"
    for kind in ("Inequality", "Additive", "Multiplicative", "Equality", "Or", "Implies", "And", "Xor")
)
_NAMED_OPERATORS = {
    "MembershipExpression": {"contains": "containsOp", "in": "inOp"},
    "TypeExpression": {"is": "isOp", "as": "asOp"},
}


class StepRefused(Exception):
    """An expression asks for what there is not: an unknown function, a wrong number of arguments, several items where
    one is needed. Carries no data."""


def step_of(node: Node) -> Step:
    """The function of a syntax tree. What the tree gets wrong is raised when it is called, as the engine does it."""
    kind: str = node["type"]
    if kind in _TRANSPARENT and node.get("children"):
        return step_of(node["children"][0])
    if kind in _CONSTANTS:
        return _always(do_eval({}, [], node)[0])
    if kind in _OPERATORS:
        return _operator(node["terminalNodeText"][0], node)
    if kind in _NAMED_OPERATORS:
        return _operator(_NAMED_OPERATORS[kind][node["terminalNodeText"][0]], node)
    maker = _MAKERS.get(kind)
    # What is left are leaves: dates, times, quantities and the empty collection.
    return maker(node) if maker is not None else lambda ctx, parent: do_eval(ctx, parent, node)


def _always(value: Any) -> Step:
    return lambda ctx, parent: [value]


def _exact_number(node: Node) -> Step:
    text = node["text"]
    return _always(Decimal(text) if "." in text else int(text))


def _path(node: Node) -> Step:
    steps = tuple(map(step_of, node["children"]))

    def walk(ctx: Context, parent: Collection) -> Collection:
        for step in steps:
            parent = step(ctx, parent)
        return list(parent)

    return walk


def _this(node: Node) -> Step:
    return lambda ctx, parent: arraify(ctx["$this"])


def _index(node: Node) -> Step:
    return lambda ctx, parent: arraify(ctx["$index"])


def _variable(node: Node) -> Step:
    name = _identifier(node["children"][0]["children"][0]).replace("`", "")

    def look_up(ctx: Context, parent: Collection) -> Collection:
        value = ctx["vars"][name]
        if value is None:
            return []
        return value if isinstance(value, list) else [value]

    return look_up


def _identifier(node: Node) -> str:
    return re.sub(r"(^\"|\"$)", "", node["text"])


def _indexer(node: Node) -> Step:
    collection_step, index_step = map(step_of, node["children"][:2])

    def pick(ctx: Context, parent: Collection) -> Collection:
        collection, found = collection_step(ctx, parent), index_step(ctx, parent)
        if not found:
            return []
        index = int(found[0])
        return [collection[index]] if 0 <= index < len(collection) else []

    return pick


def _polarity(node: Node) -> Step:
    sign, step = node["terminalNodeText"][0], step_of(node["children"][0])

    def signed(ctx: Context, parent: Collection) -> Collection:
        found = step(ctx, parent)
        if len(found) != 1 or not is_number(found[0]):
            raise StepRefused("a sign stands before one number only")
        return [-found[0]] if sign == "-" else found

    return signed


def _descending(node: Node) -> Step:
    step = step_of(node["children"][0])
    return lambda ctx, parent: [Descending(item) for item in step(ctx, parent)]


def _member(node: Node) -> Step:
    return member(node["key"])


def _function(node: Node) -> Step:
    """A call ``name(…)`` as the engine's ``doInvoke`` makes it."""
    called = node["children"][0]["children"]
    name = _identifier(called[0])
    arguments: list[Node] = called[1].get("children", []) if len(called) > 1 else []
    invocation = _TABLE.get(name)
    if invocation is None:
        return _refusing(f"there is no function {name}")
    function = invocation["fn"]
    nothing_for_nothing = "nullable_input" in invocation
    kinds: list[Any] | None
    if "variadic" in invocation:
        kinds = [invocation["variadic"]] * len(arguments)
    elif "arity" not in invocation:
        kinds = [] if not arguments else None
    else:
        if name == "trace":
            arguments = arguments[:1]
        kinds = invocation["arity"].get(len(arguments))
    if kinds is None:
        return _refusing(f"{name} takes another number of arguments", nothing_for_nothing)
    if not arguments and not nothing_for_nothing and "nullable" not in invocation:
        return lambda ctx, data: _listed(function(ctx, data))
    parameters = tuple(_parameter(kind, argument) for kind, argument in zip(kinds, arguments, strict=False))
    nullable = "nullable" in invocation

    def call(ctx: Context, data: Collection) -> Collection:
        if nothing_for_nothing and not data:
            return []
        this = ctx["$this"]
        given = [parameter(ctx, this) for parameter in parameters]
        if nullable and (not data or any(_is_nothing(value) for value in given)):
            return []
        return _listed(function(ctx, data, *given))

    return call


def _operator(name: str, node: Node) -> Step:
    """An operator between two operands as the engine's ``infix_invoke`` applies it."""
    invocation = _TABLE.get(name)
    kinds = invocation and invocation.get("arity", {}).get(2)
    if invocation is None or not kinds or len(node["children"]) != 2:
        return _refusing(f"there is no operator {name}")
    function, nullable = invocation["fn"], "nullable" in invocation
    left_of, right_of = (_parameter(kind, child) for kind, child in zip(kinds, node["children"], strict=True))

    def apply(ctx: Context, parent: Collection) -> Collection:
        left, right = left_of(ctx, parent), right_of(ctx, parent)
        if nullable and (_is_nothing(left) or _is_nothing(right)):
            return []
        return _listed(function(ctx, left, right))

    return apply


def _union(node: Node) -> Step:
    return _operator("|", node)


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, list) and not value)


def _listed(found: Any) -> Collection:
    return found if isinstance(found, list) else [] if found is None else [found]


def _refusing(why: str, nothing_for_nothing: bool = False) -> Step:
    def refuse(ctx: Context, data: Collection) -> Collection:
        if nothing_for_nothing and not data:
            return []
        raise StepRefused(why)

    return refuse


def _parameter(kind: Any, node: Node) -> _Parameter:
    """An argument as the engine's ``make_param`` gives it to a function that wants ``kind``."""
    if kind in ("Identifier", "TypeSpecifier"):
        return lambda ctx, this: make_param(ctx, this, kind, node)
    step = step_of(node)
    if kind == "Expr":
        return _criterion(step)
    if kind == "AnyAtRoot":
        return lambda ctx, this: step(ctx, ctx["$this"])
    if kind == "Any":
        return _operand(step)
    return _single(step, kind[0] if isinstance(kind, list) else kind)


def _criterion(step: Step) -> _Parameter:
    def parameter(ctx: Context, this: Collection) -> Any:
        def of(item: Any) -> Collection:
            ctx["$this"] = found = _listed(item)
            return step(ctx, found)

        return of

    return parameter


def _operand(step: Step) -> _Parameter:
    def parameter(ctx: Context, this: Collection) -> Collection:
        ctx["$this"] = this
        return step(ctx, this)

    return parameter


def _single(step: Step, kind: str) -> _Parameter:
    check: Callable[[Any], Any] | None = param_check_table.get(kind)

    def parameter(ctx: Context, this: Collection) -> Any:
        ctx["$this"] = this
        found = step(ctx, this)
        if not found:
            return []
        if len(found) > 1 or check is None:
            raise StepRefused(f"one {kind} is needed")
        return check(found[0])

    return parameter


_MAKERS: dict[str, Callable[[Node], Step]] = {
    "ExactNumberLiteral": _exact_number,
    "InvocationExpression": _path,
    "Member": _member,
    "FunctionInvocation": _function,
    "ThisInvocation": _this,
    "IndexInvocation": _index,
    "ExternalConstantTerm": _variable,
    "IndexerExpression": _indexer,
    "PolarityExpression": _polarity,
    "DescendingKey": _descending,
    "UnionExpression": _union,
}
