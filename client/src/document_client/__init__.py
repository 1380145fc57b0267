"""The offline client of the document service: a durable request queue, an encrypted cache and printing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import DocumentClient as DocumentClient
    from .queueing import Wish as Wish

__version__ = "0.1.0"
__all__ = ["DocumentClient", "Wish", "__version__"]


def __getattr__(name: str) -> Any:
    """Import the client when it is first used: `documents --help` must not wait for cryptography."""
    if name == "DocumentClient":
        from .client import DocumentClient

        return DocumentClient
    if name == "Wish":
        from .queueing import Wish

        return Wish
    raise AttributeError(name)
