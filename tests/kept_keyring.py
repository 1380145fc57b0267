"""A keyring for tests: the real library with a back-end that keeps secrets in a dictionary."""

from __future__ import annotations

from typing import Any

import pytest
from keyring.backend import KeyringBackend


def keep_in_keyring(monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> dict[Any, str]:
    """Give the keyring library a back-end that says it comes from ``module``."""
    kept: dict[Any, str] = {}

    class Backend(KeyringBackend):
        priority = 9  # type: ignore[assignment]

        def get_password(self, service: str, username: str) -> str | None:
            return kept.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None:
            kept[service, username] = password

        def delete_password(self, service: str, username: str) -> None:
            kept.pop((service, username))

    Backend.__module__, Backend.__name__ = module, name
    monkeypatch.setattr("keyring.core._keyring_backend", Backend())
    return kept
