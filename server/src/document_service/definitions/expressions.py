"""FHIRPath expressions of a definition: parsed strictly and bounded before anything is evaluated (design §5).

fhirpathpy's own parser swallows syntax errors (``name..given`` and ``2 + 2 /`` pass); this one reports the first with
its column. Hostile expressions never end in the engine, so length, nesting, size and functions are limited here, and
the evaluation has an alarm on top (``bindings.evaluation``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from antlr4 import CommonTokenStream, InputStream, ParseTreeWalker, Token
from antlr4.error.ErrorListener import ErrorListener
from antlr4.error.Errors import RecognitionException
from fhirpathpy.parser.ASTPathListener import ASTPathListener
from fhirpathpy.parser.generated.FHIRPathLexer import FHIRPathLexer
from fhirpathpy.parser.generated.FHIRPathParser import FHIRPathParser

# The bounds of design §5. The longest path of the platform forms has 130 characters and 70 nodes.
MOST_CHARACTERS = 4096
MOST_NESTING = 50
MOST_NODES = 500
# A node comes from at least one token and most tokens make a node, so a longer token list cannot pass anyway; it is
# refused before the parser looks ahead in it.
MOST_TOKENS = 2 * MOST_NODES
# The engine takes five Python frames for each level of the tree; 120 levels stay clear of the interpreter's 1,000.
MOST_LEVELS = 120

# Functions that a template may call. Left out on purpose: repeat, descendants, aggregate and trace (unbounded or with
# side effects), now, today and timeOfDay (a document must render to the same bytes again; %issuedAt takes their place),
# encode and decode, resolve and memberOf (network).
ALLOWED_FUNCTIONS = frozenset(
    {
        *("empty", "exists", "all", "not", "count", "distinct", "isDistinct", "hasValue"),
        *("allTrue", "anyTrue", "allFalse", "anyFalse", "subsetOf", "supersetOf"),
        *("where", "select", "ofType", "is", "as", "first", "last", "tail", "skip", "take", "single", "sort"),
        *("union", "combine", "intersect", "exclude", "coalesce", "extension", "iif", "children", "type"),
        *("toString", "toInteger", "toDecimal", "toBoolean", "toDate", "toDateTime", "toTime", "toQuantity"),
        *("convertsToString", "convertsToInteger", "convertsToDecimal", "convertsToBoolean"),
        *("convertsToDate", "convertsToDateTime", "convertsToTime", "convertsToQuantity"),
        *("indexOf", "substring", "startsWith", "endsWith", "contains", "upper", "lower", "replace", "length"),
        *("matches", "matchesFull", "replaceMatches", "toChars", "join", "split", "trim"),
        *("abs", "ceiling", "floor", "round", "truncate", "sqrt", "ln", "log", "power", "exp"),
        *("min", "max", "sum", "avg", "lowBoundary", "highBoundary", "precision", "localDay"),
    }
)


class ExpressionInvalid(ValueError):
    """The expression does not parse or exceeds a bound; ``code`` is the problem's code, the text its remedy."""

    def __init__(self, code: str, remedy: str) -> None:
        super().__init__(remedy)
        self.code = code
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Expression:
    """One parsed expression: its source, fhirpathpy's syntax tree, and what it refers to."""

    source: str
    tree: dict[str, Any]
    functions: frozenset[str]
    variables: frozenset[str]

    def __hash__(self) -> int:
        return hash(self.source)


class _Strict(ErrorListener):  # type: ignore[misc]
    def syntaxError(
        self, recognizer: object, offendingSymbol: object, line: int, column: int, msg: str, e: object
    ) -> None:
        raise ExpressionInvalid("FHIRPATH_SYNTAX", f"The FHIRPath does not parse at line {line}, column {column + 1}.")


def _bracket_depth(source: str) -> int:
    """The deepest nesting of brackets outside of strings and quoted names."""
    depth = deepest = 0
    for token in re.finditer(r"'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`|[(){}\[\]]", source, re.DOTALL):
        mark = token.group()
        if mark in "({[":
            depth += 1
            deepest = max(deepest, depth)
        elif mark in ")}]":
            depth -= 1
    return deepest


