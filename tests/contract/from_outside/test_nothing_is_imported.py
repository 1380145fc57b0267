"""This folder knows the product by its contract, and by nothing else."""

from __future__ import annotations

import ast
from pathlib import Path

PRODUCT = ("document_service", "document_client")


def test_nothing_of_the_product_is_imported() -> None:
    for path in Path(__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] in PRODUCT], path.name