def _tokens(source: str) -> CommonTokenStream:
    lexer = FHIRPathLexer(InputStream(source))
    lexer.removeErrorListeners()
    lexer.addErrorListener(_Strict())
    stream = CommonTokenStream(lexer)
    stream.fill()
    if sum(token.channel == Token.DEFAULT_CHANNEL for token in stream.tokens) > MOST_TOKENS:
        raise ExpressionInvalid("FHIRPATH_TOO_COMPLEX", f"Shorten the FHIRPath: it has over {MOST_TOKENS} tokens.")
    return stream


def _walk(tree: dict[str, Any]) -> Iterator[tuple[dict[str, Any], int]]:
    """Every node of a syntax tree with its level; iterative, because hostile trees are deep."""
    stack = [(tree, 1)]
    while stack:
        node, level = stack.pop()
        yield node, level
        stack.extend((child, level + 1) for child in node.get("children", ()))


def _name(node: dict[str, Any]) -> str:
    """The name of a function call or variable: its first child where that is an Identifier, else its terminal."""
    first = node["children"][0] if node.get("children") else None
    text = first["text"] if first is not None and first["type"] == "Identifier" else "".join(node["terminalNodeText"])
    return str(text).strip("%`\"'")


def parse_unbounded(source: str) -> dict[str, Any]:
    """fhirpathpy's syntax tree of ``source``, with syntax errors raised as ExpressionInvalid."""
    try:
        parser = FHIRPathParser(_tokens(source))
        parser.removeErrorListeners()
        parser.addErrorListener(_Strict())
        tree = parser.entireExpression()
        listener = ASTPathListener()
        ParseTreeWalker().walk(listener, tree.expression())
    except RecognitionException:
        raise ExpressionInvalid("FHIRPATH_SYNTAX", "The FHIRPath does not parse.") from None
    except RecursionError:
        raise ExpressionInvalid("FHIRPATH_TOO_COMPLEX", "Simplify the FHIRPath: it is nested too deeply.") from None
    root: dict[str, Any] = listener.parentStack[0]
    _adapt(root)
    return root


def _adapt(root: dict[str, Any]) -> None:
    """Give three kinds of node names of our own, which ``bindings.steps`` knows.

    The engine reads the literal 1.0 as 1, so that 1.10 could lose its digits; and it knows no sort, whose keys may
    carry a minus before text. A member carries its name, so that nobody has to read it out again.
    """
    for node, _ in _walk({"type": "Root", **root}):
        if node["type"] == "NumberLiteral":
            node["type"] = "ExactNumberLiteral"
        elif node["type"] == "MemberInvocation":
            if node["children"][0]["type"] == "Identifier":
                node["type"], node["key"] = "Member", _name(node)
        elif node["type"] == "Functn" and _name(node) == "sort":
            for keys in node["children"][1:]:
                for key in keys.get("children", ()):
                    if key["type"] == "PolarityExpression" and key["terminalNodeText"] == ["-"]:
                        key["type"] = "DescendingKey"


@lru_cache(maxsize=4096)  # About 200 paths for each of 20 definitions that one process renders in turn.
def parse_expression(source: str) -> Expression:
    """Parse one path of a template within the bounds. Raises ExpressionInvalid naming the bound and the remedy."""
    if len(source) > MOST_CHARACTERS:
        raise ExpressionInvalid(
            "FHIRPATH_TOO_LONG", f"Shorten the FHIRPath to {MOST_CHARACTERS} characters or split it over bindings."
        )
    if _bracket_depth(source) > MOST_NESTING:
        raise ExpressionInvalid("FHIRPATH_TOO_COMPLEX", f"Nest brackets at most {MOST_NESTING} deep in a FHIRPath.")
    root = parse_unbounded(source)
    functions: set[str] = set()
    variables: set[str] = set()
    for count, (node, level) in enumerate(_walk({"type": "Root", **root})):
        if count > MOST_NODES or level > MOST_LEVELS:
            raise ExpressionInvalid(
                "FHIRPATH_TOO_COMPLEX", f"Simplify the FHIRPath: at most {MOST_NODES} nodes, {MOST_LEVELS} levels."
            )
        if node["type"] == "Functn":
            functions.add(_name(node))
        elif node["type"] == "ExternalConstant":
            variables.add(_name(node))
    forbidden = functions - ALLOWED_FUNCTIONS
    if forbidden:
        names = ", ".join(sorted(name[:40] for name in forbidden))
        raise ExpressionInvalid("FHIRPATH_FUNCTION", f"Templates may not call {names}; see docs/fhirpath.md.")
    return Expression(source, root["children"][0], frozenset(functions), frozenset(variables))
